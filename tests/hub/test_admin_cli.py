"""The command line over the operations: every command, what it prints, and what it refuses."""

import asyncio
import fcntl
import json
import os
import pty
import re
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import aiohttp
import click
import pytest

import hub.cli
from hub.options import members, parameters
from hub.rules import price_list
from hub.rules.money import dollars, micro_dollars
from hub.rules.tiers import LimitChanges, Limits, Tier, TierChanges
from hub.web.operations import OPERATIONS, keys
from tests.processes import Ran, agent, bearer, environment, run, serving

BOB = "bob@example.org"
PASSWORD = "correct horse"
WITH_PASSWORD = {"LMARENA_PASSWORD": PASSWORD}


async def ran(directory: Path, *arguments: str, **environ: str) -> str:
    """What a command that succeeds prints."""
    done = await run(directory, *arguments, **{"COLUMNS": "200", **environ})
    assert done.code == 0, done.err
    return done.out


async def answered(directory: Path, *arguments: str, **environ: str) -> Any:
    """What a command that succeeds prints with --json."""
    return json.loads(await ran(directory, *arguments, "--json", **environ))


def refused(done: Ran, *words: str) -> None:
    assert done.code != 0
    assert done.out == ""
    assert "Traceback" not in done.err
    assert all(word in " ".join(done.err.split()) for word in words), done.err


# --- on paper ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "micro"),
    [("2.50", 2_500_000), ("$0.1", 100_000), ("0", 0), ("0.000001", 1), (" 3 ", 3_000_000)],
)
def test_dollars_become_micro_dollars_exactly(text, micro):
    assert micro_dollars(text) == micro
    assert micro_dollars(dollars(micro)) == micro


@pytest.mark.parametrize(
    "text", ["", "two", "-1", "0.0000001", "NaN", "inf", "1e30", "9007199255", "1,5", "1 2"]
)
def test_what_is_no_exact_amount_is_refused(text):
    with pytest.raises(ValueError, match="dollar"):
        micro_dollars(text)


def test_changes_know_every_limit():
    assert LimitChanges.__struct_fields__ == Limits.__struct_fields__
    assert TierChanges.__struct_fields__ == Tier.__struct_fields__


def test_a_price_list_is_read_alike_from_csv_and_json():
    as_csv = "pattern,input,output,cached,image,from,own_workers\ngpt-4*,2.5,10,,0.1,2026-01-31,\nm,0.30,,,,,yes\n"
    as_json = '[{"pattern": "gpt-4*", "input": 2.5, "output": 10, "image": 0.1, "from": "2026-01-31"}, {"pattern": "m", "input": 0.30, "own_workers": true}]'
    expected = [
        {
            "pattern": "gpt-4*",
            "input": 2_500_000,
            "output": 10_000_000,
            "image": 100_000,
            "valid_from": 1_769_817_600,
        },
        {"pattern": "m", "input": 300_000, "own_workers": True},
    ]
    assert price_list.read(as_csv, as_csv=True) == expected
    assert price_list.read(as_json, as_csv=False) == expected


@pytest.mark.parametrize(
    ("text", "as_csv", "words"),
    [
        ("[]}", False, "Extra data"),
        ('{"pattern": "x"}', False, "a list"),
        ("[3]", False, "price 1: an object"),
        ('[{"pattern": "x"}, {"pattern": "y", "id": 1}]', False, "price 2: there is no 'id'"),
        ('[{"input": 0.00000001}]', False, "price 1: '1E-8' is finer"),
        ('[{"input": NaN}]', False, "price 1"),
        ("pattern,price\nx,1\n", True, "price 1: there is no 'price'"),
        ("pattern,from\nx,tomorrow\n", True, "price 1: 'tomorrow' is no day"),
        ("pattern\nx,1,2\n", True, "price 1: there is no 'too many columns'"),
        ("pattern,input\nx,two\n", True, "price 1: 'two' is no amount"),
    ],
)
def test_a_bad_price_list_is_refused_by_row(text, as_csv, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        price_list.read(text, as_csv=as_csv)


def test_options_are_the_members_of_the_body():
    command = click.Command("create", params=parameters(keys.NewKey))
    line = [
        *("--name", "x", "--model", "a", "--models", "b", "--endpoint", "models", "--admin"),
        *("--concurrent", "3", "--budget-per-day", "2.5", "--requests-per-day", "none"),
    ]
    values = command.make_context("create", line).params
    assert members(values) == {
        "name": "x",
        "scopes": {"models": ["a", "b"], "endpoints": ["models"], "admin": True},
        "limits": {"concurrent": 3, "budget_per_day": 2_500_000, "requests_per_day": None},
    }
    assert members(command.make_context("create", ["--name", "x"]).params) == {"name": "x"}


def test_every_operation_has_a_command():
    def commands(group: click.Group) -> set[str]:
        inner = (c for c in group.commands.values() if isinstance(c, click.Group))
        return {c.help or "" for c in group.commands.values()}.union(*map(commands, inner))

    told = commands(hub.cli.main)
    written_out = {"import_prices", "show_profile", "set_profile", "roll_back_profile"}
    silent = {o.name for o in OPERATIONS if o.summary not in told}
    assert silent == written_out


# --- every command -------------------------------------------------------------------------------


async def test_users_from_the_first_to_the_last_command(tmp_path):
    key = await ran(tmp_path, "init", "--admin-email", "Ada@Example.org", **WITH_PASSWORD)
    assert key.startswith("sk-lmb-")
    assert key.count("\n") == 1
    again = await run(tmp_path, "init", "--admin-email", BOB, **WITH_PASSWORD)
    refused(again, "has an administrator already")
    added = await ran(tmp_path, "user", "add", "--email", BOB, "--tier", "free")
    assert added == f"{BOB} has an account, with the tier free\n"
    assert (
        await ran(tmp_path, "user", "set-tier", BOB, "premium") == f"{BOB} has the tier premium\n"
    )
    assert await ran(tmp_path, "user", "set-role", BOB, "admin") == f"{BOB} has the role admin\n"
    assert await ran(tmp_path, "user", "disable", BOB) == f"{BOB} is disabled\n"
    shown = await ran(tmp_path, "user", "list")
    assert "ada@example.org" in shown
    assert "premium" in shown
    [_, bob] = await answered(tmp_path, "user", "list")
    assert (bob["tier"], bob["role"], bob["disabled"]) == ("premium", "admin", True)
    assert await ran(tmp_path, "user", "enable", bob["id"]) == f"{BOB} is enabled\n"
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    told = await ran(tmp_path, "user", "reset-password", BOB, "--password-file", "password")
    assert told == f"{BOB} has a new password\n"
    log = await ran(tmp_path, "audit-log")
    assert "users.change" in log
    assert PASSWORD not in log
    assert len(await answered(tmp_path, "audit-log", "--subject", BOB, "--count", "3")) == 3


async def test_a_password_is_not_asked_for_where_it_may_be_missing(tmp_path):
    await ran(tmp_path, "user", "add", "--email", BOB)
    for line in (("user", "reset-password", BOB), ("user", "add", "--email", "x@y", "--password")):
        refused(await run(tmp_path, *line), "--password-file", "LMARENA_PASSWORD")
    short = {"LMARENA_PASSWORD": "short"}
    refused(await run(tmp_path, "user", "reset-password", BOB, **short), "password", "8")


def test_a_password_is_asked_for_unseen_at_a_terminal(tmp_path):
    """And what is printed to standard output is the secret alone."""
    ours, theirs = pty.openpty()
    command = (sys.executable, "-m", "hub", "init", "--admin-email", BOB)
    # A session of its own takes the terminal as its own, where getpass looks first.
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
    ) as process:
        os.close(theirs)
        seen = b""
        for question in (b"Password", b"Repeat for confirmation"):
            while question not in seen:
                seen += os.read(ours, 1000)
            os.write(ours, f"{PASSWORD}\n".encode())
        out, _ = process.communicate(timeout=20)
    os.close(ours)
    assert process.returncode == 0
    assert re.fullmatch(r"sk-lmb-\w+\n", out)
    assert PASSWORD.encode() not in seen


async def test_keys_from_the_first_to_the_last_command(tmp_path):
    await ran(tmp_path, "user", "add", "--email", BOB)
    options = (
        *("--user", BOB, "--model", "gpt-*", "--model", "m", "--endpoint", "models"),
        *("--expires", "30d", "--own-workers-only", "--requests-per-minute", "5"),
        *("--budget-per-day", "2.50"),
    )
    made = await answered(tmp_path, "key", "create", "--name", "laptop", *options)
    [key] = await answered(tmp_path, "key", "list", "--user", BOB)
    assert key["scopes"] == {"models": ["gpt-*", "m"], "endpoints": ["models"]}
    assert key["limits"] == {"requests_per_minute": 5, "budget_per_day": 2_500_000}
    assert key["own_workers_only"] is True
    assert abs(key["expires_at"] - time.time() - 30 * 86_400) < 60
    told = await ran(
        tmp_path,
        "key",
        "set-limits",
        made["id"],
        "--requests-per-minute",
        "none",
        "--concurrent",
        "2",
    )
    assert told == "laptop: concurrent 2, budget per day $2.50\n"
    new = await ran(tmp_path, "key", "rotate", made["id"], "--overlap", "1h")
    assert new.startswith("sk-lmb-")
    refused(await run(tmp_path, "key", "rotate", made["id"]), "is followed by")
    old, _ = await answered(tmp_path, "key", "list")
    assert abs(old["expires_at"] - time.time() - 3_600) < 60
    shown = await ran(tmp_path, "key", "list")
    assert "models gpt-*, m" in shown
    assert "$2.50" in shown
    assert await ran(tmp_path, "key", "revoke", made["id"]) == f"revoked {made['id']}\n"


async def test_worker_tokens_from_the_first_to_the_last_command(tmp_path):
    await ran(tmp_path, "user", "add", "--email", BOB)
    options = ("--user", BOB, "--shared", "--models", "gpt-*", "--slots", "3", "--trusted")
    made = await answered(tmp_path, "worker-token", "create", "--name", "tab", *options)
    [token] = await answered(tmp_path, "worker-token", "list", "--user", BOB)
    assert (token["shared"], token["trusted"], token["slots"]) == (True, True, 3)
    assert token["models"] == ["gpt-*"]
    assert "gpt-*" in await ran(tmp_path, "worker-token", "list")
    assert await ran(tmp_path, "worker-token", "revoke", made["id"]) == f"revoked {made['id']}\n"


async def test_tiers_from_the_first_to_the_last_command(tmp_path):
    told = await ran(tmp_path, "tier", "set", "free", "--concurrent", "none", "--priority", "1")
    assert told.startswith("free: requests per minute 10,")
    assert "concurrent" not in told
    assert "priority 1" in told
    told = await ran(tmp_path, "tier", "set", "family", "--budget-per-month", "10")
    assert told == "family: budget per month $10.00\n"
    names = [tier["name"] for tier in await answered(tmp_path, "tier", "list")]
    assert names == ["family", "free", "premium", "enterprise"]
    assert "budget per month $10.00" in await ran(tmp_path, "tier", "list")


async def test_prices_from_the_first_to_the_last_command(tmp_path):
    options = ("--input", "2.50", "--output", "$10", "--cached", "1.25", "--from", "2026-01-31")
    told = await ran(tmp_path, "price", "set", "gpt-4*", *options)
    assert told == "price 1 for gpt-4*\n"
    (tmp_path / "prices.csv").write_text("pattern,input,image\nm,0.1,0.05\nn,,1\n")
    assert await ran(tmp_path, "price", "import", "prices.csv") == "prices added: 2\n"
    (tmp_path / "prices.json").write_text('[{"pattern": "o", "own_workers": true}]')
    assert await ran(tmp_path, "price", "import", "prices.json") == "prices added: 1\n"
    [first, *_] = await answered(tmp_path, "price", "list")
    assert first["price"] == {
        "pattern": "gpt-4*",
        "input": 2_500_000,
        "output": 10_000_000,
        "cached": 1_250_000,
        "image": 0,
        "valid_from": 1_769_817_600,
        "own_workers": False,
    }
    shown = await ran(tmp_path, "price", "list")
    assert "$1.25" in shown
    assert "$0.05" in shown
    assert await ran(tmp_path, "price", "remove", "1") == "removed price 1\n"
    (tmp_path / "prices.csv").write_text("pattern,price\nm,1\n")
    refused(await run(tmp_path, "price", "import", "prices.csv"), "prices.csv", "no 'price'")
    assert len(await answered(tmp_path, "price", "list")) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("price set x --input 0.0000001", "finer than a millionth"),
        ("price set x --from someday", "neither a day"),
        ("key create --name x --expires soon", "neither a day"),
        ("key create --name x --expires 2020-01-01", "this moment is over"),
        ("key create --name x --endpoint kitchen", "chat.completions"),
        ("key create --name x --concurrent -1", "-1"),
        ("key create --name x --user nobody@example.org", "no user"),
        ("key create --name x --own-workers-only", "needs a user"),
        ("key rotate x --overlap 1y", "no length of time"),
        ("tier set free --priority 10", "0<=x<=9"),
        ("tier set Free", "name"),
        ("user add --email nobody", "email"),
        ("user set-role nobody king", "king"),
        ("user disable nobody", "no user"),
        ("audit-log --count 0", "1<=x<=10000"),
    ],
)
async def test_a_mistake_is_a_sentence(tmp_path, line, words):
    refused(await run(tmp_path, *line.split()), words)


async def test_what_others_named_is_no_command_to_the_terminal(tmp_path):
    await ran(tmp_path, "key", "create", "--name", "\x1b[2J[bold]mine\x9b")
    [key] = await answered(tmp_path, "key", "list")
    for shown in (
        await ran(tmp_path, "key", "list"),
        await ran(tmp_path, "key", "set-limits", key["id"], "--concurrent", "1"),
    ):
        assert "\ufffd[2J[bold]mine\ufffd" in shown
        assert "\x1b" not in shown


# --- beside a running hub ------------------------------------------------------------------------


async def test_what_a_command_changes_holds_at_once_in_the_running_hub(tmp_path):
    async with serving(tmp_path) as hub, aiohttp.ClientSession(hub.url) as session:

        async def asked(key: str) -> aiohttp.ClientResponse:
            async with session.get("/v1/models", headers=bearer(key)) as answer:
                await answer.read()
                return answer

        await ran(tmp_path, "user", "add", "--email", BOB)
        key = (await ran(tmp_path, "key", "create", "--name", "x", "--user", BOB)).strip()
        assert (await asked(key)).headers["x-ratelimit-limit-requests"] == "10"
        await ran(tmp_path, "user", "set-tier", BOB, "premium")
        assert (await asked(key)).headers["x-ratelimit-limit-requests"] == "60"
        await ran(tmp_path, "tier", "set", "premium", "--requests-per-minute", "7")
        assert (await asked(key)).headers["x-ratelimit-limit-requests"] == "7"
        await ran(tmp_path, "user", "disable", BOB)
        assert (await asked(key)).status == 403
        lines = await answered(tmp_path, "audit-log", "--action", "users.")
        assert {(line["actor"], line["address"]) for line in lines} == {("command line", "")}


async def test_disabling_a_user_sends_their_agent_away_for_good(tmp_path):
    async with serving(tmp_path) as hub:
        await ran(tmp_path, "user", "add", "--email", BOB)
        made = await ran(tmp_path, "worker-token", "create", "--name", "tab", "--user", BOB)
        async with agent(hub, token=made.strip()) as worker:
            await ran(tmp_path, "user", "disable", BOB)
            await worker.said("4501")
            assert await worker.process.wait() == 1


async def test_two_command_lines_that_race_while_the_hub_runs_both_hear_the_truth(tmp_path):
    async with serving(tmp_path):
        add = ("user", "add", "--email", BOB)
        init = ("init", "--admin-email", "ada@example.org", "--admin-password", PASSWORD)
        for line in (add, init):
            first, second = await asyncio.gather(run(tmp_path, *line), run(tmp_path, *line))
            assert sorted((first.code, second.code)) == [0, 1]
            refused(first if first.code else second, "already")
        key = await answered(tmp_path, "key", "create", "--name", "x")
        rotations = await asyncio.gather(
            *(run(tmp_path, "key", "rotate", key["id"]) for _ in range(3))
        )
        assert sorted(done.code for done in rotations) == [0, 1, 1]
        assert len(await answered(tmp_path, "key", "list")) == 3
        await asyncio.gather(
            ran(tmp_path, "tier", "set", "free", "--concurrent", "77"),
            ran(tmp_path, "tier", "set", "free", "--requests-per-day", "78"),
        )
        [free, *_] = await answered(tmp_path, "tier", "list")
        assert (free["limits"]["concurrent"], free["limits"]["requests_per_day"]) == (77, 78)
