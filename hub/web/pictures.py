"""The images in a chat's messages: had, looked at, counted, and given to workers as data URLs alone."""

import asyncio
from typing import Any

from ..errors import InvalidImage, RequestTooLarge
from ..live.outbound import Outbound, Unreachable
from ..rules import images, tokens
from ..rules.openai import PlacedImage

MOST_IMAGES = 50


async def embed(
    outbound: Outbound, found: list[PlacedImage], body: dict[str, Any], room: int
) -> int:
    """Put every image into the body that it was named in; the tokens of all.

    `room` is how many bytes they may have together. Raises InvalidImage naming the part, RequestTooLarge.
    """
    if len(found) > MOST_IMAGES:
        raise InvalidImage(f"A request may hold {MOST_IMAGES} images.", param=found[-1].param)
    fetches = [asyncio.create_task(_embed_one(outbound, placed, body)) for placed in found]
    size, counted = 0, 0
    try:
        for fetched in asyncio.as_completed(fetches):
            bytes_, tokens_ = await fetched
            size, counted = size + bytes_, counted + tokens_
            if size > room:
                raise RequestTooLarge(f"With its images the request has more than {room} bytes.")
    finally:
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
    return counted


async def _embed_one(
    outbound: Outbound, placed: PlacedImage, body: dict[str, Any]
) -> tuple[int, int]:
    """One image into the body; the length of its data URL, and its tokens."""
    try:
        picture, url = await _picture(outbound, placed.image.url)
    except (InvalidImage, Unreachable) as problem:
        raise InvalidImage(f"{placed.param}: {problem}.", param=placed.param) from None
    placed.replace(body, url)
    return len(url), tokens.count_image(picture.width, picture.height, placed.image.detail)


async def _picture(outbound: Outbound, url: str) -> tuple[images.Picture, str]:
    if url[:5].lower() != "data:":
        data = await outbound.fetch(url, images.LARGEST_BYTES)
        return await asyncio.to_thread(_looked_at, data)
    if len(url) <= tokens.INLINE_CHARACTERS:
        return _looked_at(images.from_data_url(url))
    # Megabytes of base64 would hold everybody else up.
    return await asyncio.to_thread(lambda: _looked_at(images.from_data_url(url)))


def _looked_at(data: bytes) -> tuple[images.Picture, str]:
    picture = images.look_at(data)
    return picture, picture.data_url
