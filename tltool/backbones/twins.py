"""A network once more: with its weights, but to be trained, or fed with other numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tltool._keras import import_keras
from tltool.backbones.build import PREPROCESSING, build_network
from tltool.backbones.pooling import pool
from tltool.backbones.taps import TapPart

if TYPE_CHECKING:
    import keras

    from tltool.backbones.backbone import Backbone

__all__ = ["activations", "in_bfloat16", "pooled_features", "retraced", "twin"]


def twin(backbone: Backbone, precision: str = "float32") -> keras.Model:
    """A backbone's network once more, from pixels `(n, height, width, 3)`, float32, 0-255.

    It has the same layers, names and weights, and none of them is the backbone's own.

    Args:
        backbone: which network.
        precision: "float32", or "bfloat16" to compute in that; weights are float32 in both.
    """
    network = build_network(
        backbone.preset, backbone.input_size, backbone.built_classes, dtype="float32"
    )
    network.set_weights(backbone.network.get_weights())
    return in_bfloat16(network) if precision == "bfloat16" else network


def in_bfloat16(model: keras.Model) -> keras.Model:
    """A copy whose layers compute in bfloat16."""
    keras = import_keras()

    def copy(layer: Any) -> Any:
        if isinstance(layer, keras.Model):
            return in_bfloat16(layer)
        config = layer.get_config()
        # what preprocessing gives out is the network's input: that stays as exact as it is
        kept = layer.name == PREPROCESSING or isinstance(layer, keras.layers.InputLayer)
        if isinstance(layer, keras.layers.Layer) and not kept:  # operations have no precision
            config["dtype"] = "mixed_bfloat16"
        return layer.__class__.from_config(config)

    rough = keras.models.clone_model(model, clone_function=copy)
    rough.set_weights(model.get_weights())
    return rough


def activations(network: keras.Model, layer: str) -> Any:
    """What a layer of that name gives, as a Keras tensor."""
    (found,) = (o.output for o in network.operations if o.name == layer)
    return found


def pooled_features(network: keras.Model, parts: Sequence[TapPart]) -> Any:
    """The features of some parts, side by side, as a Keras tensor `(n, d)`."""
    keras = import_keras()
    pooled = [
        pool(activations(network, part.layer), part.pooling, f"{part.layer}_{part.pooling}")
        for part in parts
    ]
    return pooled[0] if len(pooled) == 1 else keras.layers.Concatenate(name="taps")(pooled)


def retraced(model: Any, inputs: Any, call: Callable[..., Any], *, inside: bool = True) -> Any:
    """What a functional model gives for other inputs, operation by operation.

    Args:
        model: with one input and one output.
        inputs: a Keras tensor.
        call: does an operation: it is given that, and what it is applied to.
        inside: whether models inside it are gone through, too, rather than done as a whole.
    """
    keras = import_keras()
    last, given = model.output._keras_history.operation, []

    def step(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if inside and isinstance(operation, keras.Model):
            found = retraced(operation, args[0], call)
        else:
            found = call(operation, *args, **kwargs)
        if operation is last:
            given.append(found)
        return found

    # The model that this returns is not used: Keras has no other way through a graph for all.
    keras.models.clone_model(
        model, input_tensors=inputs, clone_function=lambda layer: layer, call_function=step
    )
    return given[-1]
