"""Who is trusted with what: each thing that somebody must not be able to do, and the test that holds it.

What is held elsewhere is named in `HELD`; what is held nowhere else is tested below.
"""

import ast
import asyncio
from pathlib import Path

import pytest

from hub.store.keys import Scopes
from tests.conftest import TEST
from tests.doors import ask, send, socket_worker
from tests.people import new_invitation, new_user, person

TESTS = Path(__file__).parents[1]

HELD: dict[str, list[str]] = {
    # a caller with a key
    "a caller cannot exceed what its limits allow": [
        "hub/test_gate.py::test_no_more_are_admitted_than_the_limit_and_the_rest_hears_when",
        "hub/test_gate.py::test_a_hundred_at_once_cannot_overshoot_a_budget",
    ],
    "a caller cannot exhaust others": [
        "hub/test_completions.py::test_a_caller_that_reads_nothing_costs_its_job_and_nobody_elses",
        "hub/test_bad_callers.py::test_a_caller_that_never_sends_its_body_disturbs_nobody",
        "hub/test_bad_callers.py::test_a_compressed_body_cannot_grow_beyond_the_limit",
    ],
    # a user
    "a user cannot reach another's worker, nor their prompts": [
        "hub/test_private_workers.py::test_a_private_worker_never_sees_another_users_prompt",
        "hub/test_private_workers.py::test_the_list_shows_what_the_caller_may_use",
    ],
    "a user cannot reach what another has stored": [
        "hub/test_stored.py::test_to_anybody_else_it_is_not_there",
        "hub/test_repeats.py::test_a_key_belongs_to_its_user",
    ],
    # the owner of a shared worker
    "an owner of a worker cannot forge usage": [
        "hub/test_private_workers.py::test_a_workers_own_figures_are_billed_only_where_its_token_is_trusted",
    ],
    "an owner of a worker cannot offer models or slots that its token does not allow": [
        "hub/test_private_workers.py::test_a_token_says_which_models_its_workers_may_offer",
        "hub/test_private_workers.py::test_a_token_limits_the_slots_of_its_workers",
    ],
    "an owner of a worker cannot flood": [
        "hub/test_bad_workers.py::test_five_thousand_models_are_allowed",
        "hub/test_bad_workers.py::test_a_hello_with_a_wrong_member_is_a_bad_hello",
        "hub/test_bad_workers.py::test_a_flood_of_frames_disturbs_nobody",
        "hub/test_bad_workers.py::test_another_workers_job_cannot_be_answered",
    ],
    "a caller may keep to own workers, and sees who answered": [
        "hub/test_private_workers.py::test_a_key_for_own_workers_only_never_reaches_a_shared_one",
        "hub/test_completions.py::test_a_stream_has_the_headers_that_proxies_and_clients_need",
    ],
    # a web page in the same browser
    "a page cannot open a worker socket": [
        "hub/test_worker_doors.py::test_a_foreign_page_cannot_open_a_worker_socket",
        "hub/test_worker_doors.py::test_polling_asks_for_no_origin",
    ],
    "a page cannot read the hub's token": [
        "browser/test_tab_links.py::test_the_page_cannot_read_the_token",
    ],
    "a page cannot rebind a name": [
        "hub/test_addresses.py::test_other_hosts_are_refused_on_every_path",
        "hub/test_addresses.py::test_other_and_odd_hosts_are_refused_and_are_never_our_fault",
    ],
    "a page cannot send our forms, or read our pages in a frame": [
        "hub/test_sign_in.py::test_a_form_of_another_page_is_refused",
        "hub/test_sign_in.py::test_pages_have_a_strict_policy_and_stay_in_no_cache",
        "browser/test_sign_in.py::test_a_page_of_another_origin_cannot_send_our_forms",
    ],
    # the holder of a stolen worker token
    "a stolen worker token cannot take over a session": [
        "hub/test_worker_doors.py::test_a_session_cannot_be_resumed_under_another_token",
        "hub/test_worker_doors.py::test_a_session_cannot_be_polled_under_another_token",
        "hub/test_worker_doors.py::test_two_tokens_may_use_the_same_worker_id",
    ],
    "a stolen worker token does not stay after its revocation": [
        "hub/test_worker_doors.py::test_a_revoked_token_ends_its_sockets_at_once_and_opens_no_more",
        "hub/test_worker_doors.py::test_a_revoked_token_ends_polling_at_once",
        "hub/test_private_workers.py::test_a_disabled_owners_workers_are_sent_away_for_good",
    ],
    # the holder of a stolen key
    "a stolen key administers only with the admin scope": [
        "hub/test_admin.py::test_each_operation_wants_a_key_that_may_administer",
        "hub/test_admin.py::test_an_administrators_ordinary_key_does_not_administer",
    ],
    "a stolen key is checked before the body is read": [
        "hub/test_bad_callers.py::test_the_key_is_checked_before_the_body_is_read",
    ],
    # a proxy in front
    "a proxy names the caller's address only if it is listed": [
        "hub/test_addresses.py::test_a_header_of_somebody_untrusted_counts_for_nothing",
        "hub/test_addresses.py::test_a_trusted_proxy_names_the_caller",
        "hub/test_addresses.py::test_the_nearest_hop_that_is_not_trusted_counts",
        "hub/test_addresses.py::test_a_unix_socket_counts_as_a_proxy_only_when_listed",
        "hub/test_sign_in.py::test_a_header_of_somebody_untrusted_does_not_change_the_address",
    ],
    # a visitor
    "a visitor cannot try passwords at will, or find out who has an account": [
        "hub/test_sign_in.py::test_nobody_learns_why_a_sign_in_is_refused",
        "hub/test_sign_in.py::test_an_unknown_account_is_throttled_like_a_known_one",
        "hub/test_sign_in.py::test_an_account_is_throttled_wherever_the_tries_come_from",
        "hub/test_sign_in.py::test_an_address_is_throttled_whatever_account_it_tries",
    ],
    "a visitor cannot use a link twice, or one that is over": [
        "hub/test_sign_in.py::test_a_link_that_is_not_good_makes_nothing",
        "hub/test_sign_in.py::test_a_link_raced_by_many_makes_one_account",
    ],
    # what holds everywhere
    "addresses in pages and scripts never come from the Host header": [
        "hub/test_serve.py::test_the_front_page_never_repeats_the_host_header",
        "hub/test_userscript.py::test_the_host_header_is_not_believed",
    ],
    "what is on the disk is for its owner alone": [
        "hub/test_serve.py::test_the_first_start_makes_the_directory_and_the_database",
    ],
    "the command line goes through the running hub, which alone opens the database": [
        "hub/test_cli.py::test_the_control_socket_belongs_to_the_owner_and_goes_with_the_hub",
        "hub/test_cli.py::test_ten_commands_at_once_all_succeed_through_the_hub",
    ],
    "secrets are kept as hashes, and are in no log": [
        "hub/test_accounts.py::test_only_the_hash_is_kept",
        "hub/test_sign_in.py::test_secrets_of_sessions_and_links_are_kept_as_hashes_only",
        "hub/test_log.py::test_a_traceback_holds_no_secret",
        "hub/test_log.py::test_the_line_of_a_request_names_its_id_and_no_secret",
    ],
}


def names_in(file: Path) -> set[str]:
    found = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.name for node in ast.parse(file.read_text("utf-8")).body if isinstance(node, found)
    }


@pytest.mark.parametrize("row", HELD)
def test_what_is_held_elsewhere_is_held(row):
    for place in HELD[row]:
        file, _, name = place.partition("::")
        assert name in names_in(TESTS / file), place


# --- what is held here -----------------------------------------------------------------------------------


async def test_a_caller_cannot_make_the_hub_or_a_worker_fetch_an_address(hub):
    """An image at an address of this machine is refused, and nobody comes to ask for it."""
    visits = []
    async with await asyncio.start_server(lambda *_: visits.append(1), "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        part = {"type": "image_url", "image_url": {"url": f"http://127.0.0.1:{port}/image.png"}}
        async with socket_worker(hub) as worker:
            refused = await ask(hub, messages=[{"role": "user", "content": [part]}])
            assert refused.status == 400
            assert worker.unread == []
    assert visits == []


async def test_a_user_sees_nobody_elses_data_on_the_pages(hub):
    await new_user(hub)
    await new_user(hub, "bob@example.org")
    async with person(hub) as ann, person(hub) as bob:
        await ann.sign_in()
        await bob.sign_in("bob@example.org")
        for path in ("/", "/password"):
            shown = (await bob.get(path)).body
            assert b"bob@example.org" in shown
            assert b"ann@example.org" not in shown


async def test_a_users_worker_token_is_private_unless_it_is_said_to_be_shared(hub):
    await new_user(hub)
    for details, shared in (({"user": "ann@example.org"}, False), ({}, True)):
        secret = await hub.new_worker_token(**details)
        found = await hub.hub.store.worker_tokens.find(secret)
        assert found.shared is shared


@pytest.mark.parametrize(
    ("role", "scopes", "may"),
    [
        ("admin", Scopes(), False),
        ("admin", Scopes(admin=True), True),
        (None, Scopes(), False),
        (None, Scopes(admin=True), True),
    ],
)
async def test_a_stolen_key_administers_only_with_the_admin_scope(hub, role, scopes, may):
    """Never by the role of its user alone."""
    if role:
        await new_user(hub, role=role)
    owner = "ann@example.org" if role else None
    caller = await hub.hub.store.keys.find(await hub.new_key(user=owner, scopes=scopes))
    assert caller.is_admin is may


async def test_a_key_with_admin_scope_ends_with_its_users_role(hub):
    await new_user(hub, role="admin")
    key = await hub.new_key(user="ann@example.org", scopes=Scopes(admin=True))
    await hub.hub.store.users.set_role("ann@example.org", "user", TEST)
    assert (await hub.hub.store.keys.find(key)).is_admin is False


async def test_a_sign_in_opens_pages_alone_and_not_the_api(hub):
    """Browsers send a cookie along whoever asks for it; a key they do not."""
    await new_user(hub, role="admin")
    async with person(hub) as ann:
        await ann.sign_in()
        for path in ("/v1/models", "/admin/api/keys"):
            assert (await ann.get(path)).status in (401, 404)
        for name in ("Authorization", "x-api-key"):
            header = {name: f"Bearer {ann.secret}" if name == "Authorization" else ann.secret}
            assert (await send(hub, method="GET", path="/v1/models", headers=header)).status == 401


async def test_no_page_shows_a_secret(hub):
    await new_user(hub)
    link = await new_invitation(hub)
    async with person(hub) as ann:
        refused = await ann.sign_in("nobody@example.org", "my own secret word")
        assert b"my own secret word" not in refused.body
        odd = await ann.post(link, {"password": "my own secret word", "again": "another"})
        assert b"my own secret word" not in odd.body
        entered = await ann.sign_in()
        assert ann.secret not in entered.headers["Location"]
        for path in ("/", "/password", link):
            shown = (await ann.get(path)).body.decode()
            assert not [each for each in (ann.secret, hub.key, hub.worker_token) if each in shown]
            assert link.rpartition("/")[2] not in shown


async def test_no_error_repeats_a_secret(hub):
    secret = "sk-lmb-" + "5" * 48
    for path in ("/v1/models", "/v1/chat/completions"):
        headers = {"Authorization": f"Bearer {secret}"}
        reply = await send(hub, method="POST", path=path, headers=headers)
        assert secret not in reply.body.decode() + str(reply.headers)
