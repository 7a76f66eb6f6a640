"""How activations of a layer become the features of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tltool._keras import import_keras
from tltool._validation import TltoolError, check_option

__all__ = ["POOLINGS", "check_pooling", "mirror_order", "pool", "width"]

POOLINGS = ("avg", "max", "grid2", "grid3", "grid8", "flatten")
"""Averages, largest values, averages over each cell of a 2x2, 3x3 or 8x8 grid, row by row, or all
as they are. Source of the grids: Lazebnik, Schmid, Ponce, "Beyond Bags of Features: Spatial Pyramid
Matching", 2006; He et al., "Spatial Pyramid Pooling in Deep Convolutional Networks", 2014."""

_GRIDS = {"grid2": 2, "grid3": 3, "grid8": 8}


def check_pooling(wanted: str) -> tuple[str, ...]:
    """The poolings that a text such as "avg+max" names.

    Raises:
        TltoolError: an unknown one, or one named twice.
    """
    names = tuple(wanted.split("+"))
    for name in names:
        check_option("pooling", name, POOLINGS)
    if len(set(names)) < len(names):
        raise TltoolError(f"Pooling {wanted!r} names the same twice; name each once.")
    return names


def pool(activations: Any, pooling: str, name: str) -> Any:
    """A Keras tensor `(n, height, width, channels)` as features `(n, d)`; vectors stay as they are.

    Args:
        activations: of a layer.
        pooling: one of `POOLINGS`.
        name: of the Keras layer that gives the features.
    """
    layers = import_keras().layers
    if len(activations.shape) == 2:
        return activations
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(name=name)(activations)
    if pooling == "max":
        return layers.GlobalMaxPooling2D(name=name)(activations)
    if pooling in _GRIDS:
        # windows of one size that overlap as little as they can: every standard layer has those
        cells = _cells(activations.shape[1:], pooling)
        strides = [side // n for side, n in zip(activations.shape[1:3], cells, strict=True)]
        window = [
            side - (n - 1) * stride
            for side, n, stride in zip(activations.shape[1:3], cells, strides, strict=True)
        ]
        activations = layers.AveragePooling2D(window, strides, name=f"{name}_cells")(activations)
    return layers.Flatten(name=name)(activations)


def width(shape: Sequence[int], pooling: str) -> int:
    """How many features come of activations of this shape, an image's, without a batch axis."""
    if len(shape) == 1 or pooling == "flatten":
        return math.prod(shape)
    return math.prod(_cells(shape, pooling)) * shape[-1]


def mirror_order(shape: Sequence[int], pooling: str) -> np.ndarray:
    """Which feature of a mirror image stands for each of the image's own, `(d,)`.

    What was seen on the right of the one is on the left of the other.
    """
    order = np.arange(width(shape, pooling))
    if len(shape) == 1:
        return order
    cells = shape[:2] if pooling == "flatten" else _cells(shape, pooling)
    return order.reshape(*cells, -1)[:, ::-1].ravel()


def _cells(shape: Sequence[int], pooling: str) -> tuple[int, int]:
    """Rows and columns that are told apart; no more than there are."""
    n = _GRIDS.get(pooling, 1)
    return min(n, shape[0]), min(n, shape[1])
