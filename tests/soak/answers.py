"""What a scripted worker does with a job: every good and bad way that the protocol has, chosen at random."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from typing import get_args

from hub.protocol import FailureCode
from tests.workers import Frame

CODES = get_args(FailureCode)
_numbers = itertools.count(1)


def words(tag: str, chance: random.Random) -> list[str]:
    """An answer's pieces: every one has its own name, and no two answers share any."""
    number = next(_numbers)
    most = 300 if chance.random() < 0.05 else 40
    return [f"{tag}.{number}.{at} " for at in range(chance.randint(0, most))]


def failing(chance: random.Random) -> Frame:
    """A failure of any kind, with or without a word on whether it ran."""
    frame: Frame = {"t": "fail", "code": chance.choice(CODES), "message": "on purpose"}
    if chance.random() < 0.3:
        frame["ran"] = chance.random() < 0.5
    if frame["code"] == "rate_limited":
        frame["retry_after_s"] = round(chance.uniform(0, 0.5), 2)
    return frame


async def script(tag: str, chance: random.Random) -> AsyncIterator[Frame]:
    """The frames about one job, as they are due; it may just stop coming."""
    await asyncio.sleep(chance.uniform(0, 0.1))
    turn = chance.random()
    if turn < 0.05:
        yield {"t": "refuse", "reason": "not in the mood"}
    elif turn < 0.12:
        yield failing(chance)
    elif turn < 0.14:
        return
    else:
        async for frame in _started(tag, chance):
            yield frame


async def _started(tag: str, chance: random.Random) -> AsyncIterator[Frame]:
    if chance.random() < 0.05:
        yield {"t": "waiting", "for": "human"}
        await asyncio.sleep(chance.uniform(0, 1.5))
    if chance.random() < 0.9:
        yield {"t": "started"}
    turn = chance.random()
    if turn < 0.06:
        yield failing(chance)
        return
    if turn < 0.1:
        yield {"t": "piece", "text": ""}
    said = words(tag, chance)
    breaks_off = chance.randint(0, len(said)) if chance.random() < 0.1 else None
    for at, word in enumerate(said):
        if at == breaks_off:
            if chance.random() < 0.8:
                yield failing(chance)
            return
        yield {"t": "piece", "text": word}
        if chance.random() < 0.4:
            await asyncio.sleep(chance.uniform(0, 0.05))
    end: Frame = {"t": "end", "finish_reason": "stop"}
    if chance.random() < 0.05:
        end["truncated"] = True
    yield end
