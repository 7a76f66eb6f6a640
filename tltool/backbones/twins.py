"""A network once more: with its weights, but to be trained, or fed with other numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tltool._keras import import_keras
from tltool.backbones.build import build_network
from tltool.backbones.pooling import pool
from tltool.backbones.taps import TapPart

if TYPE_CHECKING:
    import keras

    from tltool.backbones.backbone import Backbone

__all__ = ["activations", "pooled_features", "twin"]


def twin(backbone: Backbone) -> keras.Model:
    """A backbone's network once more, from pixels `(n, height, width, 3)`, float32, 0-255.

    It has the same layers, names and weights, and none of them is the backbone's own.
    """
    network = build_network(
        backbone.preset, backbone.input_size, backbone.built_classes, dtype="float32"
    )
    network.set_weights(backbone.network.get_weights())
    return network


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
