"""A network that is looked at: a backbone's, or that of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tltool._keras import import_keras
from tltool._presets import BackbonePreset, backbone_preset
from tltool._validation import TltoolError
from tltool.backbones import Backbone
from tltool.backbones.twins import activations

if TYPE_CHECKING:
    import keras

__all__ = ["LookedAt"]


@dataclass(frozen=True)
class LookedAt:
    """A network to look at; it is made when it is first asked for.

    Args:
        name: of the backbone, or of the run.
        preset: the backbone, or that of the run.
        input_size: height and width in pixels.
        weights: where they come from, in words.
        random: whether they are random, and untrained.
        key: tells network and weights from all others; None where no compiled copy is to be kept.
        make: makes the model, from pixels `(n, height, width, 3)`, uint8.
        whole: whether it is known to have all layers below the classification layers.
    """

    name: str
    preset: BackbonePreset
    input_size: tuple[int, int]
    weights: str
    random: bool
    key: str | None
    make: Callable[[], keras.Model]
    whole: bool

    @classmethod
    def backbone(cls, name: str, weights: str | None = None) -> LookedAt:
        """A backbone.

        Args:
            name: of the preset.
            weights: "imagenet", "none" (random), a file, or None for its own.

        Raises:
            TltoolError: weights that are missing or do not fit.

        Example:
            >>> LookedAt.backbone("cifar-resnet20").network.output_shape
            (None, 8, 8, 64)
        """
        # the last block as its tap: its own may need classification layers, and their weights
        found = Backbone(name, weights, taps=list(backbone_preset(name).blocks)[-1])
        return cls(
            name,
            found.preset,
            found.input_size,
            found.weights.source,
            found.weights.seed is not None,
            found.key if found.weights.path else None,
            lambda: found.network,
            whole=True,
        )

    @cached_property
    def network(self) -> keras.Model:
        """The model itself; of one that shows several views of an image, the part that sees one."""
        keras = import_keras()
        model = self.make()
        return next((layer for layer in model.layers if isinstance(layer, keras.Model)), model)

    def layers(self) -> set[str] | None:
        """Names of the layers that it has; None for all below the classification layers."""
        return None if self.whole else {o.name for o in self.network.operations}

    def engine_key(self, layer: str) -> str | None:
        """What its maxima at a layer are kept under, compiled for an engine."""
        if self.key is None:
            return None
        return f"{self.key}-maxima-{hashlib.sha256(layer.encode()).hexdigest()[:12]}"

    def maps(self, layer: str, pixels: np.ndarray) -> np.ndarray:
        """What a layer gives of an image, `(height, width, channels)`, float32.

        Args:
            layer: its Keras name.
            pixels: `(height, width, 3)`, uint8, of the network's input size.

        Raises:
            TltoolError: the network gives no finite numbers.
        """
        keras = import_keras()
        model = keras.Model(self.network.input, activations(self.network, layer))
        found = np.asarray(model(pixels[None], training=False), np.float32)[0]
        if not np.isfinite(found).all():
            raise TltoolError(
                "The network gives activations that are no finite numbers; its weights are "
                "damaged, fetch them again."
            )
        return found
