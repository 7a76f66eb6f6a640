"""A backbone and a head on it in training, and what comes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tltool._keras import RANDOM_STATE, import_keras
from tltool.backbones import Backbone, Boundary
from tltool.backbones.twins import activations, pooled_features, twin
from tltool.features import FeatureSource
from tltool.linear import Classifier, LinearHead
from tltool.strategies.lesson import training_in_words
from tltool.strategies.strategy import FeatureFit
from tltool.training import Trainer, TrainingPlan

__all__ = ["TunedFit", "TunedNetwork"]


class TunedNetwork:
    """A backbone's network once more, cut at a boundary, with a head to train with it.

    Args:
        backbone: whose weights it begins with.
        cut: what lies below stays frozen.
        start: the head that it begins with.
        plan: dropout, precision, and what becomes of batch normalisation.
        seed: of what is dropped.
        from_activations: whether it is given what crosses the boundary, instead of pixels.
    """

    def __init__(
        self,
        backbone: Backbone,
        cut: Boundary,
        start: Classifier,
        plan: TrainingPlan,
        seed: int,
        *,
        from_activations: bool,
    ) -> None:
        keras = import_keras()
        self._start, self._cut = start, cut
        self._twin = network = twin(backbone, plan.precision)
        for layer in network.layers:
            norm = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = cut.trains(layer.name) and (plan.norms == "adapt" or not norm)
        below = network.input if not from_activations else activations(network, str(cut.layer))
        features = pooled_features(network, backbone.parts)
        if plan.dropout:
            features = keras.layers.Dropout(plan.dropout, seed=seed)(features)
        self.scoring = start.on(keras.Model(below, features))
        self._last = self.scoring.get_layer("predictions")
        self._last.activation = keras.activations.linear
        for number, layer in enumerate(self.scoring.layers):
            for variable in layer.variables:
                if variable.name == RANDOM_STATE:
                    variable.assign([seed, number])

    def trainer(self, plan: TrainingPlan) -> Trainer:
        """What trains it: higher layers faster, where the plan has it so."""
        layer_of = {id(v): layer for layer in self.scoring.layers for v in layer.variables}
        depths = [
            self._cut.depths.get(layer_of[id(v)].name, 0) for v in self.scoring.trainable_variables
        ]
        homes: list[np.ndarray | None] = [None] * len(depths)
        if plan.l2_sp:
            homes = [
                None if layer_of[id(v)] is self._last else np.asarray(v).copy()
                for v in self.scoring.trainable_variables
            ]
        rates = [plan.layer_decay**depth for depth in depths]
        return Trainer(self.scoring, plan, rates, homes)

    def arrays(self) -> tuple[np.ndarray, ...]:
        """The backbone's weights as they are now, in Keras's order."""
        return tuple(np.array(array) for array in self._twin.get_weights())

    def classifier(self) -> Classifier:
        """The head as it is now."""
        kernel, bias = self._last.get_weights()
        return replace(self._start, head=LinearHead.of(kernel, bias))


@dataclass(frozen=True)
class TunedFit(FeatureFit):
    """A network whose own weights were trained, and the head on it.

    Args:
        arrays: the backbone's weights, in Keras's order; None where it is as it was.
    """

    classifier: Classifier
    arrays: tuple[np.ndarray, ...] | None

    def described(self) -> list[tuple[str, str]]:
        """See `FittedClassifier`."""
        choices = self.choices
        trained = len(self.history) - (1 if self.history and self.history[0]["epoch"] == 0 else 0)
        names = {"Start": "start", "Trained layers": "unfrozen", "Stored": "cache", "Head": "head"}
        rows = [(said, choices[name]) for said, name in names.items()]
        if len(choices["ends"]) > 1:
            found = (f"{name} {loss:.3f}" for name, loss in choices["ends"].items())
            rows.append(("Validation log loss", ", ".join(found)))
        return [*rows, *training_in_words(choices, trained)]

    def features_from(self, source: FeatureSource) -> FeatureSource:
        """See `FittedClassifier`."""
        if self.arrays is None:
            return source.for_prediction()
        name = source.backbone.weights.source
        trained = source.backbone.with_weights(self.arrays, f"trained from {name}")
        return source.of_backbone(trained).for_prediction()
