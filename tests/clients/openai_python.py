"""What the official Python library of a given major version does with the hub: `openai_python.py MAJOR`.

Runs under any interpreter that has the library; `OPENAI_BASE_URL` and `OPENAI_API_KEY` say where and who.
"""

import asyncio
import json
import sys
from collections.abc import Callable

import openai
from pydantic import BaseModel

SAID = [{"role": "user", "content": "one two three"}]
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"where": {"type": "string"}},
            "required": ["where"],
            "additionalProperties": False,
        },
    },
}
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Told(BaseModel):
    text: str
    sure: bool


def models(client: openai.OpenAI) -> None:
    ids = [model.id for model in client.models.list()]
    assert ids == ["echo", "echo-fail", "echo-slow", "echo-tools"], ids
    assert client.models.retrieve("echo").owned_by == "echo"


def plain(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="echo", messages=SAID)
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == ("one two three", "stop")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    raw = client.chat.completions.with_raw_response.create(model="echo", messages=SAID)
    assert raw.headers["x-ratelimit-limit-requests"]
    assert raw.parse()._request_id == raw.headers["x-request-id"]


def streamed(client: openai.OpenAI) -> None:
    options = {"include_usage": True}
    chunks = [
        *client.chat.completions.create(
            model="echo", messages=SAID, stream=True, stream_options=options
        )
    ]
    texts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(texts) == "one two three"
    assert chunks[-1].usage.completion_tokens == 3
    with client.chat.completions.stream(model="echo", messages=SAID) as stream:
        told = [event.type for event in stream]
        assert stream.get_final_completion().choices[0].message.content == "one two three"
    assert told[-1] == "content.done"


def tools(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="echo-tools", messages=SAID, tools=[LOOK], tool_choice="required"
    )
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert json.loads(call.function.arguments) == {"where": "one two three"}
    with client.chat.completions.stream(model="echo-tools", messages=SAID, tools=[LOOK]) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls
    assert (call.function.name, call.function.parsed_arguments) == (
        "look",
        {"where": "one two three"},
    )
    heard = [
        *SAID,
        choice.message.model_dump(exclude_none=True),
        {
            "role": "tool",
            "tool_call_id": answer.choices[0].message.tool_calls[0].id,
            "content": "seen",
        },
    ]
    last = client.chat.completions.create(model="echo-tools", messages=heard, tools=[LOOK])
    assert last.choices[0].message.content == "seen"


def structured(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model="echo-tools", messages=SAID, response_format=Told)
    assert answer.choices[0].message.parsed == Told(text="one two three", sure=False)


def images(client: openai.OpenAI) -> None:
    parts = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
    ]
    messages = [{"role": "user", "content": parts}]
    answer = client.chat.completions.create(model="echo-tools", messages=messages)
    assert answer.choices[0].message.content == "see"


def errors(client: openai.OpenAI) -> None:
    wrong = client.with_options(api_key="sk-wrong")
    refused(openai.AuthenticationError, "invalid_api_key", wrong.models.list)
    ask = client.chat.completions.create
    refused(openai.NotFoundError, "model_not_found", ask, model="none", messages=SAID)
    refused(openai.BadRequestError, None, ask, model="echo", messages=[])
    refused(openai.BadRequestError, "unsupported_parameter", ask, model="echo", messages=SAID, n=2)
    refused(openai.InternalServerError, "upstream_error", ask, model="echo-fail", messages=SAID)
    stream = ask(model="echo-fail", messages=SAID, stream=True)
    refused(openai.APIError, "upstream_error", lambda: [*stream])


def refused(kind: type, code: str | None, call: Callable[..., object], **members: object) -> None:
    """The call raises this error with this code, and nothing else."""
    raised: openai.APIError | None = None
    try:
        call(**members)
    except openai.APIError as error:
        raised = error
    assert type(raised) is kind, raised
    assert raised.code == code, raised


async def at_once() -> None:
    async def one(number: int) -> None:
        messages = [{"role": "user", "content": f"I am {number}"}]
        answer = await client.chat.completions.create(model="echo", messages=messages)
        assert answer.choices[0].message.content == f"I am {number}"

    async with openai.AsyncOpenAI(max_retries=0) as client:
        await asyncio.gather(*(one(number) for number in range(10)))


if __name__ == "__main__":
    assert openai.__version__.split(".")[0] == sys.argv[1], openai.__version__
    with openai.OpenAI(max_retries=0) as sync:
        for check in (models, plain, streamed, tools, structured, images, errors):
            check(sync)
    asyncio.run(at_once())
    print("all is well")
