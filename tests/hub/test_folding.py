"""Conversations become one message by a template that the operator may change."""

import asyncio
import json
import tomllib
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.protocol import End, JobFrame, Piece
from hub.rules.folding import HEADINGS, check_template, fold
from hub.settings import Settings, SettingsError
from tests.doors import ask, socket_worker

DEFAULT = Settings().folding.template
SETTINGS = Path(__file__).parents[2] / "docs/reference/settings.md"
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello!", "name": "Ann"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}, {"id": "2"}]},
    {"role": "tool", "content": "sunny"},
    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
]


def folded(messages: list[dict[str, Any]], template: str = DEFAULT) -> Any:
    (message,) = json.loads(fold(orjson.dumps({"messages": messages}), template))["messages"]
    assert message["role"] == "user"
    return message["content"]


def test_the_template_that_comes_along():
    check_template(DEFAULT)
    assert folded(CHAT) == (
        '[System]\nBe brief.\n\n[User]\nHello!\n\n[Assistant]\n{"id":"1"}\n{"id":"2"}\n\n'
        "[Tool]\nsunny\n\n[User]\na\nb"
    )


TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from([*HEADINGS]), "content": TEXT})


@given(st.lists(MESSAGE, min_size=2))
def test_nothing_of_a_conversation_is_changed_or_lost(messages):
    parts = [f"[{HEADINGS[m['role']]}]\n{m['content'] or ''}" for m in messages]
    assert folded(messages) == "\n\n".join(parts)


def test_a_lone_message_of_the_user_is_left_alone():
    body = orjson.dumps({"messages": [{"role": "user", "content": "{{ 7 * 7 }}"}]})
    assert fold(body, "x{{ messages }}") == body


def test_images_follow_the_text():
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    user = {"role": "user", "content": [image, {"type": "text", "text": "look"}]}
    text, *images = folded([{"role": "system", "content": "s"}, user])
    assert (text["text"], images) == ("[System]\ns\n\n[User]\nlook", [image])


def test_another_template():
    template = """{% for message in messages if message.role != "tool" %}
{{ message.name or message.role }}: {{ message.text | upper }}
{% endfor %}
"""
    check_template(template)
    assert folded(CHAT[:2], template) == "system: BE BRIEF.\nAnn: HELLO!"


def test_what_messages_say_is_never_a_template():
    chat = [{"role": "system", "content": "{{ 7 * 7 }}"}, {"role": "user", "content": "{% raw %}"}]
    assert folded(chat) == "[System]\n{{ 7 * 7 }}\n\n[User]\n{% raw %}"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for message in messages %}\n{{ message.text }", "line 2"),
        ("{% for message in messages %}{{ message.words }}{% endfor %}", "words"),
        ("{{ mesages }}", "mesages"),
        ("{{ messages[0].text.pop() }}", "pop"),
        ("{% for m in messages %}{{ m.text }}{% endfor %}{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% include 'x' %}", "loader"),
        ("Hello", "leaves out"),
        ("", "leaves out"),
    ],
)
async def test_a_bad_template_is_a_settings_error(start_hub, template, says):
    with pytest.raises(SettingsError, match=rf"(?s)^folding\.template: .*{says}"):
        await start_hub(folding={"template": template})


def test_a_template_that_fails_after_all_is_not_the_callers_trouble():
    template = "{% for m in messages %}{{ m.text }}{{ 1 / (m.text | length - 3) }}{% endfor %}"
    check_template(template)
    assert folded([CHAT[0], {"role": "user", "content": "bad"}], template) == (
        "[System]\nBe brief.\n\n[User]\nbad"
    )


async def test_a_worker_without_history_gets_what_the_settings_say(start_hub):
    example = SETTINGS.read_text("utf-8").split("```toml\n[folding]")[1].split("```")[0]
    hub = await start_hub(folding=tomllib.loads(example))
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub, messages=CHAT[:2]))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "Hi."), End(job.job))
        assert (await asking).text == "Hi."
    (message,) = json.loads(bytes(job.body))["messages"]
    assert message["content"] == "Instructions: Be brief.\n\nHello!"
