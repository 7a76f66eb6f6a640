"""A head of several layers, folded into as few as can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tltool._keras import import_keras
from tltool.linear import LinearHead
from tltool.linear.linear_head import HIDDEN
from tltool.linear.transforms import Affine
from tltool.training import TrainingPlan

if TYPE_CHECKING:
    import keras

__all__ = ["NetworkHead", "folded", "head_network"]


@dataclass(frozen=True)
class NetworkHead:
    """Linear layers with rectifiers between them, and a softmax.

    Args:
        layers: from the features up; the last one gives the scores.
    """

    layers: tuple[LinearHead, ...]

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Scores `(n, k)` before the softmax, of features `(n, d)`, float32."""
        for layer in self.layers[:-1]:
            features = np.maximum(layer.scores(features), 0.0)
        return self.layers[-1].scores(features)

    def scaled(self, scale: np.ndarray, offset: np.ndarray) -> NetworkHead:
        """The head whose scores are multiplied and added to, class by class; both `(k,)`."""
        return NetworkHead((*self.layers[:-1], self.layers[-1].scaled(scale, offset)))

    def on(self, backbone: keras.Model) -> keras.Model:
        """A backbone with these layers as `Dense` ones, the last called `predictions`."""
        keras = import_keras()
        features = backbone.output
        for number, layer in enumerate(self.layers[:-1], 1):
            dense = keras.layers.Dense(len(layer.bias), activation="relu", name=f"{HIDDEN}{number}")
            features = dense(features)
            dense.set_weights([layer.kernel, layer.bias])
        return self.layers[-1].on(keras.Model(backbone.input, features))


def head_network(n_features: int, n_classes: int, plan: TrainingPlan, seed: int) -> keras.Model:
    """A head to train, from features `(n, d)` to scores `(n, k)` before the softmax."""
    keras = import_keras()
    layers = keras.layers
    seeds = iter(np.random.SeedSequence(seed).generate_state(2 * len(plan.units) + 2).tolist())

    def dense(units: int, **options: Any) -> Any:
        start = keras.initializers.GlorotUniform(seed=next(seeds))
        return layers.Dense(units, kernel_initializer=start, **options)

    inputs = values = keras.Input((n_features,))
    for units in plan.units:
        if plan.dropout:
            values = layers.Dropout(plan.dropout, seed=next(seeds))(values)
        values = dense(units, use_bias=not plan.batch_norm)(values)
        if plan.batch_norm:
            values = layers.BatchNormalization()(values)
        values = layers.Activation("relu")(values)
    if plan.dropout:
        values = layers.Dropout(plan.dropout, seed=next(seeds))(values)
    return keras.Model(inputs, dense(n_classes)(values), name="head")


def folded(network: keras.Model, step: Affine) -> NetworkHead:
    """A trained head as plain layers.

    Args:
        network: of `head_network`.
        step: what its features went through before it.
    """
    found: list[LinearHead] = []
    for layer in network.layers:
        kind = type(layer).__name__
        if kind == "Dense":
            kernel = np.asarray(layer.kernel)
            bias = np.asarray(layer.bias) if layer.use_bias else np.zeros(kernel.shape[1])
            found.append(LinearHead.of(kernel, bias))
        elif kind == "BatchNormalization":
            found[-1] = _normalised(found[-1], layer)
    first, *others = found
    return NetworkHead((step.fold(first), *others))


def _normalised(head: LinearHead, layer: Any) -> LinearHead:
    """A layer and the batch normalisation after it as one."""
    variance = np.asarray(layer.moving_variance, np.float64) + layer.epsilon
    scale = np.asarray(layer.gamma, np.float64) / np.sqrt(variance)
    kernel = head.kernel * scale
    return LinearHead.of(kernel, (head.bias - layer.moving_mean) * scale + layer.beta)
