"""Frozen head: the network as it is, and a head of its own trained on its stored features."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tltool._validation import TltoolError
from tltool.data import Dataset, Example
from tltool.features import FeatureSource
from tltool.linear.calibration import fit_temperature
from tltool.linear.transforms import standardisation
from tltool.strategies.examples import constant_features, split_off, weighty
from tltool.strategies.network_head import folded, head_network
from tltool.strategies.strategy import FeatureFit, FittedClassifier
from tltool.training import ArrayBatches, Checkpoints, Trainer, TrainingPlan, train
from tltool.training.loop import Validation

if TYPE_CHECKING:
    pass

__all__ = ["FrozenHead"]

_log = logging.getLogger(__name__)


class FrozenHead:
    """A linear head, or one of several layers, trained on stored features.

    Each epoch shows what predictions are made from or one of an image's stored random views, drawn
    by lot, so that no image goes through the network twice. The validation images say when to stop,
    which epoch was best, and how confident the scores are to be.

    Args:
        plan: how it is trained.
        budget: seconds after which training ends; None for no limit.
    """

    name = "frozen-head"

    def __init__(self, plan: TrainingPlan | None = None, budget: float | None = None) -> None:
        self.plan = plan or TrainingPlan()
        self.budget = budget

    def fit(
        self,
        source: FeatureSource,
        dataset: Dataset,
        *,
        seed: int,
        weights: np.ndarray | None = None,
        folder: Path | None = None,
    ) -> FittedClassifier:
        """See `Strategy.fit`."""
        examples, weights = weighty(dataset.of("train", "val"), weights)
        fitting, judging, notes = split_off(examples, seed)
        predicting = source.for_prediction()
        features = predicting.features(examples)
        notes += constant_features(features, source)
        plan, more = _fitting_batch(self.plan, len(fitting))
        notes += more
        for note in notes:
            _log.warning(note)

        shown = features.values[fitting][:, None]
        if source.views.random:
            drawn = source.each_view([examples[i] for i in fitting])
            shown = np.concatenate([shown, drawn], axis=1)
        step = standardisation(shown.reshape(-1, shown.shape[-1]))
        shown = step.apply(shown.reshape(-1, shown.shape[-1])).reshape(shown.shape)
        targets, n_classes = dataset.targets(examples), len(dataset.labels)
        image_weights = np.ones(len(examples)) if weights is None else weights
        batches = ArrayBatches(
            shown,
            targets[fitting],
            n_classes,
            image_weights[fitting] / image_weights[fitting].mean(),
            plan,
            seed,
        )
        validation = None
        if len(judging):
            validation = Validation(step.apply(features.values[judging]), targets[judging])
        network = head_network(shown.shape[-1], n_classes, plan, seed)
        trainer = Trainer(network, plan)
        checkpoints = None
        if folder is not None:
            key = _key(plan, source, examples, fitting, seed)
            checkpoints = Checkpoints.of_run(folder, key)
        history = train(
            trainer, batches, validation, plan, checkpoints=checkpoints, budget=self.budget
        )
        temperature = 1.0
        if validation is not None:
            scores = trainer.scores(validation.inputs)
            temperature = fit_temperature(scores, validation.targets, np.ones(len(scores)))
        choices = {
            "training": asdict(plan) | {"units": list(plan.units)},
            "best_epoch": history.best,
            "stopped": history.stopped,
            "temperature": temperature,
            "n_fitted": len(fitting),
        }
        if history.stopped and not history.early:
            notes.append(f"Training ended after epoch {len(history.epochs)}: {history.stopped}.")
        return _HeadFit(
            dataset.labels,
            choices,
            tuple(notes),
            folded(network, step, temperature),
            history=tuple(asdict(epoch) for epoch in history.epochs),
        )


class _HeadFit(FeatureFit):
    """A head of several layers on features."""

    def described(self) -> list[tuple[str, str]]:
        """See `FittedClassifier`."""
        plan = self.choices["training"]
        layers = [f"{units} units" for units in plan["units"]]
        rows = [
            ("Head", ", ".join([*layers, "linear"])),
            (
                "Training",
                f"{plan['optimizer']}, learning rate {plan['learning_rate']:g}, batches of "
                f"{plan['batch_size']}; the best of {len(self.history)} epochs was number "
                f"{self.choices['best_epoch']}",
            ),
            ("Temperature", f"{self.choices['temperature']:.3g}"),
        ]
        return rows


def _fitting_batch(plan: TrainingPlan, n: int) -> tuple[TrainingPlan, list[str]]:
    """The plan with a batch that there are images for, and what is to be said of it."""
    if plan.batch_size <= n:
        return plan, []
    facts: dict[str, Any] = asdict(plan) | {"batch_size": n}
    if n < 1:
        raise TltoolError("There are no images to train on; give more, or lower --val.")
    return TrainingPlan(**facts), [
        f"A step takes all {n} training images, fewer than the {plan.batch_size} of --batch-size."
    ]


def _key(
    plan: TrainingPlan,
    source: FeatureSource,
    examples: Sequence[Example],
    fitting: np.ndarray,
    seed: int,
) -> str:
    """Tells this training from all others."""
    network = (source.backbone.key, *map(str, source.backbone.parts), source.views.name)
    digest = hashlib.sha256(repr((plan, network, source.precision, seed)).encode())
    learned = set(fitting.tolist())
    for place, example in enumerate(examples):
        part = b"train" if place in learned else b"val"
        digest.update(b"%s %s %s\0" % (part, example.hash, example.label.encode()))
    return digest.hexdigest()
