"""One settings object, from `hub.toml`, `.env`, `HUB_*` and the command line, in that order."""

from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from hub.settings import (
    LISTS,
    SECRET,
    Origin,
    Settings,
    SettingsError,
    explain,
    field_paths,
    load,
    strangers,
)


def read(directory: Path, overrides: dict[str, Any] | None = None, **environ: str) -> Settings:
    return load(overrides, environ=environ, directory=directory)


def toml(directory: Path, text: str) -> None:
    (directory / "hub.toml").write_text(text, encoding="utf-8")


def dotenv(directory: Path, text: str) -> None:
    (directory / ".env").write_text(text, encoding="utf-8")


def test_without_anything_the_defaults_hold(tmp_path):
    settings = read(tmp_path)
    assert settings == Settings()
    assert (settings.host, settings.port, settings.data) == ("127.0.0.1", 8080, Path("data"))
    assert settings.deadlines.queue_s == 60
    assert settings.synchronous == "FULL"


def test_hub_toml_sets_fields_and_leaves_the_rest(tmp_path):
    toml(tmp_path, 'port = 9000\n[deadlines]\nqueue_s = 5\n[workers]\norigins = ["https://a"]')
    settings = read(tmp_path)
    assert (settings.port, settings.deadlines.queue_s) == (9000, 5)
    assert settings.workers.origins == ["https://a"]
    assert settings.host == Settings().host
    assert settings.deadlines.absent_s == Settings().deadlines.absent_s


def test_dotenv_sets_fields(tmp_path):
    dotenv(tmp_path, "HUB_PORT=9001\nHUB_LOG_LEVEL='debug'\n# a comment\nOTHER=x\n")
    settings = read(tmp_path)
    assert (settings.port, settings.log.level) == (9001, "debug")


def test_the_environment_sets_fields_also_in_sections(tmp_path):
    environ = {"HUB_PORT": "9002", "HUB_DEADLINES_QUEUE_S": "1.5", "HUB_DEBUG": "true"}
    settings = read(tmp_path, **environ)
    assert (settings.port, settings.deadlines.queue_s, settings.debug) == (9002, 1.5, True)
    assert settings.log_level == "debug"


def test_a_list_in_the_environment_is_divided_by_commas(tmp_path):
    settings = read(tmp_path, HUB_WORKERS_ORIGINS="https://a, https://*.b ,")
    assert settings.workers.origins == ["https://a", "https://*.b"]


def test_every_list_can_come_from_the_environment():
    lists = [
        path
        for path in field_paths(Settings)
        if isinstance(reduce(getattr, path, Settings()), list)
    ]
    assert {path[-1] for path in lists} == set(LISTS)


def test_every_setting_can_come_from_the_environment():
    names = ["_".join(path) for path in field_paths(Settings)]
    assert len(names) == len(set(names)) > 30


@pytest.mark.parametrize("sources", range(5))
def test_later_sources_win(tmp_path, sources):
    if sources >= 1:
        toml(tmp_path, "port = 1\n[line]\nmax_waiting = 1")
    if sources >= 2:
        dotenv(tmp_path, "HUB_PORT=2\nHUB_LINE_MAX_WAITING=2\n")
    environ = {"HUB_PORT": "3", "HUB_LINE_MAX_WAITING": "3"} if sources >= 3 else {}
    overrides = {"port": 4, "line": {"max_waiting": 4}} if sources >= 4 else None
    settings = read(tmp_path, overrides, **environ)
    assert settings.port == [8080, 1, 2, 3, 4][sources]
    assert settings.line.max_waiting == [1000, 1, 2, 3, 4][sources]


def test_a_relative_file_in_another_directory_is_not_read(tmp_path):
    toml(tmp_path, "port = 1")
    (tmp_path / "inside").mkdir()
    assert read(tmp_path / "inside").port == 8080


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("prot = 1", "prot"),
        ("[deadlines]\nqueue = 1", "queue"),
        ("[dedlines]\nqueue_s = 1", "dedlines"),
        ('port = "many"', "port"),
        ("port = 65536", "port"),
        ("[deadlines]\nqueue_s = -1", "deadlines.queue_s"),
        ("[deadlines]\nqueue_s = nan", "deadlines.queue_s"),
        ("[workers]\nheartbeat_s = 0", "workers.heartbeat_s"),
        ('[log]\nlevel = "loud"', "log.level"),
        ("deadlines = 1", "deadlines"),
    ],
)
def test_a_mistake_in_hub_toml_names_the_file_and_the_key(tmp_path, text, key):
    toml(tmp_path, text)
    with pytest.raises(SettingsError) as mistake:
        read(tmp_path)
    assert str(tmp_path / "hub.toml") in str(mistake.value)
    assert key in str(mistake.value)


def test_broken_toml_names_the_file_and_the_line(tmp_path):
    toml(tmp_path, "port = 1\nhost = = 2\n")
    with pytest.raises(SettingsError, match=r"hub\.toml.*line 2"):
        read(tmp_path)


def test_a_bad_value_in_dotenv_names_the_file_and_the_key(tmp_path):
    dotenv(tmp_path, "HUB_PORT=many")
    with pytest.raises(SettingsError, match=r"\.env, line 1: .*port"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("HUB_PORT", "many", "port"),
        ("HUB_PORT", "", "port"),
        ("HUB_DEADLINES_QUEUE_S", "soon", "deadlines.queue_s"),
        ("HUB_DEADLINES_QUEUE_S", "nan", "deadlines.queue_s"),
        ("HUB_DEBUG", "perhaps", "debug"),
        ("HUB_SYNCHRONOUS", "OFF", "synchronous"),
    ],
)
def test_a_bad_value_in_the_environment_names_its_source_and_the_key(tmp_path, name, value, key):
    with pytest.raises(SettingsError) as mistake:
        read(tmp_path, **{name: value})
    assert "the environment" in str(mistake.value)
    assert key in str(mistake.value)


@pytest.mark.parametrize("overrides", [{"prot": 1}, {"port": -1}, {"line": {"most": 1}}])
def test_a_mistake_on_the_command_line_says_so(tmp_path, overrides):
    with pytest.raises(SettingsError, match="the command line"):
        read(tmp_path, overrides)


@pytest.mark.parametrize("name", ["tls_cert", "tls_key"])
def test_a_certificate_and_its_key_go_together(tmp_path, name):
    with pytest.raises(SettingsError, match="tls_cert and tls_key"):
        read(tmp_path, {name: "file.pem"})


def test_a_certificate_with_its_key_is_fine(tmp_path):
    assert read(tmp_path, {"tls_cert": "c.pem", "tls_key": "k.pem"}).tls_key == "k.pem"


@pytest.mark.parametrize(
    "url", ["hub.example.org", "ftp://hub", "https://", "javascript:alert(1)", "//hub"]
)
def test_a_public_url_that_is_none_is_refused(tmp_path, url):
    with pytest.raises(SettingsError, match="public_url"):
        read(tmp_path, HUB_PUBLIC_URL=url)


@pytest.mark.parametrize("url", ["", "https://hub.example.org", "http://[::1]:8080/behind/"])
def test_a_public_url_may_have_a_port_and_a_path(tmp_path, url):
    assert read(tmp_path, HUB_PUBLIC_URL=url).public_url == url


def test_settings_cannot_change_afterwards(tmp_path):
    with pytest.raises(AttributeError):
        read(tmp_path).port = 1  # type: ignore[misc]


# --- where it stands, and where it comes from ----------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# a comment\n\nprot = 1\n", 3),
        ("[deadlines]\nqueue_s = 1\n\nqueue = 1\n", 4),
        ("port = 1\n[log]\n  level = 'loud'\n", 3),
        ("port = 1\n[dedlines]\nqueue_s = 1\n", 2),
        ("host = 'x'\ndeadlines.queue_s = -1\n", 2),
        ("port = 1\n\n[workers]\norigins = [\n  1,\n]\n", 4),
        ("deadlines = 1\n", 1),
    ],
)
def test_a_mistake_in_hub_toml_names_the_line(tmp_path, text, line):
    toml(tmp_path, text)
    with pytest.raises(SettingsError, match=rf"hub\.toml, line {line}:"):
        read(tmp_path)


def test_a_mistake_in_dotenv_names_the_line(tmp_path):
    dotenv(tmp_path, "# mine\nHUB_PORT=8080\nexport HUB_DEADLINES_QUEUE_S=soon\n")
    with pytest.raises(SettingsError, match=r"\.env, line 3: .*deadlines\.queue_s"):
        read(tmp_path)


def test_an_unknown_name_in_dotenv_is_a_mistake_and_in_the_environment_is_told(tmp_path):
    dotenv(tmp_path, "OTHER=1\nHUB_PROT=1\n")
    with pytest.raises(SettingsError, match=r"\.env, line 2: there is no setting HUB_PROT"):
        read(tmp_path)
    environ = {"HUB_PROT": "1", "HUB_PORT": "1", "PATH": "x"}
    assert strangers(environ) == ["HUB_PROT"]


def test_a_mistake_in_the_environment_names_the_variable(tmp_path):
    with pytest.raises(SettingsError, match="the environment, HUB_DEADLINES_QUEUE_S: "):
        read(tmp_path, HUB_DEADLINES_QUEUE_S="soon")


def test_every_setting_tells_its_value_and_its_source(tmp_path):
    toml(tmp_path, "port = 1\n[deadlines]\nqueue_s = 5\noffer_s = 6\n")
    dotenv(tmp_path, "\nHUB_DEADLINES_OFFER_S=7\n")
    told = explain({"host": "::1"}, environ={"HUB_PORT": "2"}, directory=tmp_path)
    assert [origin.name for origin in told] == [".".join(path) for path in field_paths(Settings)]
    by_name = {origin.name: origin for origin in told}
    assert by_name["port"] == Origin("port", 2, "the environment, HUB_PORT")
    assert by_name["host"].source == "the command line"
    assert by_name["deadlines.queue_s"].source == f"{tmp_path / 'hub.toml'}, line 3"
    assert by_name["deadlines.offer_s"] == Origin(
        "deadlines.offer_s", 7.0, f"{tmp_path / '.env'}, line 2"
    )
    assert by_name["debug"] == Origin("debug", False, "default")


def test_behind_passenger_other_defaults_hold_and_the_operator_has_the_last_word(tmp_path):
    toml(tmp_path, "[hosting]\nidle_end_s = 5")
    settings = read(tmp_path, HUB_HOSTING_KIND="shared")
    assert settings.workers.wait_s == 0
    assert settings.trusted_proxies == ["unix"]
    assert (settings.hosting.idle_end_s, settings.hosting.max_callers) == (5, 4)
    told = explain(environ={"HUB_HOSTING_KIND": "shared"}, directory=tmp_path)
    sources = {origin.name: origin.source for origin in told}
    assert sources["workers.wait_s"] == "default for shared hosting"
    assert sources["hosting.idle_end_s"].endswith("hub.toml, line 2")
    assert sources["deadlines.queue_s"] == "default"


def test_a_secret_is_not_told(tmp_path):
    told = explain(environ={"HUB_SECRET_KEY": "of sixteen or more"}, directory=tmp_path)
    [secret] = [origin for origin in told if origin.name == "secret_key"]
    assert secret == Origin("secret_key", "(not shown)", "the environment, HUB_SECRET_KEY")
    assert "sixteen" not in str(told)


@pytest.mark.parametrize(
    ("name", "secret"),
    [("secret_key", True), ("smtp_password", True), ("bot_token", True), ("answer_tokens", False)],
)
def test_secrets_are_known_by_their_names(name, secret):
    assert bool(SECRET.search(name)) is secret


def test_secrets_are_not_printed_with_the_settings(tmp_path):
    secret = "a secret that nobody may read"
    loaded = load({"secret_key": secret}, environ={}, directory=tmp_path)
    assert loaded.secret_key == secret
    assert secret not in f"{loaded} {loaded!r}"
    with pytest.raises(SettingsError) as refused:
        load({}, environ={"HUB_SECRET_KEY": secret, "HUB_PORT": "x"}, directory=tmp_path)
    assert secret not in str(refused.value)
