"""People sign in, sign out, accept invitations, change passwords; and what keeps others from it."""

import asyncio
import contextlib
import time
from itertools import pairwise

import pytest
import trustme

from hub.errors import SignInRefused
from hub.live import sign_in as rooms
from hub.live.throttle import KNOWN, Throttle
from hub.rules.passwords import hash_password, verify_password
from hub.rules.window import Limit
from hub.store.audit import Actor
from hub.store.sessions import MOST, Visitor
from hub.web.sign_in import local_path
from tests.doors import send
from tests.people import PASSWORD, new_invitation, new_user, person

HERE = Visitor("192.0.2.1", "a browser")


async def audit(hub, beginning: str = "sign_in.") -> list[tuple[str, str, str, str]]:
    """Lines of the audit log, the oldest first: actor, action, subject, detail."""
    await hub.rows()
    acts = await hub.hub.store.audit_log.latest(1000, action=beginning)
    return [(act.actor, act.action, act.subject, act.detail) for act in reversed(acts)]


def refused(reply) -> bytes:
    """The page of a refused sign-in."""
    assert reply.status == 401
    assert b'role="alert"' in reply.body
    assert "Set-Cookie" not in reply.headers
    return reply.body


# --- signing in and out ----------------------------------------------------------------------------------


async def test_two_people_sign_in_and_each_is_who_they_are(hub):
    await new_user(hub)
    await new_user(hub, "root@example.org", "another long password", role="admin")
    async with person(hub) as ann, person(hub) as admin:
        assert await ann.who() == ""
        entered = await ann.sign_in()
        assert (entered.status, entered.headers["Location"]) == (303, "./")
        await admin.sign_in("root@example.org", "another long password")
        assert await ann.who() == "ann@example.org"
        assert await admin.who() == "root@example.org"
        assert b"administrator" in (await admin.get("/")).body
        assert b"administrator" not in (await ann.get("/")).body


async def test_an_address_is_the_same_in_any_case(hub):
    await new_user(hub)
    async with person(hub) as ann:
        assert (await ann.sign_in(" ANN@Example.org ")).status == 303
        assert await ann.who() == "ann@example.org"


async def test_signing_out_ends_the_session_and_not_only_the_cookie(hub):
    await new_user(hub)
    async with person(hub) as ann:
        await ann.sign_in()
        secret = ann.secret
        left = await ann.post("/sign-out")
        assert left.status == 303
        assert ann.secret == ""
        assert await ann.who() == ""
        assert await hub.hub.store.sessions.find(secret) is None


async def test_who_is_signed_in_need_not_sign_in_again(hub):
    await new_user(hub)
    async with person(hub) as ann:
        await ann.sign_in()
        shown = await ann.get("/sign-in?next=/password")
        assert (shown.status, shown.headers["Location"]) == (303, "./password")


async def test_a_made_up_or_broken_cookie_is_nobody(hub):
    await new_user(hub)
    async with person(hub) as ann:
        for value in ("", "ss-lmb-", "ss-lmb-" + "0" * 48, "a; b; =", '"', "x" * 4000, "é"):
            shown = await ann.get("/", Cookie=f"lmarena-session={value}")
            assert shown.status == 200
            assert b'class="who">' not in shown.body.replace(b'<a class="who"', b"")


# --- the same for whoever is refused ---------------------------------------------------------------------


async def test_nobody_learns_why_a_sign_in_is_refused(hub):
    """Unknown, wrong, disabled, without a password: one page, and one comparison each."""
    await new_user(hub)
    await new_user(hub, "gone@example.org")
    await hub.hub.store.users.set_disabled("gone@example.org", True, Actor("test"))
    await new_user(hub, "new@example.org", None)
    pages = set()
    compared = [hub.hub.sign_in.compared]
    async with person(hub) as somebody:
        for email, password in (
            ("nobody@example.org", PASSWORD),
            ("ann@example.org", "wrong password"),
            ("ann@example.org", ""),
            ("gone@example.org", PASSWORD),
            ("gone@example.org", "wrong password"),
            ("new@example.org", PASSWORD),
            ("new@example.org", ""),
        ):
            page = refused(await somebody.sign_in(email, password))
            pages.add(page.replace(email.encode(), b"EMAIL"))
            compared.append(hub.hub.sign_in.compared)
    assert len(pages) == 1
    assert [after - before for before, after in pairwise(compared)] == [1] * 7


async def test_refusals_are_in_the_audit_log_with_address_and_reason(hub):
    await new_user(hub)
    async with person(hub) as somebody:
        await somebody.sign_in("nobody@example.org")
        await somebody.sign_in(password="wrong password")
        await somebody.sign_in("my secret in the wrong field", "x")
        await somebody.sign_in()
    assert await audit(hub) == [
        ("visitor", "sign_in.refused", "nobody@example.org", "unknown account"),
        ("visitor", "sign_in.refused", "ann@example.org", "wrong password"),
        ("visitor", "sign_in.refused", "", "unknown account"),
        (
            "ann@example.org",
            "sign_in.accepted",
            (await hub.hub.store.users.find("ann@example.org")).id,
            "",
        ),
    ]
    assert {act.address for act in await hub.hub.store.audit_log.latest(9, action="sign_in.")} == {
        "127.0.0.1"
    }


# --- throttled -------------------------------------------------------------------------------------------


async def test_an_account_is_throttled_wherever_the_tries_come_from(start_hub):
    hub = await start_hub(sign_in={"per_account": 3}, trusted_proxies=["127.0.0.1"])
    await new_user(hub)
    async with person(hub) as somebody:
        for number in range(3):
            wrong = await somebody.sign_in(password="wrong", X_Forwarded_For=f"198.51.100.{number}")
            refused(wrong)
        compared = hub.hub.sign_in.compared
        again = await somebody.sign_in(X_Forwarded_For="198.51.100.77")
        assert again.status == 429, "even with the right password"
        assert 800 < int(again.headers["Retry-After"]) <= 900
        assert hub.hub.sign_in.compared == compared, "nothing was compared"
        other = await somebody.sign_in("other@example.org", X_Forwarded_For="198.51.100.77")
        assert other.status == 401
    assert ("visitor", "sign_in.throttled", "ann@example.org", "by account") in await audit(hub)


async def test_an_unknown_account_is_throttled_like_a_known_one(start_hub):
    hub = await start_hub(sign_in={"per_account": 2})
    await new_user(hub)
    pages = []
    async with person(hub) as somebody:
        for email in ("ann@example.org", "nobody@example.org"):
            replies = [await somebody.sign_in(email, "wrong") for _ in range(3)]
            assert [reply.status for reply in replies] == [401, 401, 429]
            pages.append(replies[2].body.replace(email.encode(), b"EMAIL"))
    assert pages[0] == pages[1]


async def test_an_address_is_throttled_whatever_account_it_tries(start_hub):
    hub = await start_hub(sign_in={"per_address": 3}, trusted_proxies=["127.0.0.1"])
    await new_user(hub)
    async with person(hub) as somebody, person(hub) as ann:
        for number in range(3):
            refused(await somebody.sign_in(f"{number}@example.org", X_Forwarded_For="198.51.100.1"))
        assert (await somebody.sign_in(X_Forwarded_For="198.51.100.1")).status == 429
        assert (await ann.sign_in(X_Forwarded_For="198.51.100.2")).status == 303


async def test_a_household_of_ipv6_is_one_address(start_hub):
    hub = await start_hub(sign_in={"per_address": 2}, trusted_proxies=["127.0.0.1"])
    async with person(hub) as somebody:
        for number in range(2):
            refused(await somebody.sign_in(f"{number}@a.b", X_Forwarded_For=f"2001:db8::{number}"))
        assert (await somebody.sign_in("3@a.b", X_Forwarded_For="2001:db8::ffff:9")).status == 429
        assert (await somebody.sign_in("4@a.b", X_Forwarded_For="2001:db8:0:1::9")).status == 401


async def test_a_header_of_somebody_untrusted_does_not_change_the_address(start_hub):
    hub = await start_hub(sign_in={"per_address": 2})
    async with person(hub) as somebody:
        for number in range(2):
            refused(await somebody.sign_in(f"{number}@a.b", X_Forwarded_For=f"198.51.100.{number}"))
        assert (await somebody.sign_in("3@a.b", X_Forwarded_For="198.51.100.9")).status == 429


async def test_many_at_once_are_no_more_than_one_after_the_other(start_hub):
    hub = await start_hub(sign_in={"per_account": 3})
    await new_user(hub)
    async with person(hub) as somebody:
        tries = [somebody.sign_in(password="wrong") for _ in range(12)]
        statuses = sorted(reply.status for reply in await asyncio.gather(*tries))
    assert statuses == [401] * 3 + [429] * 9
    assert hub.hub.sign_in.compared == 3


async def test_only_refused_sign_ins_count(start_hub):
    hub = await start_hub(sign_in={"per_account": 2, "per_address": 2})
    await new_user(hub)
    async with person(hub) as ann:
        assert [(await ann.sign_in()).status for _ in range(5)] == [303] * 5


async def test_a_throttle_ends_with_its_window(start_hub):
    hub = await start_hub(sign_in={"per_account": 1, "window_s": 0.4})
    await new_user(hub)
    async with person(hub) as ann:
        refused(await ann.sign_in(password="wrong"))
        waited = await ann.sign_in()
        while waited.status == 429:
            assert 0 < int(waited.headers["retry-after-ms"]) <= 400
            await asyncio.sleep(int(waited.headers["retry-after-ms"]) / 1000)
            waited = await ann.sign_in()
        assert waited.status == 303


def test_a_throttle_knows_a_bounded_number_of_names():
    throttle = Throttle(Limit(60, 1))
    for number in range(KNOWN + 500):
        throttle.count(str(number), 1.0)
    assert len(throttle) == KNOWN
    assert throttle.wait(str(KNOWN + 499), 2.0) == 59.0


def test_a_forgiven_try_makes_room_for_another():
    throttle = Throttle(Limit(60, 2))
    throttle.count("a", 1.0)
    throttle.count("a", 2.0)
    throttle.forgive("a", 1.0)
    assert throttle.wait("a", 3.0) == 0.0
    throttle.count("a", 3.0)
    assert throttle.wait("a", 3.0) == 59.0


async def test_a_flood_leaves_a_bounded_number_of_lines(start_hub):
    hub = await start_hub(sign_in={"per_account": 1})
    async with person(hub) as somebody:
        refused(await somebody.sign_in("victim@example.org"))
        for _ in range(4):
            flood = [somebody.sign_in("victim@example.org") for _ in range(50)]
            assert {reply.status for reply in await asyncio.gather(*flood)} == {429}
        assert len(await audit(hub)) == 1 + rooms.WRITTEN.most


async def test_old_lines_of_sign_ins_make_room_and_others_stay(hub):
    log = hub.hub.store.audit_log
    for number in range(20):
        await log.write(Actor("visitor"), "sign_in.refused", f"{number}@a.b")
        await log.write(Actor("root"), "users.change", str(number))
    await log.prune("sign_in.", 5)
    assert [line[2] for line in await audit(hub)] == [f"{number}@a.b" for number in range(15, 20)]
    assert len(await audit(hub, "users.")) == 20


async def test_a_flood_of_sign_ins_waits_in_a_short_line_and_the_hub_goes_on(start_hub):
    hub = await start_hub(sign_in={"per_account": 1000, "per_address": 1000})
    async with person(hub) as somebody:
        flood = [asyncio.create_task(somebody.sign_in(f"{n}@a.b")) for n in range(80)]
        while not hub.hub.sign_in.compared:
            assert (await send(hub, method="GET", path="/healthz")).status == 200
        replies = await asyncio.gather(*flood)
    statuses = [reply.status for reply in replies]
    assert set(statuses) == {401, 429}
    assert statuses.count(401) >= rooms.MOST_WAITING
    assert hub.hub.sign_in.compared == statuses.count(401)


# --- the cookie ------------------------------------------------------------------------------------------


def flags(reply) -> tuple[str, set[str]]:
    """The name of the cookie that is set, and its attributes."""
    [header] = reply.headers.getall("Set-Cookie")
    pair, *attributes = header.split("; ")
    return pair.partition("=")[0], set(attributes)


async def test_over_http_the_cookie_has_a_plain_name(hub):
    await new_user(hub)
    async with person(hub) as ann:
        name, attributes = flags(await ann.sign_in())
    assert name == "lmarena-session"
    assert attributes == {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=1209600"}


async def test_over_https_the_cookie_is_bound_to_the_host(start_hub, tmp_path):
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    tls = {"tls_cert": str(tmp_path / "cert.pem"), "tls_key": str(tmp_path / "key.pem")}
    hub = await start_hub(**tls)
    await new_user(hub)
    async with person(hub) as ann:
        name, attributes = flags(await ann.sign_in())
        assert name == "__Host-lmarena-session"
        assert attributes == {"HttpOnly", "SameSite=Lax", "Path=/", "Secure", "Max-Age=1209600"}
        assert await ann.who() == "ann@example.org"
        name, attributes = flags(await ann.post("/sign-out"))
        assert name == "__Host-lmarena-session"
        assert {"Max-Age=0", "Secure", "Path=/"} <= attributes


async def test_behind_a_trusted_proxy_its_scheme_counts(start_hub):
    hub = await start_hub(trusted_proxies=["127.0.0.1"], public_url="https://hub.example.org")
    await new_user(hub)
    async with person(hub) as ann:
        ann.headers["Origin"] = "https://hub.example.org"
        entered = await ann.sign_in(X_Forwarded_Proto="https")
        assert entered.status == 303
        assert flags(entered)[0] == "__Host-lmarena-session"


async def test_over_https_a_plain_cookie_is_not_believed(start_hub):
    """Over plain http somebody in between could have set it."""
    hub = await start_hub(trusted_proxies=["127.0.0.1"])
    await new_user(hub)
    async with person(hub) as ann:
        await ann.sign_in()
        mine = f"lmarena-session={ann.secret}"
        ann.http.cookie_jar.clear()
        assert b"ann@example.org" in (await ann.get("/", Cookie=mine)).body
        assert (
            b"ann@example.org"
            not in (await ann.get("/", Cookie=mine, X_Forwarded_Proto="https")).body
        )


async def test_a_session_id_from_before_is_never_kept(hub):
    """Session fixation: whatever cookie was there, signing in makes another, and ends a session of before."""
    await new_user(hub)
    async with person(hub) as ann, person(hub) as other:
        planted = "ss-lmb-" + "a" * 48
        await ann.sign_in(Cookie=f"lmarena-session={planted}")
        first = ann.secret
        assert first not in ("", planted)
        await ann.sign_in()
        second = ann.secret
        assert second not in ("", first)
        assert (
            b"ann@example.org" not in (await other.get("/", Cookie=f"lmarena-session={first}")).body
        )
        assert b"ann@example.org" in (await other.get("/", Cookie=f"lmarena-session={second}")).body


# --- forms of other pages --------------------------------------------------------------------------------

POSTS = ["/sign-in", "/sign-out", "/password", "/invitation/in-lmb-0"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1"},
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "OWN"},
        {"Sec-Fetch-Site": "ümläut"},
    ],
)
async def test_a_form_of_another_page_is_refused(hub, path, headers):
    await new_user(hub)
    async with person(hub) as ann:
        await ann.sign_in()
        ann.headers = {name: value.replace("OWN", hub.url) for name, value in headers.items()}
        fields = {
            "email": "ann@example.org",
            "password": PASSWORD,
            "again": PASSWORD,
            "present": PASSWORD,
        }
        reply = await ann.post(path, fields)
        assert reply.status == 403
        assert "Set-Cookie" not in reply.headers
        assert await ann.who() == "ann@example.org"
    assert len(await audit(hub)) == 1


async def test_a_form_of_our_own_page_passes_by_either_header(start_hub):
    hub = await start_hub(public_url="https://hub.example.org")
    await new_user(hub)
    for headers in (
        {"Origin": hub.url},
        {"Origin": "https://hub.example.org"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
    ):
        async with person(hub) as ann:
            ann.headers = headers
            assert (await ann.sign_in()).status == 303


# --- where to go next ------------------------------------------------------------------------------------

LOCAL = ["/", "/password", "/a/b?c=d&e=%20#f", "/-_.~"]
FOREIGN = [
    "https://evil.example",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\/evil.example",
    "/a\\b",
    "/\t/evil.example",
    " /a",
    "javascript:alert(1)",
    "evil.example",
    "/a\r\nSet-Cookie: a=b",
    "/\u00fc",
    "",
]


@pytest.mark.parametrize("wanted", LOCAL + FOREIGN)
async def test_after_signing_in_only_a_path_of_the_hub_is_gone_to(hub, wanted):
    await new_user(hub)
    async with person(hub) as ann:
        entered = await ann.sign_in(wanted=wanted)
    assert entered.status == 303
    assert entered.headers["Location"] == ("." + wanted if wanted in LOCAL else "./")
    assert local_path(wanted) == (wanted if wanted in LOCAL else "/")


async def test_the_page_keeps_where_to_go_next(hub):
    async with person(hub) as ann:
        assert b'name="next" value="/password"' in (await ann.get("/sign-in?next=/password")).body
        assert b'name="next" value="/"' in (await ann.get("/sign-in?next=//evil.example")).body
        assert (await ann.get("/password")).headers["Location"] == "./sign-in?next=%2Fpassword"


# --- invitations -----------------------------------------------------------------------------------------


async def test_a_link_makes_an_account_and_signs_in(hub):
    link = await new_invitation(hub, "Ben@Example.org", tier="premium", role="admin")
    async with person(hub) as ben:
        shown = await ben.get(link)
        assert shown.status == 200
        assert b'value="ben@example.org" readonly' in shown.body
        entered = await ben.choose(link, "a password of Ben's")
        assert (entered.status, entered.headers["Location"]) == (303, "../")
        assert await ben.who() == "ben@example.org"
        user = await hub.hub.store.users.find("ben@example.org")
        assert (user.tier, user.role, user.name) == ("premium", "admin", "ben")
    async with person(hub) as ben:
        assert (await ben.sign_in("ben@example.org", "a password of Ben's")).status == 303
    lines = [line[:2] for line in await audit(hub, "")]
    assert ("test", "invitations.create") in lines
    assert ("ben@example.org", "invitations.accept") in lines


async def spoil(hub, what: str) -> str:
    """A link that is not good, or not any more."""
    if what == "unknown":
        return "/invitation/in-lmb-" + "0" * 48
    if what == "expired":
        return await new_invitation(hub, expires_at=int(time.time()))
    link = await new_invitation(hub)
    if what == "revoked":
        [invitation] = await hub.hub.store.invitations.all()
        assert await hub.hub.store.invitations.revoke(invitation.id, Actor("test"))
    if what == "used":
        async with person(hub) as first:
            assert (await first.choose(link, "the first one's password")).status == 303
    return link


@pytest.mark.parametrize("what", ["unknown", "expired", "revoked", "used"])
async def test_a_link_that_is_not_good_makes_nothing(hub, what):
    link = await spoil(hub, what)
    async with person(hub) as somebody:
        for reply in (await somebody.get(link), await somebody.choose(link)):
            assert reply.status == 404
            assert b"not good any more" in reply.body
        assert await somebody.who() == ""
        assert (await somebody.sign_in("ben@example.org")).status == 401


async def test_a_link_raced_by_many_makes_one_account(hub):
    link = await new_invitation(hub)
    async with contextlib.AsyncExitStack() as stack:
        people = [await stack.enter_async_context(person(hub)) for _ in range(6)]
        replies = await asyncio.gather(*(each.choose(link) for each in people))
    assert sorted(reply.status for reply in replies) == [303] + [404] * 5
    assert len(await hub.hub.store.users.all()) == 1


async def test_a_link_for_somebody_who_has_an_account_says_so(hub):
    link = await new_invitation(hub)
    await new_user(hub, "ben@example.org")
    async with person(hub) as ben:
        reply = await ben.choose(link, "another password")
        assert reply.status == 409
        assert (await ben.sign_in("ben@example.org")).status == 303


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"password": "short", "again": "short"}, b"8 to 1000"),
        ({"password": "x" * 1001, "again": "x" * 1001}, b"8 to 1000"),
        ({"password": "long enough", "again": "something else"}, b"not the same"),
        ({}, b"8 to 1000"),
    ],
)
async def test_a_bad_choice_is_told_and_the_link_stays_good(hub, fields, words):
    link = await new_invitation(hub)
    async with person(hub) as ben:
        reply = await ben.post(link, fields)
        assert reply.status == 400
        assert words in reply.body
        assert (await ben.choose(link)).status == 303


# --- what ends a session ---------------------------------------------------------------------------------


async def test_changing_the_password_ends_every_other_session(hub):
    await new_user(hub)
    async with person(hub) as here, person(hub) as elsewhere:
        await here.sign_in()
        await elsewhere.sign_in()
        before = here.secret
        changed = await here.choose("/password", "an even better password", present=PASSWORD)
        assert changed.status == 303
        assert here.secret not in ("", before)
        assert await here.who() == "ann@example.org"
        assert await elsewhere.who() == ""
        refused(await elsewhere.sign_in())
        assert (await elsewhere.sign_in(password="an even better password")).status == 303


async def test_the_password_is_changed_only_by_who_knows_it(start_hub):
    hub = await start_hub(sign_in={"per_account": 2})
    await new_user(hub)
    async with person(hub) as ann, person(hub) as nobody:
        assert (
            (await nobody.choose("/password", present=PASSWORD))
            .headers["Location"]
            .startswith("./sign-in")
        )
        await ann.sign_in()
        for status in (401, 401, 429):
            reply = await ann.choose("/password", "another password", present="wrong")
            assert reply.status == status
        assert await ann.who() == "ann@example.org"
    assert [line[3] for line in await audit(hub)] == [""] + ["changing the password"] * 2 + [
        "by account"
    ]


async def test_a_new_password_by_the_operator_ends_the_sessions(hub):
    await new_user(hub)
    async with person(hub) as ann:
        await ann.sign_in()
        hashed = await hub.hub.sign_in.hash("set by the operator")
        await hub.hub.store.users.set_password("ann@example.org", hashed, Actor("test"))
        assert await ann.who() == ""


async def test_disabling_ends_the_sessions_for_good(hub):
    await new_user(hub)
    async with person(hub) as ann:
        await ann.sign_in()
        await hub.hub.store.users.set_disabled("ann@example.org", True, Actor("test"))
        assert await ann.who() == ""
        await hub.hub.store.users.set_disabled("ann@example.org", False, Actor("test"))
        assert await ann.who() == ""


async def test_a_session_ends_with_its_time(start_hub):
    hub = await start_hub(sign_in={"session_s": 1})
    await new_user(hub)
    async with person(hub) as ann:
        entered = await ann.sign_in()
        assert "Max-Age=1" in entered.headers["Set-Cookie"]
        mine = f"lmarena-session={ann.secret}"
        begun = time.monotonic()
        async with person(hub) as keeper:
            while b"ann@example.org" in (await keeper.get("/", Cookie=mine)).body:
                assert time.monotonic() < begun + 10
        assert await hub.hub.store.sessions.all() == []


async def test_sessions_are_listed_and_revoked_one_by_one(hub):
    await new_user(hub)
    await new_user(hub, "other@example.org")
    sessions = hub.hub.store.sessions
    async with person(hub) as ann, person(hub) as elsewhere, person(hub) as other:
        for each in (ann, elsewhere):
            await each.sign_in()
        await other.sign_in("other@example.org")
        newest, oldest = await sessions.all("ann@example.org")
        assert (oldest.user, oldest.address, oldest.agent) == (
            "ann@example.org",
            "127.0.0.1",
            "a test's browser",
        )
        assert await sessions.revoke(newest.id, Actor("test")) is True
        assert await sessions.revoke(newest.id, Actor("test")) is False
        assert [await each.who() for each in (ann, elsewhere, other)] == [
            "ann@example.org",
            "",
            "other@example.org",
        ]
        assert len(await sessions.all()) == 2


async def test_a_session_is_not_begun_with_a_password_that_has_changed_meanwhile(hub):
    await new_user(hub)
    _, stored = await hub.hub.store.users.password_of("ann@example.org")
    user = await hub.hub.store.users.find("ann@example.org")
    hashed = await hub.hub.sign_in.hash("set by the operator")
    await hub.hub.store.users.set_password("ann@example.org", hashed, Actor("test"))
    assert await hub.hub.store.sessions.create(user.id, stored, HERE) is None
    await hub.hub.store.users.set_disabled("ann@example.org", True, Actor("test"))
    assert await hub.hub.store.sessions.create(user.id, hashed, HERE) is None


async def test_a_password_set_by_the_operator_meanwhile_is_not_replaced(hub):
    """Somebody who knows the old one and is slow must not undo what the operator did about it."""
    await new_user(hub)
    users = hub.hub.store.users
    _, seen = await users.password_of("ann@example.org")
    theirs = await hub.hub.sign_in.hash("set by the operator")
    await users.set_password("ann@example.org", theirs, Actor("test"))
    with pytest.raises(SignInRefused):
        await users.set_password("ann@example.org", "late", Actor("test"), replacing=seen)
    assert (await users.password_of("ann@example.org"))[1] == theirs


async def test_one_person_has_a_bounded_number_of_sessions(hub):
    user = await new_user(hub)
    _, stored = await hub.hub.store.users.password_of(user.email)
    secrets = [await hub.hub.store.sessions.create(user.id, stored, HERE) for _ in range(MOST + 3)]
    assert len(await hub.hub.store.sessions.all(user.email)) == MOST
    assert await hub.hub.store.sessions.find(secrets[-1])
    assert await hub.hub.store.sessions.find(secrets[0]) is None


async def test_secrets_of_sessions_and_links_are_kept_as_hashes_only(hub, tmp_path):
    await new_user(hub)
    link = await new_invitation(hub)
    async with person(hub) as ann:
        await ann.sign_in()
        await hub.rows()
        written = b"".join(file.read_bytes() for file in (tmp_path / "data").glob("hub.db*"))
        assert ann.secret[7:].encode() not in written
        assert link.rpartition("-")[2].encode() not in written
        assert PASSWORD.encode() not in written
        assert len(ann.secret.removeprefix("ss-lmb-")) == 48


# --- the pages themselves --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/sign-in", "/invitation/nothing", "/password"])
async def test_pages_have_a_strict_policy_and_stay_in_no_cache(hub, path):
    async with person(hub) as ann:
        headers = (await ann.get(path)).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_what_is_typed_comes_back_escaped(hub):
    async with person(hub) as somebody:
        body = refused(await somebody.sign_in('"><script>alert(1)</script>'))
    assert b"<script>" not in body
    assert b"&#34;&gt;&lt;script&gt;" in body


@pytest.mark.parametrize("path", ["/sign-in", "/password", "/invitation/x"])
@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        (b"\xff\xfe%ff%00=%zz&&&==", (303, 400, 401, 404)),
        (b"email=%ED%A0%80&password=%ED%A0%80", (303, 400, 401, 404)),
        (b"&".join(b"a=b" for _ in range(100)), (400,)),
        (b"email=" + b"a" * 20_000, (413,)),
        (b"email=" + b"a" * 10_000 + b"@&password=x", (303, 400, 401, 404)),
    ],
)
async def test_odd_forms_are_never_our_fault(hub, path, body, statuses):
    async with person(hub) as somebody:
        reply = await somebody.post(path, body)
        assert reply.status in statuses
        assert reply.status == 303 or reply.headers["Content-Type"].startswith("text/html")
    assert len(await audit(hub)) <= 1


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("localhost", False),
        ("127.0.0.1:80", False),
        ("[::1]", False),
        ("192.0.2.9", True),
        ("hub.lan", True),
    ],
)
async def test_an_open_line_is_warned_of(start_hub, host, warned):
    hub = await start_hub(allowed_hosts=["hub.lan"])
    async with person(hub) as somebody:
        shown = await somebody.get("/sign-in", Host=host)
    assert (b"not encrypted" in shown.body) is warned


def test_a_password_is_the_same_however_it_is_composed():
    hashed = hash_password("Caf\u00e9 au lait")
    assert verify_password(hashed, "Cafe\u0301 au lait")
    assert not verify_password(hashed, "Cafe au lait")
    assert not verify_password(None, "Caf\u00e9 au lait")
    assert not verify_password(hashed, "\ud800")
    assert verify_password(hash_password("\ud800 is half a letter"), "\ud800 is half a letter")
