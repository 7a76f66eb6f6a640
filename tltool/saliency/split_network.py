"""A saved model cut in two where its activations last have places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tltool._keras import import_keras
from tltool._validation import TltoolError
from tltool.backbones.twins import retraced

if TYPE_CHECKING:
    import keras

__all__ = ["SplitNetwork", "kernel_layers"]

_HEAD = "predictions"

# Layers of an ensemble that resize its canvas; nothing in them was learned.
_RESIZING = "resized_"

# Steps between pooled features and the last layer that keep features apart.
_TRANSFORMS = ("Absolute", "Sqrt", "Sign", "Multiply", "UnitNormalization", "Split", "Concatenate")

# Steps that add up places, or rearrange what was added up.
_SUMMING = (
    "AveragePooling2D",
    "Concatenate",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "MaxPooling2D",
    "Mean",
    "Reshape",
    "Split",
    "Take",
    "Transpose",
)

_POOLINGS = ("MaxPooling2D", "AveragePooling2D")


@dataclass(frozen=True)
class _Step:
    """One operation of the graph: the tensors that it took and gave."""

    operation: Any
    taken: tuple[Any, ...]
    given: tuple[Any, ...]


class SplitNetwork:
    """A model from pixels to probabilities, in two parts: up to the last activations, and above.

    The last activations are those that have places (height and width) and from which nothing
    leads back to such: what is averaged, or flattened, for the head. Poolings directly above a
    convolution belong to the upper part. There are several where features come from several
    layers, or in an ensemble. `views` says of each how many views of an image it is of, one after
    the other: none for the image alone, two numbers where views are shown views of themselves.

    Args:
        model: its last layer is called `predictions`; models inside it are gone through.

    Raises:
        TltoolError: nothing in it has places.
    """

    def __init__(self, model: keras.Model) -> None:
        keras = import_keras()
        steps: list[_Step] = []

        def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
            found = operation(*args, **kwargs)
            taken = tuple(t for t in keras.tree.flatten((args, kwargs)) if _is_tensor(t))
            steps.append(_Step(operation, taken, tuple(keras.tree.flatten(found))))
            return found

        canvas = keras.Input(model.input_shape[1:], dtype=model.inputs[0].dtype)
        retraced(model, canvas, call)
        head = next(step for step in reversed(steps) if step.operation.name == _HEAD)
        frontier = _frontier(steps)
        if not frontier:
            raise TltoolError(
                "This model has no activations with places, so there is no map of them; an "
                "occlusion map can be had of any."
            )
        features = head.taken[0]
        pooled = _before_transforms(steps, features, frontier)
        self.linear = pooled is not None
        self.views = [_views_below(steps, tensor) for tensor in frontier]
        self.lower = keras.Model(canvas, frontier)
        wanted = [features] if pooled is None or pooled is features else [pooled, features]
        self._upper = keras.Model(frontier, wanted)
        self._head = head.operation

    def upper(self, activations: Sequence[Any]) -> tuple[Any, Any]:
        """Pooled features, where the head is linear in them, and what it is given; `(n, d)`."""
        found = self._upper(list(activations), training=False)
        given = list(found) if isinstance(found, list | tuple) else [found]
        return given[0], given[-1]

    @property
    def head(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel `(d, k)` and bias `(k,)` of the last layer, less their means over the classes.

        What all classes have in common the softmax does not see.
        """
        kernel, bias = (np.asarray(w, np.float32) for w in self._head.get_weights())
        return kernel - kernel.mean(axis=1, keepdims=True), bias - bias.mean()


def kernel_layers(model: keras.Model) -> list[Any]:
    """Layers with a kernel, from the output to the input, each once."""
    found = _layers(model)
    return [x for x in reversed(found) if _kernels(x) and not x.name.startswith(_RESIZING)]


def _layers(model: Any) -> list[Any]:
    keras = import_keras()
    found: list[Any] = []
    for layer in model.layers:
        found += _layers(layer) if isinstance(layer, keras.Model) else [layer]
    return list({id(layer): layer for layer in found}.values())


def _kernels(layer: Any) -> list[Any]:
    """The weights of a layer that are applied to what it is given: not biases, nor norms'."""
    return [w for w in layer.weights if len(w.shape) > 1]


def _is_tensor(value: Any) -> bool:
    return isinstance(value, import_keras().KerasTensor)


def _has_places(tensor: Any) -> bool:
    shape = tensor.shape
    return len(shape) == 4 and None not in shape[1:3] and shape[1] * shape[2] > 1


def _frontier(steps: Sequence[_Step]) -> list[Any]:
    """The last tensors that have places, each once."""
    above: set[int] = set()  # tensors from which something with places follows
    for step in reversed(steps):
        if any(_has_places(t) or id(t) in above for t in step.given):
            above.update(id(t) for t in step.taken)
    made = {id(t): step for step in steps for t in step.given}
    found: dict[int, Any] = {}
    for step in steps:
        if any(_has_places(t) or id(t) in above for t in step.given):
            continue
        for tensor in step.taken:
            if _has_places(tensor) and id(tensor) in made:  # the image itself is none
                while type(made[id(tensor)].operation).__name__ in _POOLINGS:
                    tensor = made[id(tensor)].taken[0]
                found[id(tensor)] = tensor
    return list(found.values())


def _views_below(steps: Sequence[_Step], tensor: Any) -> tuple[int, ...]:
    """How many views were put one after the other on the way to a tensor, the first way first."""
    made = {id(t): step for step in steps for t in step.given}
    found: list[int] = []
    while (step := made.get(id(tensor))) is not None:
        if type(step.operation).__name__ == "Concatenate" and step.operation.axis == 0:
            found.insert(0, len(step.taken))
        tensor = step.taken[0]
    return tuple(found)


def _before_transforms(steps: Sequence[_Step], features: Any, frontier: Sequence[Any]) -> Any:
    """The pooled features that the last layer's were made of; None where more lies in between.

    They are sums over places, and the last layer's follow from them one by one.
    """
    made = {id(t): step for step in steps for t in step.given}
    (found, *others), _ = _walked(made, [features], _TRANSFORMS)
    _, strange = _walked(made, [found], _SUMMING, {id(t) for t in frontier})
    whole = len(found.shape) == 2 and found.shape[1] == features.shape[1]
    return found if whole and not others and not strange else None


def _walked(
    made: dict[int, _Step], tensors: Sequence[Any], kinds: Sequence[str], ends: Any = ()
) -> tuple[list[Any], bool]:
    """Where one comes to, going down through operations of some kinds alone.

    Returns:
        The tensors, and whether any of them is none of `ends`.
    """
    waiting, seen, found = list(tensors), set(), []
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        step = made.get(id(tensor))
        going = step is not None and id(tensor) not in ends
        if going and step and type(step.operation).__name__ in kinds and _goes(step, kinds):
            waiting += step.taken
        else:
            found.append(tensor)
    return found, any(id(tensor) not in ends for tensor in found)


def _goes(step: _Step, kinds: Sequence[str]) -> bool:
    """Whether it is no joining of taps, below which there are poolings."""
    return step.operation.name != "taps" or kinds is _SUMMING
