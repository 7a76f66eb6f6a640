"""Which part of the image an output position of a layer depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from tltool._keras import import_keras
from tltool._validation import TltoolError
from tltool.backbones.layer_table import LayerRow
from tltool.data import Example, UnreadableImageError, read_image
from tltool.features import checked_bytes

if TYPE_CHECKING:
    import keras

__all__ = ["ReceptiveField", "crops", "receptive_field"]

# Below so many pixels a crop is enlarged pixel by pixel: blur would hide how few there are.
_FEW_PIXELS = 24


@dataclass(frozen=True)
class ReceptiveField:
    """The squares of the image that the output positions of a layer depend on.

    Args:
        side: of a square in pixels; None where each position depends on the whole image.
        stride: pixels between the middles of neighbouring squares.
        first: row and column of the middle of the first square; pixel 0 has its middle at 0.
        canvas: height and width of the image in pixels.
        positions: height and width of the layer's output.
    """

    side: int | None
    stride: int
    first: tuple[float, float]
    canvas: tuple[int, int]
    positions: tuple[int, int]

    def box(self, place: int) -> tuple[float, float, float, float]:
        """The square of one position, cut off at the edges of the image.

        Args:
            place: number of the position, row by row, from 0.

        Returns:
            Left, top, right and bottom edge in pixels, as Pillow crops; pixel `i` reaches from `i`
            to `i + 1`. The whole image where the field is larger than it.
        """
        height, width = self.canvas
        if self.side is None or self.side >= max(height, width):
            return 0.0, 0.0, float(width), float(height)
        row, column = divmod(place, self.positions[1])
        top, bottom = self._edges(self.first[0] + row * self.stride, height)
        left, right = self._edges(self.first[1] + column * self.stride, width)
        return left, top, right, bottom

    def _edges(self, middle: float, length: int) -> tuple[float, float]:
        """Where a square begins and ends along one axis; at least a pixel of it is kept."""
        reach = (self.side or 0) / 2
        low = min(max(middle + 0.5 - reach, 0.0), length - 1.0)
        high = max(min(middle + 0.5 + reach, float(length)), low + 1.0)
        return low, high


def receptive_field(
    network: keras.Model, layer: str, rows: Mapping[str, LayerRow], canvas: tuple[int, int]
) -> ReceptiveField:
    """Where the output positions of a layer look.

    Side and stride come from the table of layers. Where the squares lie follows from the padding:
    of `h` positions along `H` pixels position `i` has its middle at
    `(H - 1) / 2 + (i - (h - 1) / 2) * stride` if all padding is symmetric. Many networks pad an
    even side on the right alone, so the padding of every layer is added up instead.

    Args:
        network: a functional model whose layers are each used once.
        layer: name of one whose output is `(n, height, width, channels)`.
        rows: of the network's table of layers, by name.
        canvas: height and width of the image in pixels.

    Source: Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks",
    Distill 2019, https://doi.org/10.23915/distill.00021 (padding and offset: section "Computing
    receptive field region")

    Example:
        >>> field = receptive_field(backbone.network, "conv_pw_4_relu", rows, (224, 224))
        >>> field.side, field.stride, field.box(0)
        (27, 8, (0.0, 0.0, 21.0, 21.0))
    """
    row = rows[layer]
    height, width = row.output_shape[:2]
    if row.receptive_field is None or row.stride is None:
        return ReceptiveField(None, 1, (0.0, 0.0), canvas, (height, width))
    first = _middles(network, rows)[layer]
    return ReceptiveField(row.receptive_field, row.stride, first, canvas, (height, width))


def _middles(network: keras.Model, rows: Mapping[str, LayerRow]) -> dict[str, tuple[float, float]]:
    """Row and column of the middle of each layer's first field, for layers that have fields."""
    found: dict[str, tuple[float, float]] = {}
    strides: dict[str, int] = {}
    for operation in network.operations:
        tensors = operation._inbound_nodes[0].input_tensors if operation._inbound_nodes else []
        below = [tensor._keras_history.operation.name for tensor in tensors]
        below = [name for name in below if name in found]
        name = operation.name
        if not tensors:
            found[name], strides[name] = (0.0, 0.0), 1
        row = rows.get(name)
        if not below or row is None or row.stride is None:
            continue
        widest = max(below, key=lambda one: rows[one].receptive_field or math.inf)
        down, across = (_shift(operation, axis) * strides[widest] for axis in (0, 1))
        found[name] = (found[widest][0] + down, found[widest][1] + across)
        strides[name] = row.stride
    return found


def _shift(operation: Any, axis: int) -> float:
    """How far an operation's first window has its middle from the first position below it."""
    keras = import_keras()

    if isinstance(operation, keras.layers.ZeroPadding2D):
        return -float(operation.padding[axis][0])
    window = getattr(operation, "kernel_size", None) or getattr(operation, "pool_size", None)
    if window is None:
        return 0.0
    reach = (window[axis] - 1) * getattr(operation, "dilation_rate", (1, 1))[axis]
    before = 0
    if operation.padding == "same":
        length, stride = operation.input.shape[1 + axis], operation.strides[axis]
        covered = (math.ceil(length / stride) - 1) * stride + reach + 1
        before = max(covered - length, 0) // 2
    return reach / 2 - before


def crops(
    wanted: Sequence[tuple[Example, tuple[float, float, float, float]]],
    canvas: tuple[int, int],
    side: int,
) -> list[Image.Image]:
    """Parts of images, cut out of the original pictures, which are sharper than the canvas.

    Args:
        wanted: an image and a box on its canvas: left, top, right and bottom edge in pixels.
        canvas: height and width of that.
        side: of a crop's longer edge in pixels.

    Returns:
        A picture of mode RGB each, in the original's proportions; each file is decoded once.

    Raises:
        TltoolError: a file that changed or went since it was checked.
    """
    height, width = canvas
    found: list[Image.Image | None] = [None] * len(wanted)
    of_image: dict[bytes, list[int]] = {}
    for i, (example, _) in enumerate(wanted):
        of_image.setdefault(example.hash, []).append(i)
    for rows in of_image.values():
        example = wanted[rows[0]][0]
        boxes = [wanted[i][1] for i in rows]
        narrowest = min(max(right - left, bottom - top) for left, top, right, bottom in boxes)
        enough = math.ceil(side * max(canvas) / narrowest)
        try:
            picture = read_image(checked_bytes(example), smallest_side=enough)
        except UnreadableImageError as error:
            raise TltoolError(
                f"{example.name} {error}; mend or remove it, and run again."
            ) from error
        across, down = picture.width / width, picture.height / height
        for i, (left, top, right, bottom) in zip(rows, boxes, strict=True):
            box = (left * across, top * down, right * across, bottom * down)
            found[i] = _cut(picture, box, side)
    return [one for one in found if one is not None]


def _cut(picture: Image.Image, box: tuple[float, float, float, float], side: int) -> Image.Image:
    """Part of a picture, its longer edge brought to a side."""
    across, down = box[2] - box[0], box[3] - box[1]
    factor = side / max(across, down)
    size = (max(1, round(across * factor)), max(1, round(down * factor)))
    few = max(across, down) < _FEW_PIXELS
    how = Image.Resampling.NEAREST if few else Image.Resampling.BICUBIC
    return picture.resize(size, how, box)
