"""Small pictures for pages and sheets."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from tltool.data import UnreadableImageError, read_image

__all__ = ["THUMBNAIL_SIDE", "data_address", "thumbnail"]

THUMBNAIL_SIDE = 160


def thumbnail(path: Path) -> Image.Image | None:
    """A picture of at most `THUMBNAIL_SIDE` pixels a side; None if the image is gone."""
    try:
        image = read_image(path.read_bytes(), smallest_side=THUMBNAIL_SIDE)
    except (OSError, UnreadableImageError):
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
