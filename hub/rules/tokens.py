"""Count tokens with tiktoken's o200k vocabulary, which ships inside this package.

The sites' models have vocabularies of their own; one count for all keeps bills comparable and the hub honest
about what it measured. A count always comes back; where it is not exact it says so.
"""

import gzip
import hashlib
import math
import os
import re
import tempfile
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import tiktoken

VOCABULARY = Path(__file__).with_name("o200k_base.tiktoken.gz")
VOCABULARY_URL = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
"""Never fetched: tiktoken looks in its cache under the hash of this name."""

INLINE_CHARACTERS = 4_096
"""Longer texts are counted off the event loop: 50,000 characters take 1 to 10 ms."""
PER_MESSAGE = 4
"""What a message costs beyond its text: three for its frame, one for its role."""
PER_NAME = 1
PER_PROMPT = 3
"""The answer is primed with the assistant's role."""
PER_IMAGE = 85
PER_TILE = 170
TILE = 512
"""An image costs 85 tokens, and 170 for each tile of 512 x 512 pixels unless its detail is low, as OpenAI charges
for gpt-4o (platform.openai.com/docs/guides/images-vision, "Calculating costs")."""
IMAGE_AT_MOST = PER_IMAGE + 8 * PER_TILE
REMEMBERED_TEXTS = 4_096
"""How many short texts' counts are kept: at most 64 MiB of text."""
SLICE_CHARACTERS = 50_000
"""tiktoken panics on a run of about a million spaces, so it never sees more than this at once."""


class Count(NamedTuple):
    tokens: int
    estimated: bool = False

    def plus(self, other: "Count") -> "Count":
        return Count(self.tokens + other.tokens, self.estimated or other.estimated)


@cache
def vocabulary() -> tiktoken.Encoding:
    """The vocabulary; loading takes about half a second, once."""
    with tempfile.TemporaryDirectory() as directory:
        name = hashlib.sha1(VOCABULARY_URL.encode(), usedforsecurity=False).hexdigest()
        (Path(directory) / name).write_bytes(gzip.decompress(VOCABULARY.read_bytes()))
        before = os.environ.get("TIKTOKEN_CACHE_DIR")
        os.environ["TIKTOKEN_CACHE_DIR"] = directory
        try:
            return tiktoken.get_encoding("o200k_base")
        finally:
            if before is None:
                del os.environ["TIKTOKEN_CACHE_DIR"]
            else:
                os.environ["TIKTOKEN_CACHE_DIR"] = before


_WORDS_END = re.compile(
    r".*[^\W\d_](?=[\s.,;:!?\u3001\u3002\uff0c\uff1a\uff1b\uff01\uff1f])", re.DOTALL
)
"""After a letter and before a space or a full stop a token ends, whatever stands around: o200k's words take in
what is before them and never what is after, but for an apostrophe."""


def safe_end(text: str) -> int:
    """The last place in a text where a token surely ends, whatever follows; 0 if there is none."""
    found = _WORDS_END.match(text)
    return found.end() if found else 0


def count_text(text: str) -> Count:
    """The tokens of one text."""
    if len(text) <= SLICE_CHARACTERS:
        return Count(_tokens(text))
    total = Count(0)
    while len(text) > SLICE_CHARACTERS:
        end, exact = _cut(text)
        total = total.plus(Count(_tokens(text[:end]), estimated=not exact))
        text = text[end:]
    return total.plus(Count(_tokens(text)))


def count_texts(texts: Iterable[str]) -> Count:
    """The tokens of several texts, each by itself."""
    total = Count(0)
    for text in texts:
        total = total.plus(count_text(text))
    return total


def beginning(text: str, most: int) -> tuple[int, int]:
    """The tokens of a text, and how many of its characters the first `most` of them reach.

    A character that is only begun by then is not reached.
    """
    found = vocabulary().encode_ordinary(text)
    if len(found) <= most:
        return len(found), len(text)
    reached = vocabulary().decode_bytes(found[:most])
    return len(found), len(reached.decode(errors="ignore"))


def count_image(width: int, height: int, detail: str | None) -> int:
    """The tokens of an image: it is shrunk to fit 2048 x 2048, then to 768 on its short side, and laid with tiles.

    >>> count_image(1024, 1024, "high"), count_image(2048, 4096, None), count_image(4096, 8192, "low")
    (765, 1105, 85)
    """
    if detail == "low":
        return PER_IMAGE
    shrink = min(1.0, 2048 / max(width, height))
    shrink *= min(1.0, 768 / (shrink * min(width, height)))
    across, down = (math.ceil(round(side * shrink, 6) / TILE) for side in (width, height))
    return PER_IMAGE + across * down * PER_TILE


def _tokens(text: str) -> int:
    return len(vocabulary().encode_ordinary(text))


def _cut(text: str) -> tuple[int, bool]:
    """Where the first slice ends, and whether a token surely ends there too.

    No token spans the end of a line and a letter or digit after it; elsewhere a cut may cost one token.
    """
    end = text.rfind("\n", SLICE_CHARACTERS // 2, SLICE_CHARACTERS) + 1
    if end and text[end].isalnum():
        return end, True
    return SLICE_CHARACTERS, False


@lru_cache(maxsize=REMEMBERED_TEXTS)
def _count_again(text: str) -> Count:
    """As `count_text`, for short texts that will be sent again: a chat repeats its history each turn."""
    return count_text(text)


def count_prompt(messages: Iterable[tuple[str | None, str]]) -> Count:
    """The tokens of a prompt, given as (name, text) a message."""
    tokens, estimated = PER_PROMPT, False
    for name, text in messages:
        count = _count_again(text) if len(text) <= INLINE_CHARACTERS else count_text(text)
        tokens += PER_MESSAGE + count.tokens
        estimated |= count.estimated
        if name:
            tokens += PER_NAME + count_text(name).tokens
    return Count(tokens, estimated)
