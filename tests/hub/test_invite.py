"""`lmarena-hub user invite`: a link, printed once, that makes one account."""

import json
import time

import aiohttp
import pytest

from tests.people import Person
from tests.processes import run, serving

INVITE = ("user", "invite", "--email", "ben@example.org", "--tier", "premium")


async def test_the_link_that_is_printed_makes_an_account(tmp_path):
    async with serving(tmp_path) as hub:
        made = await run(tmp_path, *INVITE)
        assert made.code == 0, made.err
        path = made.out.strip()
        assert path.startswith("/invitation/in-lmb-")
        assert "public_url" in made.err
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as http:
            ben = Person(hub, http)
            assert (await ben.choose(path)).status == 303
            assert await ben.who() == "ben@example.org"
        again = await run(tmp_path, *INVITE)
        assert again.code == 1
        assert "ben@example.org" in again.err


@pytest.mark.parametrize("runs", [True, False])
async def test_with_a_public_address_the_link_is_whole(tmp_path, runs):
    (tmp_path / "hub.toml").write_text('public_url = "https://hub.example.org/base/"\n')
    if runs:
        async with serving(tmp_path):
            made = await run(tmp_path, *INVITE, "--expires", "2h", "--role", "admin", "--json")
    else:
        made = await run(tmp_path, *INVITE, "--expires", "2h", "--role", "admin", "--json")
    link = json.loads(made.out)
    assert link["url"] == "https://hub.example.org/base" + link["path"]
    assert abs(link["expires_at"] - time.time() - 7200) < 60
    listed = await run(tmp_path, "user", "invitations", "--json")
    [invitation] = json.loads(listed.out)
    assert (invitation["role"], invitation["tier"]) == ("admin", "premium")
    assert link["path"].rpartition("-")[2] not in listed.out


async def test_an_invitation_can_be_revoked(tmp_path):
    made = json.loads((await run(tmp_path, *INVITE, "--json")).out)
    gone = await run(tmp_path, "user", "revoke-invitation", made["id"])
    assert (gone.code, gone.out.strip()) == (0, f"revoked {made['id']}")
    assert (await run(tmp_path, "user", "revoke-invitation", made["id"])).code == 1
    assert json.loads((await run(tmp_path, "user", "invitations", "--json")).out) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--email", "nobody", "--tier", "free"), "email"),
        (("--email", "a@b", "--tier", "golden"), "golden"),
        (("--email", "a@b", "--tier", "free", "--expires", "soon"), "soon"),
        (("--email", "a@b", "--tier", "free", "--expires", "2020-01-01"), "expires"),
        (("--email", "a@b", "--tier", "free", "--role", "king"), "king"),
    ],
)
async def test_a_bad_invitation_is_a_sentence(tmp_path, words, told):
    refused = await run(tmp_path, "user", "invite", *words)
    assert refused.code in (1, 2)
    assert told in refused.err
    assert "Traceback" not in refused.err
    assert refused.out == ""
