"""Groups of images that show the same picture: re-encoded, resized or slightly changed copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

__all__ = ["near_duplicate_groups"]

# Perceptual hashes this close propose a pair; a looser rule joins unlike pictures.
_HAMMING_DISTANCE = 4

# Thumbnails confirm a pair when their root mean square difference is at most this share of the
# pictures' own contrast, or this many grey levels for pictures without any.
_RELATIVE_DIFFERENCE = 0.15
_LEVELS = 2.0

# Pairs compared at a time: keeps the table of distances at a few tens of megabytes.
_BLOCK = 2_000_000


def near_duplicate_groups(
    perceptual_hashes: Mapping[bytes, int],
    thumbnails: Callable[[Sequence[bytes]], Mapping[bytes, bytes]],
) -> dict[bytes, bytes]:
    """For each image its group's representative.

    Images are taken in the order of their content hashes; one without a group becomes a
    representative, and those near it (Hamming distance at most 4, confirmed on pixels) that have
    no group yet join it. Nobody joins through a member, so groups do not chain, and the outcome
    depends on the set of images alone.

    Args:
        perceptual_hashes: content hash to 64-bit perceptual hash.
        thumbnails: gives the thumbnails, RGB bytes, of some content hashes.

    Returns:
        Content hash to the representative's content hash, for the members of groups of two or
        more.
    """
    order = sorted(perceptual_hashes)
    group: dict[bytes, bytes] = {}
    for first, near in _neighbours(np.array([perceptual_hashes[h] for h in order], np.uint64)):
        representative = order[first]
        if representative in group:
            continue
        candidates = [order[i] for i in near if order[i] not in group]
        pictures = thumbnails([representative, *candidates])
        for candidate in candidates:
            if _same_picture(pictures.get(representative, b""), pictures.get(candidate, b"")):
                group[representative] = group[candidate] = representative
    return group


def _neighbours(hashes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each index with the later ones within the Hamming distance, where there are any."""
    block = max(1, _BLOCK // max(1, len(hashes)))
    for start in range(0, len(hashes), block):
        rows = hashes[start : start + block]
        near = np.bitwise_count(rows[:, None] ^ hashes[None, start:]) <= _HAMMING_DISTANCE
        for row in np.flatnonzero(near.sum(axis=1) > 1):
            later = np.flatnonzero(near[row, row + 1 :]) + start + row + 1
            if len(later):
                yield int(start + row), later


def _same_picture(first: bytes, second: bytes) -> bool:
    a = np.frombuffer(first, np.uint8).astype(np.float32)
    b = np.frombuffer(second, np.uint8).astype(np.float32)
    if a.size != b.size or not a.size:
        return False
    difference = float(np.sqrt(np.mean((a - b) ** 2)))
    return difference <= max(_LEVELS, _RELATIVE_DIFFERENCE * min(float(a.std()), float(b.std())))
