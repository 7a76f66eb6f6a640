"""What each layer of a network is: shapes, parameters, multiply-adds, receptive fields."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tltool._keras import import_keras

if TYPE_CHECKING:
    import keras

__all__ = ["BlockRow", "LayerRow", "block_rows", "layer_rows"]


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Args:
        name: its Keras name.
        kind: its Keras class.
        output_shape: without the batch: `(height, width, channels)` or `(features,)`.
        parameters: weights and biases, and what batch normalisation remembers.
        multiply_adds: of one image; convolutions and fully connected layers count.
        fully_connected: weights that a fully connected layer between the same input and output
            would have; None for layers without kernels.
        receptive_field: side in pixels of the square of the input that one output position
            depends on; None for all of it. Gates that see the whole image (squeeze and
            excitation) are left out.
        stride: pixels of the input between neighbouring output positions; None where there are
            none.
        block: the preset's block that it belongs to; "" above the last one.
        boundary: whether it ends that block, so that all up to it can be frozen.
        taps: names under which the preset offers it.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    fully_connected: int | None
    receptive_field: int | None
    stride: int | None
    block: str = ""
    boundary: bool = False
    taps: tuple[str, ...] = ()

    @property
    def activations(self) -> int:
        """Numbers it gives an image."""
        return math.prod(self.output_shape)


@dataclass(frozen=True)
class BlockRow:
    """The layers up to a freeze boundary, from the one below; the last row is above them all.

    Args:
        name: of the block; "head" for the classification layers.
        layers: how many, activations and the like included.
        output_shape: of its last layer, without the batch.
        parameters: of all its layers.
        multiply_adds: of one image.
        receptive_field: of its last layer.
        stride: of its last layer.
        taps: names under which the preset offers that layer.
    """

    name: str
    layers: int
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: int | None
    stride: int | None
    taps: tuple[str, ...]


def layer_rows(
    network: keras.Model,
    blocks: Mapping[str, str] | None = None,
    taps: Mapping[str, str] | None = None,
) -> list[LayerRow]:
    """A row for every layer of a network, inputs first.

    Args:
        network: a functional model whose layers are each used once.
        blocks: name to the layer that ends the block, from the input up.
        taps: name to `layer` or `layer:pooling`.

    Source of the receptive field: `field += (kernel - 1) * stride so far`, see Araujo, Norris,
    Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019,
    https://doi.org/10.23915/distill.00021
    """
    blocks, taps = blocks or {}, taps or {}
    names_of: dict[str, list[str]] = {}
    for tap, where in taps.items():
        names_of.setdefault(where.partition(":")[0], []).append(tap)
    ends = {layer: block for block, layer in blocks.items()}
    block_of = _blocks(network, blocks)
    fields: dict[str, _Field] = {}
    rows = []
    for operation in network.operations:
        below = [fields[op.name] for op in _inputs(operation)]
        fields[operation.name] = field = _field_after(operation, below)
        rows.append(
            LayerRow(
                name=operation.name,
                kind=type(operation).__name__,
                output_shape=tuple(operation.output.shape[1:]),
                parameters=sum(math.prod(w.shape) for w in getattr(operation, "weights", ())),
                multiply_adds=_multiply_adds(operation),
                fully_connected=_fully_connected(operation),
                receptive_field=None if field.size is None else max(field.size),
                stride=None if field.stride is None else max(field.stride),
                block=block_of.get(operation.name, ""),
                boundary=operation.name in ends,
                taps=tuple(names_of.get(operation.name, ())),
            )
        )
    return rows


def block_rows(rows: Sequence[LayerRow]) -> list[BlockRow]:
    """Rows of layers added up by block."""
    found = []
    for name in dict.fromkeys(row.block for row in rows):
        members = [row for row in rows if row.block == name]
        last = next((row for row in members if row.boundary), members[-1])
        found.append(
            BlockRow(
                name=name or "head",
                layers=len(members),
                output_shape=last.output_shape,
                parameters=sum(row.parameters for row in members),
                multiply_adds=sum(row.multiply_adds for row in members),
                receptive_field=last.receptive_field,
                stride=last.stride,
                taps=last.taps if name else tuple(t for row in members for t in row.taps),
            )
        )
    return found


@dataclass(frozen=True)
class _Field:
    """Receptive field and stride of an output, each as (vertical, horizontal) pixels of the input.

    None for all of it.
    """

    size: tuple[int, int] | None
    stride: tuple[int, int] | None


def _inputs(operation: Any) -> list[Any]:
    """The operations whose outputs this one takes."""
    tensors = operation._inbound_nodes[0].input_tensors if operation._inbound_nodes else []
    return [tensor._keras_history.operation for tensor in tensors]


def _blocks(network: keras.Model, blocks: Mapping[str, str]) -> dict[str, str]:
    """The block of each layer: the first one whose end depends on it."""
    by_name = {operation.name: operation for operation in network.operations}
    block_of: dict[str, str] = {}
    for block, end in blocks.items():
        waiting = [by_name[end]]
        while waiting:
            operation = waiting.pop()
            if operation.name not in block_of:
                block_of[operation.name] = block
                waiting.extend(_inputs(operation))
    return block_of


def _field_after(operation: Any, below: Sequence[_Field]) -> _Field:
    keras = import_keras()
    layers = keras.layers

    if not below:
        return _Field((1, 1), (1, 1))
    whole = _Field(None, None)
    if isinstance(
        operation,
        layers.GlobalAveragePooling2D | layers.GlobalMaxPooling2D | layers.Flatten | layers.Dense,
    ):
        return whole
    if isinstance(operation, layers.Multiply):  # a gate beside what it gates
        return min(below, key=lambda f: math.inf if f.size is None else max(f.size))
    sizes = [f.size for f in below if f.size is not None]
    field = whole
    if len(sizes) == len(below):
        field = _Field((max(s[0] for s in sizes), max(s[1] for s in sizes)), below[0].stride)
    window = getattr(operation, "kernel_size", None) or getattr(operation, "pool_size", None)
    if window is None or field.size is None or field.stride is None:
        return field
    spread = getattr(operation, "dilation_rate", (1, 1))
    steps = operation.strides
    return _Field(
        (
            field.size[0] + (window[0] - 1) * spread[0] * field.stride[0],
            field.size[1] + (window[1] - 1) * spread[1] * field.stride[1],
        ),
        (field.stride[0] * steps[0], field.stride[1] * steps[1]),
    )


def _multiply_adds(operation: Any) -> int:
    """Each weight of a kernel once for every place where it is applied."""
    places = math.prod(operation.output.shape[1:-1])
    kernel = _kernel(operation)
    return 0 if kernel is None else places * math.prod(kernel.shape)


def _fully_connected(operation: Any) -> int | None:
    if _kernel(operation) is None:
        return None
    return math.prod(operation.input.shape[1:]) * math.prod(operation.output.shape[1:])


def _kernel(operation: Any) -> Any:
    """The kernel of a convolution or a fully connected layer; None for other layers."""
    keras = import_keras()
    layers = keras.layers

    if isinstance(operation, layers.Conv2D | layers.DepthwiseConv2D | layers.Dense):
        return operation.kernel
    return None
