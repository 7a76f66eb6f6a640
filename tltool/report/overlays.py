"""Maps drawn over the images that they are of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tltool.data import read_image

__all__ = ["overlay", "shown_image"]

_SIDE = 448

# How much of the map covers the image, where it is strongest.
_OPACITY = 0.72


def shown_image(path: Path, side: int = _SIDE) -> Image.Image:
    """An image as it is shown beside its maps: upright, no larger than `side` pixels.

    Small ones are enlarged, pixel by pixel.

    Raises:
        UnreadableImageError, OSError: it cannot be read.
    """
    image = read_image(path.read_bytes(), smallest_side=side)
    if max(image.size) < side // 2:
        factor = side // 2 // max(image.size)
        size = (image.width * factor, image.height * factor)
        return image.resize(size, Image.Resampling.NEAREST)
    image.thumbnail((side, side))
    return image


def overlay(image: Image.Image, values: np.ndarray) -> Image.Image:
    """A map over an image in grey: red what speaks for the class, blue what speaks against it.

    Strength follows the values, the largest of them, of either sign, being full strength.

    Args:
        image: RGB.
        values: `(rows, columns)` over all of it, stretched like the canvas of a network.
    """
    most = float(np.abs(values).max()) or 1.0
    scaled = Image.fromarray(np.asarray(values / most, np.float32))
    strength = np.asarray(scaled.resize(image.size, Image.Resampling.BICUBIC)).clip(-1, 1)
    grey = np.asarray(image.convert("L"), np.float32)[..., None] * np.ones(3, np.float32)
    share = (_OPACITY * np.abs(strength) ** 0.8)[..., None]
    colour = np.where(strength[..., None] > 0, _warm(np.abs(strength)), _cold(np.abs(strength)))
    mixed = grey * (1 - share) + colour * share
    return Image.fromarray(mixed.round().astype(np.uint8))


def _between(
    weak: tuple[int, int, int], strong: tuple[int, int, int], at: np.ndarray
) -> np.ndarray:
    low, high = np.array(weak, np.float32), np.array(strong, np.float32)
    return low + (high - low) * at[..., None]


def _warm(at: np.ndarray) -> np.ndarray:
    return _between((255, 190, 60), (226, 30, 30), at)


def _cold(at: np.ndarray) -> np.ndarray:
    return _between((120, 200, 255), (30, 70, 230), at)
