"""What a running answer has delivered is counted in parts; together they are what the whole would count."""

import asyncio
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.live.gate import Reservation
from hub.live.jobs import Job
from hub.protocol import Piece
from hub.rules.openai import NAMES
from hub.rules.tiers import NO_LIMITS
from hub.rules.tokens import Count, count_texts, safe_end, vocabulary
from hub.store.keys import EVERYTHING, Caller, Key

WORDS = st.sampled_from(
    [
        *("hello", "Hello", "HELLO", "don't", "I'LL", "o'", "café", "Straße", "n\u0303", "\u0301"),
        *("日本語", "你好\uff0c世界。", "한국어", "ภาษาไทย", "हिन्दी", "العربية", "Ω"),
        *("👩‍👩‍👧", "👍🏽", "🇩🇪", "½", "²", "Ⅷ", "٣", "42", "3.14"),
        *(" ", "  ", "\n", "\r\n", "\n\n", "\t", "\u3000", "\xa0", "\x1c", "\x85", "\u200b"),
        *(
            ".",
            ",",
            "...",
            "?!",
            "。",
            "\uff1a",
            "'",
            '"',
            "(",
            ")",
            "_",
            "-",
            "/",
            "//",
            "<|endoftext|>",
        ),
        *(
            "def f(x):\n    return x",
            "a.b.c()",
            "if (x) {\n\t}",
            "snake_case",
            "camelCase",
            "</div>",
        ),
    ]
)
TEXTS = st.one_of(
    st.lists(WORDS, max_size=30).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
)
ANSWERS = st.lists(TEXTS, max_size=8)
FAST = settings(deadline=None, max_examples=300)


def exactly(text: str) -> int:
    return len(vocabulary().encode_ordinary(text))


@given(ANSWERS)
@example(["don", "'t stop", ". I", "'", "ll go on, ", "a\u0301", "\u0301 b"])
@FAST
def test_parts_cut_at_safe_ends_count_what_the_whole_counts(pieces):
    counted, rest = 0, ""
    for piece in pieces:
        rest += piece
        end = safe_end(rest)
        counted += exactly(rest[:end])
        rest = rest[end:]
    assert counted + exactly(rest) == exactly("".join(pieces))


def test_every_character_before_a_safe_end_really_ends_a_token():
    """All of Unicode: Python's idea of a letter and the vocabulary's need not be one."""
    wrong = []
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        for text in (f"a{character}.b", f" {character} b"):
            end = safe_end(text)
            if end == len(text) - 2 and exactly(text) != exactly(text[:end]) + exactly(text[end:]):
                wrong.append(hex(number))
    assert not wrong


# --- in a job ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def job(loop: asyncio.AbstractEventLoop) -> Job:
    key = Key("k", "a key", "", None, EVERYTHING, NO_LIMITS, False, 0, None, None, "k")
    return Job(
        loop=loop,
        id="r",
        caller=Caller(key, None),
        reservation=Reservation("r", [], 0, 0, 0.0, 0, 0),
        kind="chat",
        model="m",
        body=b"{}",
        needs=frozenset(),
        stream=True,
        accepted=0.0,
        accepted_at=0,
        max_pending=10**9,
        prompt=Count(7),
    )


def call(index: int, arguments: str, name: str | None) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    return {"tool_calls": [{"index": index, "function": function}]}


PIECES = st.one_of(
    TEXTS.map(lambda text: Piece("r", text)),
    TEXTS.map(lambda text: Piece("r", delta={"content": text})),
    TEXTS.map(lambda text: Piece("r", delta={"reasoning_content": text})),
    TEXTS.map(lambda text: Piece("r", delta={"refusal": text})),
    st.builds(call, st.integers(0, 2), TEXTS, st.sampled_from(["get_weather", "f", None])).map(
        lambda delta: Piece("r", delta=delta)
    ),
    st.just(Piece("r", delta={"role": "assistant", "content": None})),
)
HAPPENINGS = st.lists(st.one_of(PIECES, st.sampled_from(["taken", "left", "counted"])), max_size=40)


@given(HAPPENINGS)
@FAST
def test_a_checkpoint_never_exceeds_what_left_for_the_caller(loop, happenings):
    running, counted = job(loop), 0
    for happening in happenings:
        match happening:
            case "taken" if running.has_pieces:
                loop.run_until_complete(running.take())
            case "taken":
                pass
            case "left":
                running.delivered()
            case "counted":
                counted += count_texts(running.uncounted()).tokens
                assert counted <= count_texts(running.billed(delivered_only=True).texts).tokens
            case piece:
                running.put(piece)
    counted += count_texts(running.uncounted()).tokens
    delivered = running.answer(delivered_only=True).texts()
    delivered.pop(NAMES, None)
    rests = count_texts(running._uncounted.values()).tokens
    assert counted + rests == count_texts(delivered.values()).tokens


def test_a_piece_that_was_not_delivered_is_not_counted(loop):
    running = job(loop)
    running.put(Piece("r", "taken and gone, "))
    loop.run_until_complete(running.take())
    running.delivered()
    running.put(Piece("r", "taken only, "))
    loop.run_until_complete(running.take())
    running.put(Piece("r", "neither. "))
    assert running.uncounted() == ["taken and gone"]
    assert running.uncounted() == []
    running.delivered()
    assert running.uncounted() == [", taken only"]


def test_functions_named_again_with_every_piece_are_counted_once_at_the_end(loop):
    running = job(loop)
    for _ in range(50):
        for index, name in enumerate(("get the weather", "of a place")):
            running.put(Piece("r", delta=call(index, "", name)))
        loop.run_until_complete(running.take())
        running.delivered()
        assert running.uncounted() == []
    assert running.billed().texts == ["get the weather of a place"]


def test_what_carries_no_text_delivers_no_characters(loop):
    running = job(loop)
    running.put(Piece("r", delta={"role": "assistant", "content": "", "extra": "long" * 100}))
    loop.run_until_complete(running.take())
    running.delivered()
    assert running.delivered_chars == 0
    running.put(Piece("r", delta={"reasoning_content": "hm", **call(0, "{}", "f")}))
    assert running.received_chars == 5
