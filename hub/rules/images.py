"""Images that callers send: data URLs in and out, type and size told from the content."""

import base64
import binascii
from io import BytesIO
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from PIL import Image, UnidentifiedImageError

from ..errors import InvalidImage

LARGEST_BYTES = 10 * 1024 * 1024
LARGEST_PIXELS = 100_000_000
"""More would cost whoever shows it hundreds of MiB."""
TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}

# Only headers are read here; the limit above is our own.
Image.MAX_IMAGE_PIXELS = None


class Picture(NamedTuple):
    """An image that was looked at, with its width and height in pixels."""

    data: bytes
    type: str
    width: int
    height: int

    @property
    def data_url(self) -> str:
        return f"data:{self.type};base64,{base64.b64encode(self.data).decode()}"


def look_at(data: bytes) -> Picture:
    """An image by its content, whatever it was called. Raises InvalidImage."""
    if len(data) > LARGEST_BYTES:
        raise InvalidImage(f"the image has more than {LARGEST_BYTES} bytes")
    try:
        with Image.open(BytesIO(data), formats=[*TYPES]) as image:
            kind, (width, height) = TYPES[image.format or ""], image.size
    except UnidentifiedImageError:
        raise InvalidImage("this is no PNG, JPEG, WebP or GIF image") from None
    except Exception:  # noqa: BLE001 - what a decoder says of a damaged file has no one type
        raise InvalidImage("the image is damaged") from None
    if not 0 < width * height <= LARGEST_PIXELS:
        raise InvalidImage(f"the image has {width} x {height} pixels")
    return Picture(data, kind, width, height)


def from_data_url(url: str) -> bytes:
    """What a data URL holds. Raises InvalidImage."""
    head, comma, payload = url.partition(",")
    if not comma:
        raise InvalidImage("the data URL has no comma")
    data = unquote_to_bytes(payload)
    if not head.lower().endswith(";base64"):
        return data
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error:
        raise InvalidImage("the data URL is not valid base64") from None
