"""What batch normalisation remembers of the images that a network was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tltool._keras import import_keras
from tltool.backbones.backbone import Backbone
from tltool.backbones.kept import kept_facts
from tltool.backbones.twins import twin

if TYPE_CHECKING:
    import keras

__all__ = ["SourceStatistics", "moments_model", "source_statistics"]


@dataclass(frozen=True)
class SourceStatistics:
    """Mean and variance of every channel that is normalised, on the source images.

    Args:
        mean: `(channels,)`, float64, over all layers from the input up.
        variance: `(channels,)`, float64.
        layer: `(channels,)`, int64: the number of the layer that each belongs to.
        names: of the layers.
    """

    mean: np.ndarray
    variance: np.ndarray
    layer: np.ndarray
    names: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """How many there are; 0 for a network without batch normalisation."""
        return len(self.mean)


def source_statistics(backbone: Backbone) -> SourceStatistics:
    """What the batch normalisations of a backbone remember."""

    def find() -> dict[str, np.ndarray]:
        norms = _norms(backbone.network)
        mean = [np.asarray(norm.moving_mean, np.float64) for norm in norms]
        variance = [np.asarray(norm.moving_variance, np.float64) for norm in norms]
        sizes = [len(values) for values in mean]
        return {
            "mean": np.concatenate([np.zeros(0), *mean]),
            "variance": np.concatenate([np.zeros(0), *variance]),
            "layer": np.repeat(np.arange(len(sizes)), sizes),
            "names": np.array([norm.name for norm in norms], np.str_),
        }

    found = find() if backbone.is_built else kept_facts(backbone, "statistics-1", find)
    names = tuple(map(str, found["names"]))
    return SourceStatistics(found["mean"], found["variance"], found["layer"], names)


def moments_model(backbone: Backbone) -> keras.Model:
    """From pixels `(n, height, width, 3)`, float32, to the moments of every normalised channel.

    It takes floats, so that pixels on a wrong scale can be told from right ones.

    Returns:
        A model whose output is `(n, 2 * channels)`, float32: for each image the means over all
        positions, then the variances.
    """
    keras = import_keras()

    network = twin(backbone)
    inputs = [norm.input for norm in _norms(network)]
    means = [keras.ops.mean(x, axis=(1, 2)) for x in inputs]
    variances = [keras.ops.var(x, axis=(1, 2)) for x in inputs]
    moments = keras.ops.concatenate([*means, *variances], axis=-1)
    model = keras.Model(network.input, moments, name="moments")
    model.trainable = False
    return model


def _norms(network: keras.Model) -> list[Any]:
    keras = import_keras()
    return [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
