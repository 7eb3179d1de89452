"""One settings object, from `hub.toml`, `.env`, `HUB_*` and the command line, in that order."""

from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from hub.settings import LISTS, Settings, SettingsError, field_paths, load


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
    with pytest.raises(SettingsError, match=r"\.env: .*port"):
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
