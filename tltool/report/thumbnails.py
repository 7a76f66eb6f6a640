"""Small pictures for pages and sheets."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path

from PIL import Image

from tltool.data import UnreadableImageError, read_image

__all__ = ["THUMBNAIL_SIDE", "data_address", "known_bytes", "thumbnail"]

THUMBNAIL_SIDE = 160


def known_bytes(path: Path | None, content: bytes | None = None) -> bytes | None:
    """What is in a file; None if it is gone, or is another one by now.

    Args:
        path: of the file; None where that is not known.
        content: its SHA-256; None where any will do.
    """
    try:
        data = b"" if path is None else path.read_bytes()
    except OSError:
        return None
    if not data or (content is not None and hashlib.sha256(data).digest() != content):
        return None
    return data


def thumbnail(path: Path | None, content: bytes | None = None) -> Image.Image | None:
    """A picture of at most `THUMBNAIL_SIDE` pixels a side; None if the image is gone or changed.

    Args:
        path: of the file; None where that is not known.
        content: its SHA-256; None where any will do.
    """
    data = known_bytes(path, content)
    try:
        image = None if data is None else read_image(data, smallest_side=THUMBNAIL_SIDE)
    except UnreadableImageError:
        return None
    if image is None:
        return None
    if max(image.size) < THUMBNAIL_SIDE // 2:  # tiny images: whole pixels, not blur
        factor = THUMBNAIL_SIDE // 2 // max(image.size)
        size = (image.width * factor, image.height * factor)
        image = image.resize(size, Image.Resampling.NEAREST)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return image


def data_address(image: Image.Image | None, *, quality: int = 80) -> str:
    """A picture as the address that a page shows it by, a JPEG; empty for none."""
    if image is None:
        return ""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
