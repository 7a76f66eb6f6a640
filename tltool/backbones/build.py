"""A preset -> a Keras network with initial weights."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tltool._keras import import_keras
from tltool._presets import BackbonePreset, Preprocessing

if TYPE_CHECKING:
    import keras

__all__ = ["PREPROCESSING", "automatic_name", "build_network"]

# The layer that scales the pixels; what comes before it works on integers.
PREPROCESSING = "preprocessing"


def build_network(
    preset: BackbonePreset,
    input_size: tuple[int, int],
    classes: int | None = None,
    dtype: str = "uint8",
) -> keras.Model:
    """The network from raw pixels `(n, height, width, 3)`, 0-255, RGB, on.

    Args:
        preset: which one.
        input_size: height and width.
        classes: outputs of its classification layers, before any softmax; None to end with the
            last layer before them.
        dtype: of the pixels.

    Returns:
        A functional model of standard layers. Layers that Keras names itself bear the names that
        a fresh session would give them, whatever was built before.
    """
    keras = import_keras()

    pixels = keras.Input((*input_size, 3), dtype=dtype, name="pixels")
    inputs = _preprocess(pixels, preset.preprocessing)
    if preset.builder in _own_builders():
        network = _own_builders()[preset.builder](inputs, classes=classes, **preset.arguments)
    else:
        head = {} if classes is None else {"classes": classes, "classifier_activation": None}
        network = getattr(keras.applications, preset.builder)(
            include_top=classes is not None,
            weights=None,
            input_tensor=inputs,
            **head,
            **preset.arguments,
        )
    # with its pixels as the one input, where Keras Applications has a list of them
    network = keras.Model(pixels, network.outputs[0], name=network.name)
    _restore_names(network)
    return network


def _own_builders() -> dict[str, Any]:
    """The networks that Keras Applications lacks."""
    from tltool.backbones.cifar_resnet import cifar_resnet
    from tltool.backbones.googlenet import googlenet
    from tltool.backbones.plain import plain_network

    return {"cifar_resnet": cifar_resnet, "googlenet": googlenet, "plain_network": plain_network}


def _preprocess(pixels: Any, how: Preprocessing) -> Any:
    keras = import_keras()

    if how.channels == "BGR":
        pixels = keras.ops.flip(pixels, axis=-1)
    scaled = keras.layers.Rescaling(list(how.scale), list(how.offset), name=PREPROCESSING)(pixels)
    return keras.ops.image.rgb_to_grayscale(scaled) if how.channels == "grey" else scaled


def _restore_names(network: keras.Model) -> None:
    """Number the names that Keras made (`conv2d_97`) from the first again, in their order."""
    made = defaultdict(list)
    for operation in network.operations:
        match = re.fullmatch(rf"({automatic_name(operation)})(?:_(\d+))?", operation.name)
        if match:
            made[match[1]].append((int(match[2] or 0), operation))
    for prefix, operations in made.items():
        for number, (_, operation) in enumerate(sorted(operations, key=lambda pair: pair[0])):
            operation.name = f"{prefix}_{number}" if number else prefix


def automatic_name(operation: Any) -> str:
    """What Keras calls the first unnamed layer of this kind: `conv2d` for `Conv2D`."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(operation).__name__)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
