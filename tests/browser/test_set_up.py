"""From a fresh install to a tab that answers, as its owner goes through it: by the panel's button, or by the menu."""

import asyncio

import pytest

from hub.store.audit import Actor
from tests.browser.extension import run_menu_command, stored_values
from tests.browser.stage import userscript
from tests.doors import eventually


class Owner:
    """Answers the browser's questions, one after the other."""

    def __init__(self, page, *answers: str | None) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)
        page.on("dialog", lambda dialog: asyncio.ensure_future(self._answer(dialog)))

    async def _answer(self, dialog) -> None:
        self.asked.append(dialog.message)
        answer = self._answers.pop(0)
        await (dialog.dismiss() if answer is None else dialog.accept(answer))


@pytest.fixture
async def fresh(start_stage, start_browser):
    """A stage whose browser has the script and nothing else."""
    stage = await start_stage()
    stage.browser = await start_browser(await userscript(stage.hub))
    return stage


async def test_the_owner_enters_address_and_token_once(fresh):
    page = await fresh.open(ready=False)
    panel = await fresh.panel(page)
    owner = Owner(page, "not an address", fresh.hub.url, "a b", fresh.hub.worker_token)
    await panel.click("Enter address and token")
    await fresh.ready()
    assert len(owner.asked) == 4
    # Assist is the default.
    asking = fresh.asking()
    await panel.shows("Your turn")
    await page.click("button[type=submit]")
    assert (await asking).text == fresh.arena.answer_to("Hello")
    again = await fresh.open()
    await eventually(lambda: len(fresh.hub.hub.roster) == 2)
    assert fresh.hub.worker_token not in await again.content()


async def test_the_managers_menu_does_the_same(fresh):
    page = await fresh.open(ready=False)
    await (await fresh.panel(page)).shows("Set up")
    Owner(page, fresh.hub.url, fresh.hub.worker_token)
    await run_menu_command(fresh.browser, page, "Enter address and token")
    await fresh.ready()
    assert (await stored_values(fresh.browser))["hub"].startswith(fresh.hub.url)


async def test_whoever_gives_up_changes_nothing(fresh):
    page = await fresh.open(ready=False)
    panel = await fresh.panel(page)
    owner = Owner(page, fresh.hub.url, None)
    await panel.click("Enter address and token")
    await eventually(lambda: len(owner.asked) == 2)
    await panel.shows("Set up")
    assert not list(fresh.hub.hub.roster)


async def test_a_revoked_token_is_told_and_a_new_one_mends_it(start_stage):
    stage = await start_stage()
    page = await stage.open()
    panel = await stage.panel(page)
    [worker] = stage.hub.hub.roster
    assert await stage.hub.hub.store.worker_tokens.revoke(worker.token.id, Actor("test"))
    await stage.hub.hub.accounts_changed()
    await panel.shows("Token not accepted")
    Owner(page, stage.hub.url, await stage.hub.new_worker_token())
    await panel.click("Enter address and token")
    await stage.ready()
    assert (await stage.ask()).text == stage.arena.answer_to("Hello")


async def test_a_newer_script_is_told_and_not_installed(start_stage):
    """A new profile makes a newer script, since the hosts in its metadata come from there."""
    stage = await start_stage(folded=False)
    profiles = stage.hub.hub.store.profiles
    await profiles.set(profiles.current, "", Actor("test"))
    page = await stage.open()
    panel = await stage.panel(page)
    await panel.shows(f"Version 0.1.0.{profiles.current.version} is out")
    assert f"Version 0.1.0.{profiles.current.version - 1}" in await panel.text()


async def test_in_chinese(start_stage, start_browser):
    stage = await start_stage()
    stage.browser = await start_browser(await userscript(stage.hub), locale="zh-CN")
    page = await stage.open(ready=False)
    await (await stage.panel(page)).shows("待设置")
