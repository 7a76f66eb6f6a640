"""Several saved models made into one: what they have in common is computed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tltool._keras import import_keras
from tltool._presets import Views
from tltool.backbones.twins import retraced
from tltool.backbones.views import views_model
from tltool.combining import SMALLEST, Combination
from tltool.linear.calibration import Calibration

if TYPE_CHECKING:
    import keras

__all__ = ["Merger", "combined_model", "of_one_view", "on_views"]

# As in `backbones.views`: halves are common among resized levels, and engines must agree on them.
_ROUND_AT = 0.5 + 1 / 512


def combined_model(
    models: Sequence[keras.Model],
    combination: Combination,
    calibration: Calibration,
    canvas_size: tuple[int, int],
    *,
    inside: bool = True,
) -> keras.Model:
    """One model of several and of how their probabilities are combined.

    Args:
        models: from raw pixels `(n, height, width, 3)`, uint8, of any size each, to probabilities
            `(n, k)` of the same classes in the same order.
        combination: of as many members; those that weigh nothing are left out.
        calibration: of the combined scores.
        canvas_size: height and width of what it takes; members that take another size are given
            it resized.
        inside: whether models inside them are taken apart, so that those that share some of their
            layers share them here; `of_one_view` needs the network as a whole.

    Returns:
        From raw pixels `(n, *canvas_size, 3)`, uint8, to probabilities `(n, k)`, the last layer
        called `predictions`.
    """
    keras = import_keras()
    ops = keras.ops
    merger = Merger(canvas_size, inside=inside)
    head = combination.head
    weighed = head is None
    used = [i for i, w in enumerate(combination.weights) if not weighed or w > 0]
    said = [merger.add(models[i], f"m{i + 1}_") for i in used]
    shares = [float(combination.weights[i]) for i in used]
    if not weighed or combination.method == "geometric-mean":
        said = [ops.log(ops.maximum(p, SMALLEST)) for p in said]
    if head is None:
        found = said[0] * shares[0]
        for share, one in zip(shares[1:], said[1:], strict=True):
            found = found + one * share
        if combination.method != "geometric-mean":
            found = ops.log(ops.maximum(found, SMALLEST))
        kernel, bias = np.eye(len(calibration.scale)), np.zeros(len(calibration.scale))
    else:
        found = ops.concatenate(said, axis=1)
        kernel, bias = head.kernel, head.bias
    last = keras.layers.Dense(kernel.shape[1], activation="softmax", name="predictions")
    model = keras.Model(merger.canvas, last(found), name="ensemble")
    last.set_weights(
        [kernel * calibration.scale, bias * calibration.scale + calibration.offset],
    )
    model.trainable = False
    return model


def on_views(model: keras.Model, views: Views, input_size: tuple[int, int]) -> keras.Model:
    """A model whose probabilities are averaged over views of an image.

    Args:
        model: from raw pixels `(n, *input_size, 3)`, uint8, to probabilities `(n, k)`.
        views: which; not random ones.
        input_size: height and width.
    """
    keras = import_keras()
    several = views_model(model, views, views.canvas_size(input_size))
    return keras.Model(several.input, keras.ops.mean(several.output, axis=1))


def of_one_view(model: keras.Model, wanted: Any = None) -> keras.Model:
    """From a single picture, of a model that is given features of several.

    It is told that all views of the image have the features of that one.

    Args:
        model: it holds the network as a model of its own, on the views of `views_model`.
        wanted: a tensor of the model beyond those; None for what it gives.
    """
    keras = import_keras()
    ops = keras.ops
    (inner,) = (layer for layer in model.layers if isinstance(layer, keras.Model))
    (each,) = (found for found in model.operations if type(found).__name__ == "Transpose")
    n_views = each.output.shape[1]
    wanted = model.output if wanted is None else wanted
    same = ops.repeat(ops.expand_dims(inner.output, 1), n_views, axis=1)
    return keras.Model(inner.input, keras.Model(each.output, wanted)(same))


class Merger:
    """Copies models into one graph, on one canvas.

    A layer or operation is not copied where one of the same kind, with the same settings and
    weights, is already done to the same tensors: members that share a backbone, its lower blocks
    or nothing but its preprocessing run that once.

    Args:
        canvas_size: height and width of the canvas.
        inside: whether models inside them are taken apart, or copied as a whole.
    """

    def __init__(self, canvas_size: tuple[int, int], *, inside: bool = True) -> None:
        keras = import_keras()
        self._inside = inside
        self.canvas = keras.Input((*canvas_size, 3), dtype="uint8", name="canvas")
        self._size = canvas_size
        self._known: dict[tuple[str, ...], Any] = {}
        self._copies: dict[str, Any] = {}
        self._names: dict[int, str] = {id(self.canvas): "canvas"}
        self._tensors: list[Any] = []
        self._taken: set[str] = set()

    def add(self, model: keras.Model, prefix: str) -> Any:
        """What a model gives for the canvas, as a Keras tensor.

        Args:
            model: with one input, raw pixels of any size, and one output.
            prefix: before the names of its layers.
        """
        size = tuple(model.input_shape[1:3])
        pixels = self.canvas if size == self._size else self._resized(size)

        def done(operation: Any, *args: Any, **kwargs: Any) -> Any:
            return self._done(operation, args, kwargs, prefix)

        return retraced(model, pixels, done, inside=self._inside)

    def _done(self, operation: Any, args: Any, kwargs: Any, prefix: str) -> Any:
        keras = import_keras()
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        kind = _fingerprint(operation)
        key = (kind, self._described(args), self._described(kwargs))
        if key not in self._known:
            weights = getattr(operation, "weights", ())
            copy = self._copies.get(kind)
            if copy is not None:  # the same weights once more, on something else
                found = copy(*args, **kwargs)
            else:
                config = operation.get_config() | {"name": self._free(prefix + operation.name)}
                copy = type(operation).from_config(config)
                found = copy(*args, **kwargs)
                if weights:
                    copy.set_weights(operation.get_weights())
                    self._copies[kind] = copy
            for tensor in keras.tree.flatten(found):
                self._names[id(tensor)] = f"tensor {len(self._names)}"
                self._tensors.append(tensor)  # so that no other takes its id
            self._known[key] = found
        return self._known[key]

    def _free(self, name: str) -> str:
        """A name that no layer has yet."""
        number, free = 1, name
        while free in self._taken:
            number += 1
            free = f"{name}_{number}"
        self._taken.add(free)
        return free

    def _described(self, value: Any) -> str:
        """Arguments of an operation, tensors by what gave them."""
        keras = import_keras()
        if isinstance(value, keras.KerasTensor):
            return self._names[id(value)]
        if isinstance(value, dict):
            return repr({name: self._described(v) for name, v in sorted(value.items())})
        if isinstance(value, list | tuple):
            return repr([self._described(v) for v in value])
        if hasattr(value, "__array__"):
            array = np.asarray(value)
            digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
            return f"{array.dtype}{array.shape}{digest}"
        return repr(value)

    def _resized(self, size: tuple[int, int]) -> Any:
        """The canvas at another size, as Pillow's bilinear filter makes it."""
        keras = import_keras()
        ops = keras.ops
        name = f"resized_{size[0]}x{size[1]}"
        key = (name,)
        if key not in self._known:
            found = ops.cast(self.canvas, "float32")
            for axis, equation in ((1, "nhwc,wv->nhvc"), (0, "nhwc,hu->nuwc")):
                if self._size[axis] == size[axis]:
                    continue
                filter_ = _bilinear(self._size[axis], size[axis])
                shape = [None, None, 3]
                shape[axis] = size[axis]
                shape[1 - axis] = found.shape[2 - axis]
                layer = keras.layers.EinsumDense(
                    equation, shape, name=f"{name}_{'rows' if axis == 0 else 'columns'}"
                )
                found = layer(found)
                layer.set_weights([filter_])
                found = ops.floor(found + _ROUND_AT)
            found = ops.cast(ops.clip(found, 0, 255), "uint8")
            self._names[id(found)] = name
            self._known[key] = found
        return self._known[key]


def _fingerprint(operation: Any) -> str:
    """Tells what an operation does, but for what it is called."""
    config = {k: v for k, v in operation.get_config().items() if k != "name"}
    config.pop("trainable", None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=repr).encode())
    for array in operation.get_weights() if hasattr(operation, "get_weights") else ():
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return f"{type(operation).__module__}.{type(operation).__name__} {digest.hexdigest()}"


def _bilinear(given: int, wanted: int) -> np.ndarray:
    """Pillow's filter between two lengths as a matrix `(given, wanted)`, float32."""
    unit = Image.fromarray(np.eye(given, dtype=np.float32))
    return np.asarray(unit.resize((wanted, given), Image.Resampling.BILINEAR), np.float32)
