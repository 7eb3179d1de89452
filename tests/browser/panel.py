"""A userscript's panel as a person meets it: visible words and clicks, although its shadow root is closed."""

import asyncio
from collections.abc import Iterator
from typing import Any, Protocol

PATIENCE_S = 15.0

_UNTIL = """
const until = (root, find) => new Promise((resolve) => {
  const observer = new MutationObserver(() => look());
  const look = () => {
    const found = find();
    if (found) observer.disconnect();
    if (found) resolve(found);
  };
  observer.observe(root, { attributes: true, characterData: true, childList: true, subtree: true });
  look();
});
const readable = (child) => (child.checkVisibility() ? child.innerText : "");
const textOf = (root) => [...root.children].map(readable).join("\\n");
"""
_TEXT = "return textOf(this);"
_SHOWS = "return until(this, () => textOf(this).includes(words) && textOf(this));"
_ELEMENT = """
const isUsable = (element) => element.checkVisibility() && !element.disabled;
const says = (element) => words === "" || element.innerText.trim() === words;
return until(this, () => [...this.querySelectorAll(selector)].find((e) => isUsable(e) && says(e)));
"""
_SELECTED = "this.focus(); this.select();"


class Session(Protocol):
    """A DevTools session: Playwright's of a page, or one of `spawn_chromium`."""

    async def send(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]: ...


def _closed_roots(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for root in node.get("shadowRoots", []):
        if root["shadowRootType"] == "closed":
            yield root
    for child in [*node.get("children", []), *node.get("shadowRoots", [])]:
        yield from _closed_roots(child)


class Panel:
    """What stands in a page's closed shadow root, reached through the DevTools protocol.

    Nothing here runs in the page's own world, so neither the page nor the panel can tell. Everything waits, and
    is a TimeoutError after 15 s.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    async def text(self) -> str:
        """What can be read now."""
        return str(await self._value(await self._root(), _TEXT))

    async def shows(self, words: str) -> str:
        """Everything that can be read, as soon as these words are among it."""
        return str(await self._value(await self._root(), _SHOWS, words=words))

    async def click(self, words: str, selector: str = "button") -> None:
        """Click what has exactly this text, as soon as it is visible and enabled; "" means any text."""
        element = await self._element(selector, words)
        await self._session.send("DOM.scrollIntoViewIfNeeded", {"objectId": element})
        quads = (await self._session.send("DOM.getContentQuads", {"objectId": element}))["quads"]
        x, y = sum(quads[0][0::2]) / 4, sum(quads[0][1::2]) / 4
        for kind in ("mousePressed", "mouseReleased"):
            click = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            await self._session.send("Input.dispatchMouseEvent", click)

    async def fill(self, selector: str, text: str) -> None:
        """Replace what stands in a field."""
        field = await self._element(selector, "")
        await self._value(field, _SELECTED)
        await self._session.send("Input.insertText", {"text": text})

    async def _root(self) -> str:
        async with asyncio.timeout(PATIENCE_S):
            while not (found := await self._roots()):  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.02)
        world = await self._world()
        node = {"backendNodeId": found[0]["backendNodeId"], "executionContextId": world}
        return str((await self._session.send("DOM.resolveNode", node))["object"]["objectId"])

    async def _roots(self) -> list[dict[str, Any]]:
        document = await self._session.send("DOM.getDocument", {"depth": -1, "pierce": True})
        return list(_closed_roots(document["root"]))

    async def _world(self) -> int:
        tree = await self._session.send("Page.getFrameTree")
        frame = {"frameId": tree["frameTree"]["frame"]["id"], "worldName": "tests"}
        world = await self._session.send("Page.createIsolatedWorld", frame)
        return int(world["executionContextId"])

    async def _element(self, selector: str, words: str) -> str:
        found = await self._call(await self._root(), _ELEMENT, selector=selector, words=words)
        return str(found["objectId"])

    async def _value(self, target: str, body: str, **parameters: str) -> Any:
        return (await self._call(target, body, by_value=True, **parameters)).get("value")

    async def _call(
        self, target: str, body: str, *, by_value: bool = False, **parameters: str
    ) -> dict[str, Any]:
        """Run JavaScript with `this` as the target; RuntimeError if it throws."""
        call = {
            "objectId": target,
            "functionDeclaration": f"function ({', '.join(parameters)}) {{{_UNTIL}{body}}}",
            "arguments": [{"value": value} for value in parameters.values()],
            "awaitPromise": True,
            "returnByValue": by_value,
        }
        async with asyncio.timeout(PATIENCE_S):
            answer = await self._session.send("Runtime.callFunctionOn", call)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description"))
        result: dict[str, Any] = answer["result"]
        return result
