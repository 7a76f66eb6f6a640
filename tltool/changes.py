"""What is done to images to see what a network makes of it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

__all__ = ["CHANGES", "Change"]


@dataclass(frozen=True)
class Change:
    """A way to change an image, more and more.

    Args:
        name: what is done.
        unit: of the amounts.
        amounts: the first one leaves an image as it is.
        moves: whether the picture stays the same but for where things are.
        do: from pixels `(height, width, 3)`, uint8, an amount and a random generator to pixels.
    """

    name: str
    unit: str
    amounts: tuple[float, ...]
    moves: bool
    do: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]

    def apply(self, pixels: np.ndarray, amount: float, seed: int) -> np.ndarray:
        """Pixels `(height, width, 3)`, uint8, changed by one of the amounts."""
        if amount == self.amounts[0]:
            return pixels
        return self.do(pixels, amount, np.random.default_rng(seed))


def _placed(pixels: np.ndarray, matrix: tuple[float, ...]) -> np.ndarray:
    """An affine picture of an image on its mean colour; `matrix` leads back, from the centre."""
    height, width = pixels.shape[:2]
    a, b, c, d, e, f = matrix
    x, y = width / 2, height / 2  # Pillow counts from the corner of the first pixel
    back = (a, b, c + x - a * x - b * y, d, e, f + y - d * x - e * y)
    colour = tuple(int(v) for v in pixels.mean(axis=(0, 1)).round())
    image = Image.fromarray(pixels)
    return np.asarray(
        image.transform(
            (width, height),
            Image.Transform.AFFINE,
            back,
            Image.Resampling.BILINEAR,
            fillcolor=colour,
        )
    )


def _moved(pixels: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    return _placed(pixels, (1, 0, -round(amount / 100 * pixels.shape[1]), 0, 1, 0))


def _scaled(pixels: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    return _placed(pixels, (1 / amount, 0, 0, 0, 1 / amount, 0))


def _turned(pixels: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    c, s = math.cos(math.radians(amount)), math.sin(math.radians(amount))
    return _placed(pixels, (c, -s, 0, s, c, 0))


def _noisy(pixels: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    noise = random.normal(0, amount / 100 * 255, pixels.shape)
    return np.clip(pixels + noise, 0, 255).round().astype(np.uint8)


def _blurred(pixels: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    radius = amount / 100 * max(pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def _compressed(pixels: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=round(100 - amount))
    return np.asarray(Image.open(buffer).convert("RGB"))


def _flat(pixels: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    return ((pixels - mean) * (1 - amount / 100) + mean).round().astype(np.uint8)


# Kinds and strengths after Zeiler and Fergus, 2014 (the first three), and the strengths of
# Hendrycks and Dietterich, 2019, in parts of an image's side instead of pixels (the others).
CHANGES = (
    Change("moved", "% of the width", (0, 3, 6, 12, 20, 30, 40), True, _moved),
    Change("scaled", "times as large", (1, 1.15, 1.3, 1.5, 1.8), True, _scaled),
    Change("turned", "degrees", (0, 10, 20, 45, 90, 135, 180), True, _turned),
    Change("noise", "% of the range, deviation", (0, 4, 8, 12, 18, 26), False, _noisy),
    Change("blur", "% of the side, deviation", (0, 0.5, 1, 1.5, 2, 3), False, _blurred),
    Change("JPEG", "100 less quality", (0, 60, 75, 85, 90, 95), False, _compressed),
    Change("less contrast", "% taken off", (0, 25, 50, 70, 80, 90), False, _flat),
)
