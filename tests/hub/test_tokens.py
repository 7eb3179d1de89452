"""Counting tokens: exact where it says so, from the vocabulary in the package, without a network."""

import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.rules.tokens import (
    PER_MESSAGE,
    PER_NAME,
    PER_PROMPT,
    SLICE_CHARACTERS,
    Count,
    count_prompt,
    count_text,
    vocabulary,
)
from tests.processes import environment


def exactly(text: str) -> int:
    return len(vocabulary().encode_ordinary(text))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("hello world", 2), ("tiktoken is great!", 6), ("<|endoftext|>", 7)],
)
def test_known_texts_have_known_counts(text, tokens):
    assert count_text(text) == Count(tokens)


@given(st.text(max_size=300))
@settings(deadline=None)
def test_short_texts_are_counted_as_tiktoken_does(text):
    assert count_text(text) == Count(exactly(text))


def test_a_text_cut_at_line_ends_is_exact():
    dice = random.Random(1)
    words = ["word", "Straße", "12345", "don't", "x", "日本語", "(a)"]
    line = " ".join(dice.choice(words) for _ in range(12))
    text = "\n".join(f"Line {n}: {line}" for n in range(3000))
    assert len(text) > 3 * SLICE_CHARACTERS
    assert count_text(text) == Count(exactly(text), estimated=False)


def test_a_text_cut_elsewhere_says_that_it_is_estimated_and_is_close():
    text = "somewhat longer words without a break " * 4000
    count = count_text(text)
    assert count.estimated
    assert abs(count.tokens - exactly(text)) <= len(text) // SLICE_CHARACTERS


def test_a_million_spaces_are_counted():
    count = count_text(" " * 1_000_000)
    assert count.estimated
    assert 1_000_000 / 200 < count.tokens < 1_000_000


def test_the_longest_text_in_one_slice_is_exact():
    assert not count_text("a " * (SLICE_CHARACTERS // 2)).estimated


def test_an_estimate_stays_one_when_added():
    assert Count(1, estimated=True).plus(Count(2)) == Count(3, estimated=True)
    assert Count(1).plus(Count(2)) == Count(3)


def test_a_prompt_costs_its_texts_and_their_frames():
    assert count_prompt([]) == Count(PER_PROMPT)
    two = count_prompt([(None, "hello world"), ("bob", "hello")])
    texts = exactly("hello world") + exactly("hello") + exactly("bob")
    assert two == Count(PER_PROMPT + 2 * PER_MESSAGE + PER_NAME + texts)


def test_counting_opens_no_connection_and_leaves_the_environment_alone(tmp_path):
    program = """
import os, sys
def watch(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(f"it used the network: {event}")
sys.addaudithook(watch)
from hub.rules.tokens import count_text
assert count_text("hello world").tokens == 2
assert "TIKTOKEN_CACHE_DIR" not in os.environ
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
