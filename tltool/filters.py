"""The filters of a network's first layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tltool._keras import import_keras
from tltool._validation import TltoolError

if TYPE_CHECKING:
    import keras

__all__ = ["FirstFilters", "filter_pixels", "first_filters"]


@dataclass(frozen=True)
class FirstFilters:
    """The kernels of a network's first convolution.

    Args:
        layer: its name.
        kernels: `(n, height, width, channels)`, float32; three channels are red, green and blue,
            whatever their order in the network.
        stride: pixels between neighbouring places, down and across.
    """

    layer: str
    kernels: np.ndarray
    stride: tuple[int, int]


def first_filters(network: keras.Model, channels: str = "RGB") -> FirstFilters:
    """The kernels of the first `Conv2D`.

    What they are applied to are preprocessed pixels; that scales a channel, and turns none over.

    Args:
        network: a functional model.
        channels: the order that preprocessing leaves: "RGB", "BGR" or "grey".

    Raises:
        TltoolError: the network has no convolution, or one of something else than pixels.

    Example:
        >>> first_filters(Backbone("cifar-resnet20").network).kernels.shape
        (16, 3, 3, 3)
    """
    keras = import_keras()

    layer = next((o for o in network.operations if isinstance(o, keras.layers.Conv2D)), None)
    if layer is None or layer.kernel.shape[2] not in (1, 3):
        raise TltoolError(
            f"{network.name} does not begin with a convolution of pixels, so it has no first-layer "
            "filters to show; take a convolutional network (tltool backbones lists them)."
        )
    kernels = np.moveaxis(np.asarray(layer.kernel, np.float32), -1, 0)
    if channels == "BGR":
        kernels = kernels[..., ::-1]
    down, across = layer.strides
    return FirstFilters(layer.name, kernels, (int(down), int(across)))


def filter_pixels(kernels: np.ndarray) -> np.ndarray:
    """Kernels as pictures, each scaled to its own range.

    Args:
        kernels: `(n, height, width, channels)`.

    Returns:
        The same shape, uint8: 0 is a filter's smallest weight over all channels, 255 its largest;
        128 everywhere where all are equal.
    """
    low = kernels.min(axis=(1, 2, 3), keepdims=True)
    span = kernels.max(axis=(1, 2, 3), keepdims=True) - low
    scaled = np.where(span > 0, (kernels - low) / np.where(span > 0, span, 1), 128 / 255)
    return np.rint(255 * scaled).astype(np.uint8)
