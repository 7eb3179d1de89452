"""The pages for signing in, in a real Chromium: by keyboard alone, over plain http and https, and as axe sees them."""

from pathlib import Path

import axe_playwright_python
import pytest
from aiohttp import web

from tests.people import PASSWORD, new_invitation, new_user

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")


def tls(certificate) -> dict[str, str]:
    """Settings for https with the certificate that the browser trusts."""
    return {"tls_cert": str(certificate.pem), "tls_key": str(certificate.pem)}


async def type_in(page, field: str, *words: str) -> None:
    """Word after word, from the field that has the focus on, with Tab between them, then Enter: no mouse."""
    await page.locator(f'[name="{field}"]:focus').wait_for()
    for number, word in enumerate(words):
        if number:
            await page.keyboard.press("Tab")
        await page.keyboard.type(word)
    await page.keyboard.press("Enter")


@pytest.mark.parametrize("over", ["loopback", "http", "https"])
async def test_somebody_signs_in_and_out_by_keyboard(start_hub, start_browser, certificate, over):
    """Over plain http to another machine browsers send no Sec-Fetch-Site: Origin has to do."""
    settings = tls(certificate) if over == "https" else {}
    hub = await start_hub(allowed_hosts=["hub.test"], **settings)
    await new_user(hub)
    address = hub.url.partition("//")[2]
    browser = await start_browser(hosts={"hub.test": address})
    base = {"loopback": hub.url, "http": "http://hub.test", "https": "https://hub.test"}[over]
    page = await browser.new_page()
    await page.goto(f"{base}/password")
    assert page.url == f"{base}/sign-in?next=%2Fpassword"
    await type_in(page, "email", "ann@example.org", "wrong password")
    await page.get_by_role("alert").wait_for()
    await type_in(page, "password", PASSWORD)
    await page.wait_for_url(f"{base}/password")
    [cookie] = await browser.cookies(base)
    assert cookie["name"] == ("__Host-" if over == "https" else "") + "lmarena-session"
    assert (cookie["httpOnly"], cookie["secure"]) == (True, over == "https")
    await type_in(page, "present", PASSWORD, "another password", "another password")
    await page.wait_for_url(f"{base}/")
    await page.get_by_text("You are signed in as").wait_for()
    await page.get_by_role("button", name="Sign out").focus()
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name="Sign in").wait_for()
    assert await browser.cookies(base) == []


async def test_a_guest_accepts_an_invitation_by_keyboard(start_hub, start_browser):
    hub = await start_hub()
    browser = await start_browser()
    page = await browser.new_page()
    await page.goto(hub.url + await new_invitation(hub))
    await page.get_by_label("Password", exact=True).focus()
    await type_in(page, "password", "a password of Ben's", "a password of Ben's")
    await page.wait_for_url(f"{hub.url}/")
    assert await page.locator(".who").inner_text() == "ben@example.org"


async def test_a_page_of_another_origin_cannot_send_our_forms(start_hub, start_browser, serve):
    """Another port of this machine is another origin, although cookies go there."""
    hub = await start_hub()
    await new_user(hub)

    async def foreign(request: web.Request) -> web.Response:
        form = f"<form method=post action={hub.url}/sign-out><button>Win a prize</button></form>"
        return web.Response(text=form, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", foreign)
    port = await serve(app)
    page = await (await start_browser()).new_page()
    await page.goto(f"{hub.url}/sign-in")
    await type_in(page, "email", "ann@example.org", PASSWORD)
    await page.wait_for_url(f"{hub.url}/")
    await page.goto(f"http://127.0.0.1:{port}/")
    async with page.expect_navigation() as leaving:
        await page.get_by_role("button").click()
    assert (await leaving.value).status == 403
    await page.goto(f"{hub.url}/")
    assert await page.locator(".who").inner_text() == "ann@example.org"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_has_nothing_to_say(start_hub, start_browser, scheme):
    hub = await start_hub()
    await new_user(hub)
    browser = await start_browser(bypass_csp=True)
    page = await browser.new_page()
    await page.emulate_media(color_scheme=scheme)
    link = await new_invitation(hub)
    looks = [("/", None), ("/sign-in", None), ("/sign-in", "wrong password"), (link, None)]
    looks += [("/invitation/none", None), ("/sign-in", PASSWORD), ("/password", None)]
    for path, password in looks:
        await page.goto(hub.url + path)
        if password:
            await type_in(page, "email", "ann@example.org", password)
            await page.locator("[role=alert], strong").first.wait_for()
        await page.evaluate(AXE.read_text(encoding="utf-8"))
        found = await page.evaluate("""async () => {
          const { violations, passes } = await axe.run();
          return [violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html)}`), passes.length];
        }""")
        assert found[0] == [], path
        assert found[1] > 10
