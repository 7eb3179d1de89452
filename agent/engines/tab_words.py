"""What a tab's script says and is told, as JSON. What it says is checked like a stranger's words."""

import json
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from hub.protocol import MAX_MODELS, FailureCode, Model

MAX_CHARS = 32 * 1024 * 1024
"""Of one message; a picture in an answer is an address or a `data:` URL."""

Pause = Annotated[float, Meta(ge=0)]


class Models(Struct, tag_field="t", tag="models"):
    """The page's catalogue."""

    models: list[Any]

    def readable(self) -> dict[str, Model]:
        """Those that the hub would take, by id."""
        found = (_model(value) for value in self.models[:MAX_MODELS])
        return {model.id: model for model in found if model is not None}


class Site(Struct, tag_field="t", tag="site"):
    """Whether the page can be used, or waits for its human."""

    state: Literal["ready", "attention"]
    code: str | None = None
    reason: str | None = None


class Waiting(Struct, tag_field="t", tag="waiting"):
    job: str


class Started(Struct, tag_field="t", tag="started"):
    job: str


class Piece(Struct, tag_field="t", tag="piece"):
    job: str
    text: str = ""
    delta: dict[str, Any] | None = None


class End(Struct, tag_field="t", tag="end"):
    job: str
    finish_reason: str = "stop"
    usage: dict[str, Any] | None = None
    truncated: bool = False


class Fail(Struct, tag_field="t", tag="fail"):
    job: str
    code: FailureCode
    message: str = ""
    retry_after_s: Pause | None = None
    ran: bool | None = None


class Navigate(Struct, tag_field="t", tag="navigate"):
    """Load this address, and give the job again."""

    job: str
    url: str


class Notice(Struct, tag_field="t", tag="notice"):
    code: Literal["site_changed"]
    message: str = ""


AboutJob = Waiting | Started | Piece | End | Fail | Navigate
Said = Models | Site | Notice | AboutJob

_said: "msgspec.json.Decoder[Said]" = msgspec.json.Decoder(Said)


class Misspoken(Exception):
    """The page said what no script of ours says."""


def understand(text: object) -> Said:
    """What the script said. Raises Misspoken."""
    if not isinstance(text, str) or len(text) > MAX_CHARS:
        raise Misspoken("neither a text nor of a bearable length")
    try:
        return _said.decode(text)
    except msgspec.ValidationError as error:
        raise Misspoken(str(error)) from None
    except (ValueError, RecursionError):
        pass
    try:
        # A piece may end with half an emoji, which msgspec does not read; its other half comes next.
        said: Said = msgspec.convert(json.loads(text), Said)
    except (ValueError, RecursionError) as error:
        raise Misspoken(str(error) or "nested too deeply") from None
    return said


def _model(value: Any) -> Model | None:
    try:
        model = msgspec.convert(value, Model)
    except (ValueError, RecursionError):
        return None
    # A page's composer honours none of the features that an API has.
    return Model(model.id, model.modalities, model.kinds, [], model.context, model.organization)


def take(job: str, model: str, body: bytes, mode: str, navigated: bool) -> str:
    """The order to answer a job; `body` is JSON. `navigated`: a Navigate was heeded for it."""
    order = {"job": job, "model": model, "body": msgspec.Raw(body), "mode": mode}
    return _order("take", {**order, "navigated": True} if navigated else order)


def cancel(job: str) -> str:
    """The order to stop."""
    return _order("cancel", job)


def profile(value: dict[str, Any]) -> str:
    """The order to use another site profile."""
    return _order("profile", value)


def _order(name: str, value: object) -> str:
    return msgspec.json.encode({name: value}).decode()
