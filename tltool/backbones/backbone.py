"""A pretrained network that takes raw pixels and gives features."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tltool._keras import import_keras
from tltool._presets import BackbonePreset, backbone_preset
from tltool._validation import TltoolError
from tltool.backbones.build import PREPROCESSING, build_network
from tltool.backbones.layers import layer_table
from tltool.backbones.pooling import mirror_order, width
from tltool.backbones.taps import Tap, TapPart, parse_taps
from tltool.backbones.twins import activations, pooled_features
from tltool.backbones.weight_files import read_weights
from tltool.backbones.weights import Weights, find_weights

if TYPE_CHECKING:
    import keras

__all__ = ["Backbone", "check_input_size"]

# Beyond it a batch of activations no longer fits into a laptop's memory.
_LARGEST_INPUT = 2048

# Counts changes of what the builders build.
_DEFINITIONS = 1


class Backbone:
    """One network, its weights, its preprocessing, and the layers that its features come from.

    Making one finds and hashes the weights; the network itself is built when it is first asked
    for, so that a run whose features are all stored builds it once, to save it.

    Args:
        name: of a preset, see `tltool.backbone_names()`.
        weights: a file, "imagenet", "none" (random), or None for the preset's own.
        seed: of random weights.
        taps: feature layers, named by the preset or by Keras, each with an optional pooling
            (`avg`, `max`, `grid2`, `grid3`, `flatten`, or several, `avg+max`):
            `"stage3:max,avgpool"` or one by one; None for
            the preset's own.
        input_size: height and width in pixels, or one number for both; None for the preset's.

    Raises:
        TltoolError: unknown name, layer or pooling; a size that the network cannot take; weights
            that are missing or do not fit.

    Example:
        >>> Backbone("cifar-resnet20").model.output_shape
        (None, 64)
        >>> Backbone("cifar-resnet20", taps="stage2,stage3:max").model.output_shape
        (None, 96)
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        seed: int = 0,
        *,
        taps: str | Sequence[str] | None = None,
        input_size: str | int | Sequence[int] | None = None,
    ) -> None:
        self.preset: BackbonePreset = backbone_preset(name)
        self.input_size = check_input_size(self.preset, input_size)
        self.taps: tuple[Tap, ...] = parse_taps(self.preset, taps, self._kinds_of_layers)
        head = next((tap for tap in self.taps if tap.in_head), None)
        if head and self.preset.fixed_head and self.input_size != self.preset.input_size:
            height, width = self.preset.input_size
            raise TltoolError(
                f"--tap {head.name} lies in fully connected layers of {name}, which take images of "
                f"{height}x{width} pixels alone; leave --input-size out, or choose another tap."
            )
        self._with_head = head is not None
        self.weights: Weights = find_weights(self.preset, weights, seed, head=self._with_head)
        self._derived: dict[str, Backbone] = {}
        self._built: list[keras.Model] = []

    def with_weights(self, arrays: Sequence[np.ndarray], source: str) -> Backbone:
        """The same network with other weights.

        Args:
            arrays: as `network.get_weights()` gives them, in its order.
            source: where they come from, in words.
        """
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        known = digest.hexdigest()
        if known not in self._derived:
            other = self._copied()
            other.weights = Weights(None, source, lambda: known, arrays=tuple(arrays))
            self._derived[known] = other
        return self._derived[known]

    def tapping(self, taps: str) -> Backbone:
        """The same network with other feature layers; it is built once for both.

        Raises:
            TltoolError: an unknown layer or pooling.
        """
        other = self._copied()
        other.taps = parse_taps(self.preset, taps, self._kinds_of_layers)
        other._built = self._built
        return other

    def with_head(self) -> Backbone:
        """The same network and weights with the classification layers.

        Whether the weights hold these shows when it is built.
        """
        other = self._copied()
        other._with_head = True
        return other

    def _copied(self) -> Backbone:
        """One that has built nothing yet."""
        other = copy.copy(self)
        other._derived, other._built = {}, []
        other.__dict__.pop("model", None)
        return other

    @property
    def built_classes(self) -> int | None:
        """Outputs of the classification layers, where the network is built with them."""
        return self.preset.classes if self._with_head else None

    @property
    def definition(self) -> str:
        """Tells the network and its preprocessing from all others: 16 hexadecimal digits.

        Besides the weights and the size of the canvas it is what features follow from.
        """
        preset = self.preset
        facts = (_DEFINITIONS, preset.builder, dict(preset.arguments), preset.preprocessing)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    @property
    def key(self) -> str:
        """Tells the network, its weights and its input size from all others; a file name."""
        height, width = self.input_size
        name = f"{self.preset.name}-{height}x{width}-{self.definition}"
        return f"{name}-{self.weights.hash[:24]}"

    @property
    def parts(self) -> tuple[TapPart, ...]:
        """What its features consist of, in order; each is computed once and stored apart."""
        return tuple(dict.fromkeys(part for tap in self.taps for part in tap.parts))

    @cached_property
    def model(self) -> keras.Model:
        """From raw pixels `(n, height, width, 3)`, uint8, 0-255, RGB, to features `(n, d)` float32.

        The features of several taps stand side by side, in the order of `parts`. Preprocessing is
        inside; every layer is a standard one, none is trainable.
        """
        return self.model_of(self.parts)

    @property
    def network(self) -> keras.Model:
        """The whole network with its weights, from raw pixels to its last activations.

        It has its classification layers, to logits, only where a tap lies among them, or where
        they were asked for.
        """
        if not self._built:
            self._built.append(self._build())
        return self._built[0]

    @property
    def is_built(self) -> bool:
        """Whether the network is in memory."""
        return bool(self._built)

    def _build(self) -> keras.Model:
        keras = import_keras()

        if self.weights.seed is not None:
            keras.utils.set_random_seed(self.weights.seed)
        network = build_network(self.preset, self.input_size, self.built_classes)
        if self.weights.arrays is not None:
            network.set_weights(self.weights.arrays)
        if self.weights.path is not None:
            read_weights(network, self.preset, self.weights.path)
            self.weights.refuse_changed()
        network.trainable = False
        return network

    def model_of(self, parts: Sequence[TapPart]) -> keras.Model:
        """From raw pixels to the features of some parts, side by side."""
        keras = import_keras()

        features = pooled_features(self.network, parts)
        name = self.preset.name.replace(".", "_").replace("-", "_")
        model = keras.Model(self.network.input, features, name=name)
        model.trainable = False
        return model

    def widths(self, parts: Sequence[TapPart]) -> list[int]:
        """How many numbers each part gives."""
        shapes = {row.name: row.output_shape for row in layer_table(self.preset, self.input_size)}
        return [width(shapes[part.layer], part.pooling) for part in parts]

    def mirror_order(self, parts: Sequence[TapPart]) -> np.ndarray:
        """Which of a mirror image's features stands for each of the image's own, `(d,)`."""
        orders, start = [], 0
        for part in parts:
            shape = activations(self.network, part.layer).shape[1:]
            orders.append(start + mirror_order(shape, part.pooling))
            start += len(orders[-1])
        return np.concatenate(orders)

    def _kinds_of_layers(self) -> dict[str, tuple[bool, bool]]:
        """Of every layer, whether it gives vectors and whether it is a classification layer."""
        rows = layer_table(self.preset, self.preset.input_size)
        first = [row.name for row in rows].index(PREPROCESSING)  # before it, pixels are integers
        return {row.name: (len(row.output_shape) == 1, not row.block) for row in rows[first:]}


def check_input_size(
    preset: BackbonePreset, wanted: str | int | Sequence[int] | None
) -> tuple[int, int]:
    """Height and width in pixels, if the network can take them.

    Args:
        preset: the backbone.
        wanted: one number for both, or both: 160, "160", "160x224", (160, 224); None for the
            preset's own.

    Raises:
        TltoolError: it cannot; the sentence says the smallest that it can.
    """
    if wanted is None:
        return preset.input_size
    shown = "x".join(map(str, wanted)) if isinstance(wanted, list | tuple) else str(wanted)
    found = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", shown.lower())
    size = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not preset.smallest_input <= min(size) <= max(size) <= _LARGEST_INPUT:
        raise TltoolError(
            f"--input-size {shown}: {preset.name} takes images from {preset.smallest_input}x"
            f"{preset.smallest_input} to {_LARGEST_INPUT}x{_LARGEST_INPUT} pixels; name a side "
            "(160) or height and width (160x224)."
        )
    return size
