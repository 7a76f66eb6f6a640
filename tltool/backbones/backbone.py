"""A pretrained network that takes raw pixels and gives features."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from tltool._keras import import_keras
from tltool._presets import BackbonePreset, backbone_preset
from tltool.backbones.weights import Weights, find_weights, load_weights

if TYPE_CHECKING:
    import keras

__all__ = ["Backbone"]


class Backbone:
    """One network, its weights and its preprocessing.

    Making one finds and hashes the weights; the network itself is built when `model` is first
    asked for, so that a run whose features are all stored builds it once, to save it.

    Args:
        name: of a preset, see `tltool.backbone_names()`.
        weights: a file, "imagenet", "none" (random), or None for the preset's own.
        seed: of random weights.

    Raises:
        TltoolError: unknown name, or weights that are missing or do not fit.

    Example:
        >>> Backbone("cifar-resnet20").model.output_shape
        (None, 64)
    """

    def __init__(self, name: str, weights: str | None = None, seed: int = 0) -> None:
        self.preset: BackbonePreset = backbone_preset(name)
        self.weights: Weights = find_weights(self.preset, weights, seed)

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images it takes."""
        return self.preset.input_size

    @cached_property
    def model(self) -> keras.Model:
        """From raw pixels `(n, height, width, 3)`, uint8, 0-255, RGB, to features `(n, d)` float32.

        Preprocessing is inside; every layer is a standard one, none is trainable.
        """
        keras = import_keras()

        height, width = self.canvas_size
        pixels = keras.Input((height, width, 3), dtype="uint8", name="pixels")
        if self.weights.seed is not None:
            keras.utils.set_random_seed(self.weights.seed)
        network = self._network(self._preprocess(pixels))
        load_weights(network, self.preset, self.weights)
        tapped = network.get_layer(self.preset.tap).output
        features = keras.layers.GlobalAveragePooling2D(name="avgpool")(tapped)
        model = keras.Model(pixels, features, name=self.preset.name.replace(".", "_"))
        model.trainable = False
        return model

    def _preprocess(self, pixels: Any) -> Any:
        keras = import_keras()

        how = self.preset.preprocessing
        if how.channels == "BGR":
            pixels = keras.ops.flip(pixels, axis=-1)
        return keras.layers.Rescaling(list(how.scale), list(how.offset), name="preprocessing")(
            pixels
        )

    def _network(self, inputs: Any) -> keras.Model:
        """The network with initial weights, without its classification layers."""
        keras = import_keras()

        if self.preset.builder == "cifar_resnet":
            from tltool.backbones.cifar_resnet import cifar_resnet

            return cifar_resnet(inputs, **self.preset.arguments)
        builder = getattr(keras.applications, self.preset.builder)
        return builder(
            include_top=False, weights=None, input_tensor=inputs, **self.preset.arguments
        )
