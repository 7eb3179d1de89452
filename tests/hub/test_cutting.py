"""Answers end where their callers want them to, however they were split into pieces."""

import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.protocol import Piece
from hub.rules.cutting import Bounds, Cutting, StopFinder
from hub.rules.openai import Answer
from hub.rules.tokens import INLINE_CHARACTERS, beginning, count_text, vocabulary

ENDLESS = 10**6


def cut(pieces: Iterable[str], stops: Iterable[str] = (), tokens: int | None = None) -> Any:
    """What comes out of these pieces, piece by piece, and why it ends."""
    cutting = Cutting(tuple(stops), tokens)
    out = []
    for text in pieces:
        out.append("".join(piece.text for piece in cutting.push(Piece("j", text))))
        if cutting.reason:
            return out, cutting.reason
    out.append("".join(piece.text for piece in cutting.end("j")))
    return out, cutting.reason


def plainly(text: str, stops: Iterable[str], tokens: int | None) -> tuple[str, str | None]:
    """The same on the whole text, in the simplest words."""
    ends = [
        (end, end - len(stop))
        for stop in stops
        for end in range(len(stop), len(text) + 1)
        if text[:end].endswith(stop)
    ]
    reason = None
    if ends:
        text, reason = text[: min(ends)[1]], "stop"
    if tokens is not None:
        encoded = vocabulary().encode_ordinary(text)
        if len(encoded) > tokens:
            whole = vocabulary().decode_bytes(encoded[:tokens]).decode(errors="ignore")
            return whole, "length"
    return text, reason


WORDS = st.lists(
    st.sampled_from(
        [
            "a",
            "b",
            "ab",
            " ",
            "\n",
            ". ",
            "don't ",
            "ICH",
            "12",
            "naïve",
            "日本",
            "、",
            "👩‍🚀",
            "  x",
            "\r\n",
            "½ ",
        ]
    ),
    max_size=30,
).map("".join)
TEXTS = WORDS | st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
STOPS = st.lists(st.text("ab .\n", min_size=1, max_size=4), max_size=3)


@st.composite
def split(draw: Any, texts: Any = TEXTS) -> list[str]:
    text = draw(texts)
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=20)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@settings(deadline=None)  # the first loads the vocabulary
@given(split(), STOPS, st.none() | st.integers(1, 25))
@example(["don", "'", "t stop"], [], 1)
@example(["ab"], ["b", "ab"], None)
def test_any_splitting_gives_the_answer_of_the_plain_model(pieces, stops, tokens):
    out, reason = cut(pieces, stops, tokens)
    assert ("".join(out), reason) == plainly("".join(pieces), stops, tokens)


@given(TEXTS, st.integers(1, 25))
def test_what_is_left_has_no_more_tokens_than_allowed(text, tokens):
    out, reason = cut([text], (), tokens)
    count = count_text("".join(out)).tokens
    assert count <= tokens
    assert reason is None or "".join(out) != text


@given(split(), STOPS)
def test_only_what_may_be_a_stop_sequence_is_held_back(pieces, stops):
    finder, seen, out = StopFinder(tuple(stops)), "", ""
    for text in pieces:
        seen, out = seen + text, out + finder.push(text)
        if finder.found:
            return
        held = seen.removeprefix(out)
        longest = max(
            (n for stop in stops for n in range(len(stop)) if seen.endswith(stop[:n])), default=0
        )
        assert len(held) == longest


def test_text_before_a_possible_stop_sequence_leaves_at_once():
    out, reason = cut(["one END", "", "OR two E", "ND", "ING three"], ["ENDING"])
    assert out == ["one ", "", "ENDOR two ", "", ""]
    assert reason == "stop"


def test_what_turns_out_to_be_none_leaves_at_the_end():
    assert cut(["half an EN"], ["ENDING"]) == (["half an ", "EN"], None)


def test_far_from_the_last_token_all_text_leaves_at_once_and_nothing_is_counted():
    pieces = ["Hel", "lo", " wor", "ld"]
    assert cut(pieces, (), ENDLESS)[0] == [*pieces, ""]
    assert cut(pieces, (), len("Hello world"))[0] == [*pieces, ""]


def test_near_the_last_token_only_what_surely_fits_leaves():
    assert cut(["Hel", "lo", " world"], (), 1) == (["H", "", "ello"], "length")
    assert cut(["Hel", "lo"], (), 1) == (["H", "", "ello"], None)


def test_an_answer_of_just_so_many_tokens_is_not_cut():
    assert cut(["Hello world."], (), 3) == (["Hello world.", ""], None)
    assert cut(["Hello", " world", ". "], (), 3) == (["Hel", "lo w", "orld.", ""], "length")


@pytest.mark.parametrize("length", [1, INLINE_CHARACTERS, INLINE_CHARACTERS + 1])
@pytest.mark.parametrize("letters", ["x", "日", "x ", "7"])
def test_very_long_words_are_cut_alike_however_they_come(letters, length):
    text = (letters * 20_000)[: 5 * INLINE_CHARACTERS + 17]
    tokens = beginning(text[: 4 * INLINE_CHARACTERS], 0)[0] // 2
    pieces = [text[at : at + length] for at in range(0, len(text), length)]
    whole, reason = cut([text], (), tokens)
    assert reason == "length"
    assert "".join(cut(pieces, (), tokens)[0]) == "".join(whole)
    assert tokens - 5 <= count_text("".join(whole)).tokens <= tokens


def test_a_character_is_never_halved():
    assert "".join(cut(["👩‍🚀👩‍🚀👩‍🚀"], (), 3)[0]) in "👩‍🚀👩‍🚀👩‍🚀"
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(cut(["𒀀𒀀𒀀"], (), 2)[0])


def said(
    deltas: list[dict[str, Any]], stops: tuple[str, ...] = (), tokens: int | None = None
) -> Any:
    cutting, answer = Cutting(stops, tokens), Answer()
    for delta in deltas:
        for piece in cutting.push(Piece("j", delta=delta)):
            answer.add(piece)
        if cutting.reason:
            return answer, cutting.reason
    for piece in cutting.end("j"):
        answer.add(piece)
    return answer, cutting.reason


def test_reasoning_passes_stop_sequences_and_does_not_part_them():
    answer, reason = said(
        [
            {"reasoning_content": "EN"},
            {"content": "one E"},
            {"reasoning_content": "D"},
            {"content": "ND"},
        ],
        ("END",),
    )
    message = answer.message()
    assert (message["content"], message["reasoning_content"], reason) == ("one ", "END", "stop")


def test_reasoning_is_counted_too():
    answer, reason = said([{"reasoning_content": "Let me see."}, {"content": "Hello world"}], (), 5)
    assert ("".join(answer.texts().values()), reason) == ("Let me see.Hello", "length")


def test_a_tool_call_is_whole_or_not_there():
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"x": 1}'}}
    answer, reason = said([{"content": "Hello"}, {"tool_calls": [call]}], (), 3)
    assert (answer.message().get("tool_calls"), reason) == (None, "length")
    answer, reason = said([{"content": "Hello"}, {"tool_calls": [call]}], (), 30)
    assert (len(answer.message()["tool_calls"]), reason) == (1, None)


def test_a_worker_does_what_it_declares_and_the_hub_the_rest():
    bounds = Bounds(("END",), 5)
    assert bounds.left_by(["stop", "sampling"]) is None
    assert Bounds((), None).left_by([]) is None
    for features, text in ((["stop"], "one END two three"), (["sampling"], "one END")):
        cutting = bounds.left_by(features)
        assert cutting is not None
        out = "".join(piece.text for piece in [*cutting.push(Piece("j", text)), *cutting.end("j")])
        assert re.match("one (END two three)?$", out)
        assert ("END" in out) == ("stop" in features)
