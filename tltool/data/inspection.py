"""What one full decode of a file tells, kept by content hash so that it is done once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from tltool.data.decoding import read_image

__all__ = ["INSPECTION_VERSION", "Inspection", "InspectionCache", "MemoryCache", "inspect"]

# Raise it when the same bytes may be inspected to something else.
INSPECTION_VERSION = 1

# Below this side an image has too few pixels for a perceptual hash to mean anything.
_SMALLEST_HASHED_SIDE = 64

# Sides of the small copies that the perceptual hash and the comparison of pixels work on.
_HASHED_SIDE = 128
_THUMBNAIL_SIDE = 32


@dataclass(frozen=True, slots=True)
class Inspection:
    """Facts about one readable image.

    Args:
        width: pixels, upright.
        height: pixels, upright.
        perceptual_hash: 64 bits; None below 64 pixels a side.
        thumbnail: `32 * 32 * 3` bytes of RGB; empty where there is no hash, or not asked for.
    """

    width: int
    height: int
    perceptual_hash: int | None
    thumbnail: bytes = b""


class InspectionCache(Protocol):
    """Where inspections are kept between runs, by the SHA-256 of the file."""

    def inspections(self, hashes: Sequence[bytes]) -> dict[bytes, Inspection]:
        """Those that are known, without thumbnails."""

    def thumbnails(self, hashes: Sequence[bytes]) -> dict[bytes, bytes]:
        """The thumbnails of those that are known."""

    def add_inspections(self, found: Mapping[bytes, Inspection]) -> None:
        """Keep these, thumbnails included."""


class MemoryCache:
    """Inspections kept for as long as this object lives."""

    def __init__(self) -> None:
        self._found: dict[bytes, Inspection] = {}

    def inspections(self, hashes: Sequence[bytes]) -> dict[bytes, Inspection]:
        return {h: self._found[h] for h in hashes if h in self._found}

    def thumbnails(self, hashes: Sequence[bytes]) -> dict[bytes, bytes]:
        return {h: self._found[h].thumbnail for h in hashes if h in self._found}

    def add_inspections(self, found: Mapping[bytes, Inspection]) -> None:
        self._found.update(found)


def inspect(data: bytes) -> Inspection:
    """Decode a file in full and describe what it shows.

    The perceptual hash is imagehash's `phash`: the signs of the 8x8 lowest frequencies of a
    discrete cosine transform.

    Raises:
        UnreadableImageError: the bytes hold no readable image.
    """
    image = read_image(data)
    if min(image.size) < _SMALLEST_HASHED_SIDE:
        return Inspection(*image.size, perceptual_hash=None)
    import imagehash

    small = image.resize((_HASHED_SIDE, _HASHED_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    bits = imagehash.phash(small).hash.ravel()
    thumbnail = small.resize((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), Image.Resampling.BOX)
    return Inspection(*image.size, int(np.packbits(bits).view(">u8")[0]), thumbnail.tobytes())
