"""The OpenAI dialect on paper: bodies in, answers, chunks and errors out."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from hub.errors import HubError, InvalidRequest, WorkerLost
from hub.protocol import Piece
from hub.rules.deltas import LONGEST_TEXT, clean_delta
from hub.rules.openai import (
    Answer,
    Chunks,
    completion,
    error_event,
    finish_reason,
    header_text,
    ignored,
    parse_chat,
    parse_json,
    usage,
)

LINE_LIMIT = 64 * 1024
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SOME = {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}
NAMED = {"type": "function", "function": {"name": "f"}}


def body(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [USER], **more}


def chunks(*, include_usage: bool = False) -> Chunks:
    return Chunks("chatcmpl-1", 1, "m", include_usage=include_usage)


def events(raw: bytes) -> list[dict[str, Any]]:
    """The events of whole `data:` lines, which must be short."""
    assert raw.endswith(b"\n\n")
    lines = raw.split(b"\n\n")[:-1]
    assert all(len(line) < LINE_LIMIT and b"\n" not in line for line in lines)
    return [json.loads(line.removeprefix(b"data: ")) for line in lines]


def deltas(raw: bytes) -> list[dict[str, Any]]:
    return [event["choices"][0]["delta"] for event in events(raw)]


# --- bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"x"', b"null", b"\xff", b"{'a': 1}"])
def test_what_is_no_json_object_is_refused(raw):
    with pytest.raises(InvalidRequest):
        parse_json(raw)


def test_deep_nesting_is_refused_and_not_a_crash():
    with pytest.raises(InvalidRequest):
        parse_json(b'{"a":' + b"[" * 100_000)


def test_half_an_emoji_is_replaced():
    assert parse_json(rb'{"a": "x\ud83d"}') == {"a": "x\N{REPLACEMENT CHARACTER}"}


@pytest.mark.parametrize(
    "wild",
    [
        {"unknown": {"deep": [1]}},
        {"stream": None, "stop": None, "tools": None, "n": 1},
        {"max_tokens": 5, "max_completion_tokens": 6},
        {"messages": [{"role": "developer", "content": "x"}, USER, USER]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache": {}}]}]},
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": []}, USER]},
        {"messages": [USER, {"role": "tool", "content": "x", "tool_call_id": "c"}]},
    ],
)
def test_bodies_from_the_wild_are_tolerated(wild):
    assert parse_chat(body(**wild)).model == "m"


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"model": 1}, "model"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[0].content[0]"),
        ({"messages": [USER, {"role": "user", "content": 1}]}, "messages[1].content"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"n": 0}, "n"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ],
)
def test_a_wrong_body_names_the_parameter(wrong, param):
    with pytest.raises(InvalidRequest) as refused:
        parse_chat(body(**wrong))
    assert refused.value.param == param
    assert refused.value.message.startswith(param)


@pytest.mark.parametrize(
    "right",
    [
        {"tools": [TOOL], "tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": NAMED, "parallel_tool_calls": False},
        {"tools": [TOOL], "tool_choice": None},
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": SOME}},
        {"tools": [], "tool_choice": "none"},
        {"tool_choice": "auto"},
        {"functions": []},
        {"modalities": ["text"]},
        {"logprobs": True, "top_logprobs": 3},
        {"top_logprobs": 0},
    ],
)
def test_what_makes_sense_together_is_taken(right):
    assert parse_chat(body(**right))


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"tools": [{}]}, "tools[0].type"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        (
            {"tools": [TOOL, {"type": "function", "function": {"name": ""}}]},
            "tools[1].function.name",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [], "tool_choice": NAMED}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "perhaps"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "custom"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": SOME}}, "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice",
        ),
        ({"tools": [TOOL], "parallel_tool_calls": "yes"}, "parallel_tool_calls"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": 5}]}, "messages[1].tool_calls"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format.json_schema.name",
        ),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"n": 2}, "n"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)
def test_what_makes_no_sense_or_cannot_be_names_the_parameter(wrong, param):
    with pytest.raises(InvalidRequest) as refused:
        parse_chat(body(**wrong))
    assert refused.value.param == param
    assert refused.value.message.startswith(param)


def test_a_missing_model_names_it():
    with pytest.raises(InvalidRequest) as refused:
        parse_chat({"messages": [USER]})
    assert refused.value.param == "model"


def test_text_parts_are_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    chat = parse_chat(body(messages=[{"role": "user", "content": parts}]))
    assert chat.messages[0].text == "a\nb"


def test_what_a_request_needs_is_named_with_its_parameter():
    schema = {"type": "json_schema", "json_schema": {"name": "s"}}
    chat = parse_chat(body(tools=[TOOL], response_format=schema, logprobs=True))
    assert chat.needs() == {
        "tools": "tools",
        "json_schema": "response_format",
        "logprobs": "logprobs",
    }
    assert parse_chat(body(response_format={"type": "json_object"})).needs() == {
        "json_schema": "response_format"
    }
    assert parse_chat(body(n=1, tools=[], response_format={"type": "text"})).needs() == {}


def test_ignored_parameters_are_those_that_no_feature_honours():
    asked = body(temperature=0.5, stop=["x"], seed=None, top_k=1, max_tokens=3)
    assert ignored(asked, ["stop"]) == ["temperature", "top_k"]
    assert ignored(asked, ["sampling"]) == []


@pytest.mark.parametrize(
    ("stop", "stops"),
    [(None, ()), ("", ()), ("a", ("a",)), ([], ()), (["a", "", "b"], ("a", "b"))],
)
def test_stop_sequences_come_alone_or_as_a_list(stop, stops):
    assert parse_chat(body(stop=stop)).stops == stops


@pytest.mark.parametrize("stop", ["x" * 257, ["x"] * 17, [1], {"a": 1}])
def test_stop_sequences_are_few_and_short(stop):
    with pytest.raises(InvalidRequest) as refused:
        parse_chat(body(stop=stop))
    assert refused.value.param.startswith("stop")


def test_a_name_in_a_header_is_printable_and_short():
    assert header_text("Zoë\r\nx: y") == "Zo???x: y"
    assert len(header_text("x" * 1000)) == 200


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "truncated", "shown"),
    [
        ("stop", False, "stop"),
        ("tool-calls", False, "tool_calls"),
        ("other", False, "stop"),
        ("stop", True, "length"),
    ],
)
def test_finish_reasons_are_those_that_clients_know(said, truncated, shown):
    assert finish_reason(said, truncated=truncated) == shown


def test_a_delta_keeps_only_what_clients_understand():
    wild = {
        "role": "x",
        "content": 5,
        "refusal": "no",
        "tool_calls": [1, {"index": "a"}, {"id": "c"}],
    }
    call = {"index": 0, "id": "c", "type": "function", "function": {"arguments": ""}}
    assert clean_delta(wild) == {"refusal": "no", "tool_calls": [call]}


def test_an_answer_gathers_text_reasoning_and_refusal():
    answer = Answer()
    for piece in (
        Piece("j", delta={"reasoning_content": "hm "}),
        Piece("j", text="he"),
        Piece("j", delta={"content": "llo"}),
        Piece("j"),
    ):
        answer.add(piece)
    assert answer.message() == {
        "role": "assistant",
        "content": "hello",
        "refusal": None,
        "reasoning_content": "hm ",
    }
    assert answer.texts() == {"reasoning": "hm ", "content": "hello"}


def call(index: int, **more: Any) -> Piece:
    return Piece("j", delta={"tool_calls": [{"index": index, **more}]})


def test_tool_calls_are_merged_by_their_index():
    answer = Answer()
    answer.add(call(1, id="b", function={"name": "g", "arguments": ""}))
    answer.add(call(0, id="a", type="function", function={"name": "f", "arguments": '{"x"'}))
    answer.add(call(0, function={"arguments": ":1}"}))
    message = answer.message()
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
    ]


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LONG = st.builds(lambda text, times: text * times, TEXT, st.integers(1, 5000))


@given(TEXT | LONG)
def test_a_text_survives_its_way_through_the_events(text):
    told = deltas(chunks().piece(Piece("j", text=text)))
    assert "".join(delta["content"] for delta in told) == text


@given(content=TEXT | LONG, thought=TEXT, arguments=LONG)
def test_a_delta_survives_its_way_through_the_events_and_the_answer(content, thought, arguments):
    delta = {
        "content": content,
        "reasoning_content": thought,
        "tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": arguments}}],
    }
    whole, streamed = Answer(), Answer()
    whole.add(Piece("j", delta=delta))
    for told in deltas(chunks().piece(Piece("j", delta=delta))):
        streamed.add(Piece("j", delta=told))
    assert streamed.message() == whole.message()
    assert (whole.message()["content"] or "") == content


@pytest.mark.parametrize("character", ["\0", "\N{PILE OF POO}", '"', "x"])
@pytest.mark.parametrize("name", ["content", "reasoning_content", "refusal"])
def test_every_line_stays_under_64_kib(name, character):
    text = character * (3 * LONGEST_TEXT + 1)
    told = deltas(chunks().piece(Piece("j", delta={name: text})))
    assert "".join(delta[name] for delta in told) == text


def test_a_tool_call_with_a_huge_name_stays_under_64_kib():
    """A worker's delta may be megabytes; a line may not."""
    huge = call(0, id="i" * 100_000, function={"name": "n" * 100_000, "arguments": ""})
    assert events(chunks().piece(huge))


def probable(text: str, top: int = 0) -> dict[str, Any]:
    one = {"token": text, "logprob": -0.5, "bytes": [*text.encode()]}
    return {**one, "top_logprobs": [one] * top}


def test_probabilities_stand_beside_the_content_streamed_or_not():
    tokens = [probable("he"), probable("llo", 2)]
    piece = Piece("j", delta={"content": "hello", "logprobs": {"content": tokens}})
    answer = Answer()
    answer.add(piece)
    whole = json.loads(completion("c", 1, "m", answer, "stop", usage(1, 2)))
    assert whole["choices"][0]["logprobs"] == {"content": tokens, "refusal": None}
    assert "logprobs" not in whole["choices"][0]["message"]
    text, probabilities = events(chunks().piece(piece))
    assert text["choices"][0]["delta"] == {"content": "hello"}
    assert probabilities["choices"][0]["logprobs"] == {"content": tokens, "refusal": None}
    for event in (text, probabilities):
        ChatCompletionChunk.model_validate(event, strict=True)


def test_many_probabilities_go_into_short_lines():
    tokens = [probable("\0" * 100, 20)] * 30
    piece = Piece("j", delta={"logprobs": {"content": tokens}})
    told = events(chunks().piece(piece))
    assert [t for e in told for t in e["choices"][0]["logprobs"]["content"]] == tokens


@pytest.mark.parametrize(
    "logprobs", [1, {"content": 1}, {"content": [{"token": 1}]}, {"content": [probable("x" * 101)]}]
)
def test_probabilities_of_wrong_types_are_left_out(logprobs):
    assert clean_delta({"logprobs": logprobs}) == {}


def test_all_chunks_share_their_head_and_only_the_last_finishes():
    told = chunks(include_usage=True)
    raw = told.role() + told.text("hi") + told.finish("stop") + told.usage(usage(1, 2))
    first, text, last, used = events(raw)
    assert len({(e["id"], e["created"], e["model"], e["object"]) for e in events(raw)}) == 1
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert text["choices"][0]["delta"] == {"content": "hi"}
    assert [e["choices"][0]["finish_reason"] for e in (first, text, last)] == [None, None, "stop"]
    assert last["choices"][0]["delta"] == {}
    assert [e["usage"] for e in (first, text, last)] == [None] * 3
    assert used["choices"] == []
    assert used["usage"]["total_tokens"] == 3


def test_without_the_option_no_chunk_speaks_of_usage():
    told = chunks()
    assert all("usage" not in e for e in events(told.role() + told.text("x") + told.finish("stop")))


def test_every_shape_is_one_that_openais_own_library_accepts():
    told = chunks(include_usage=True)
    raw = told.role() + told.text("x") + told.piece(call(0, id="a", type="function"))
    raw += told.finish("tool_calls") + told.usage(usage(1, 2))
    for event in events(raw):
        ChatCompletionChunk.model_validate(event, strict=True)
    answer = Answer()
    answer.add(Piece("j", text="hello"))
    answer.add(call(0, id="a", function={"name": "f", "arguments": "{}"}))
    whole = completion("chatcmpl-1", 1, "m", answer, "stop", usage(1, 2))
    parsed = ChatCompletion.model_validate_json(whole)
    assert parsed.choices[0].message.content == "hello"
    choice = json.loads(whole)["choices"][0]
    assert choice["message"]["refusal"] is None
    assert choice["logprobs"] is None


def test_an_error_event_has_all_four_keys():
    [event] = events(error_event(WorkerLost()))
    assert set(event["error"]) == {"message", "type", "param", "code"}
    assert event["error"]["code"] == "worker_lost"


def test_text_leaves_unescaped():
    assert "日本語 Straße".encode() in chunks().text("日本語 Straße")


def test_a_retry_after_is_rounded_up_and_a_long_one_says_that_retrying_is_no_use():
    assert HubError(retry_after=1.2).headers() == {"Retry-After": "2", "retry-after-ms": "1200"}
    assert HubError(retry_after=121).headers()["x-should-retry"] == "false"
