"""What a training learns from, what says when to stop, and what is told of it afterwards."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from tltool._validation import TltoolError
from tltool.data import Dataset, Example
from tltool.features import FeatureSource
from tltool.linear.calibration import Calibration, choose_calibration
from tltool.strategies.examples import FEWEST_TO_JUDGE, split_off, weighty
from tltool.strategies.folds import stratified_folds
from tltool.strategies.teaching import Teacher
from tltool.training import (
    Batches,
    History,
    Pictures,
    Taught,
    Trainer,
    TrainingPlan,
    TrainingRecord,
    Validation,
    train,
)
from tltool.training.augmentation import BatchAugmentation

__all__ = ["Lesson", "source_facts", "training_in_words"]

_log = logging.getLogger(__name__)

# Of the judging images, which tell how to calibrate.
_FOLDS = 5


@dataclass(frozen=True)
class Lesson:
    """The images of a training, and how it goes.

    Args:
        plan: with a batch size that there are images for.
        labels: the classes.
        fitting: images that are learned from.
        judging: images that say when to stop; none of the others.
        targets: class numbers of both, the first ones first.
        weights: of both, in the same order, 1 in the mean.
        notes: what is to be said of them.
        seed: of all that is drawn.
        teacher: another model that is learned from beside the labels, if there is one.
        begun: when, by the clock that budgets are kept by.
    """

    plan: TrainingPlan
    labels: tuple[str, ...]
    fitting: tuple[Example, ...]
    judging: tuple[Example, ...]
    targets: np.ndarray
    weights: np.ndarray
    notes: tuple[str, ...]
    seed: int
    teacher: Teacher | None = None
    begun: float = field(default_factory=time.monotonic)

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        weights: np.ndarray | None,
        plan: TrainingPlan,
        seed: int,
        teacher: Teacher | None = None,
    ) -> Lesson:
        """That of a data set's train and val images.

        Args:
            dataset: with its splits.
            weights: see `Strategy.fit`.
            plan: how it goes.
            seed: of all that is drawn.
            teacher: another model that is learned from beside the labels.

        Raises:
            TltoolError: there are too few.
        """
        examples, weights = weighty(dataset.of("train", "val"), weights)
        fitting, judging, notes = split_off(examples, seed)
        if not len(fitting):
            raise TltoolError("There are no images to train on; give more, or lower --val.")
        wanted, plan = plan.batch_size, plan.for_images(len(fitting))
        if plan.batch_size < wanted:
            notes.append(
                f"A step takes all {len(fitting)} training images, fewer than the {wanted} of "
                "--batch-size."
            )
        order = [*fitting, *judging]
        return cls(
            plan,
            dataset.labels,
            tuple(examples[i] for i in fitting),
            tuple(examples[i] for i in judging),
            dataset.targets(examples)[order],
            (np.ones(len(examples)) if weights is None else weights)[order],
            tuple(notes),
            seed,
            teacher,
        )

    @property
    def to_fit(self) -> Dataset:
        """The images that are learned from, as a data set of their own."""
        return Dataset("lesson", _as_train(self.fitting), self.labels)

    @property
    def whole(self) -> Dataset:
        """Those that say when to stop among them."""
        return Dataset("lesson", _as_train((*self.fitting, *self.judging)), self.labels)

    @property
    def fitting_weights(self) -> np.ndarray:
        """Of the images that are learned from, 1 in the mean."""
        weights = self.weights[: len(self.fitting)]
        return np.asarray(weights / weights.mean())

    @property
    def judged_targets(self) -> np.ndarray:
        """Class numbers of the images that say when to stop."""
        return self.targets[len(self.fitting) :]

    def batches(
        self, pictures: Pictures, *, of_pixels: bool = False, taught: Taught | None = None
    ) -> Batches:
        """What is learned from, as pictures of the images to fit on show it."""
        names = self.plan.augment
        return Batches(
            pictures,
            self.targets[: len(self.fitting)],
            len(self.labels),
            self.fitting_weights,
            self.plan,
            self.seed,
            BatchAugmentation(names, of_pixels=of_pixels) if names else None,
            taught,
        )

    def validation(self, pictures: Pictures | None, batch_size: int = 256) -> Validation | None:
        """What says when to stop, as pictures of the images for that show it."""
        if pictures is None or not self.judging:
            return None
        return Validation(pictures, self.judged_targets, batch_size)

    def train(
        self,
        trainer: Trainer,
        batches: Batches,
        validation: Validation | None,
        facts: Iterable[object],
        *,
        record: TrainingRecord | None,
        budget: float | None,
        judge_start: bool = False,
    ) -> History:
        """Train, and go on from what is kept.

        Args:
            trainer: with the network.
            batches: what it learns from.
            validation: what says when to stop.
            facts: what else the outcome follows from.
            record: where it is kept and told; None for nowhere.
            budget: seconds from the beginning of the lesson after which training ends; None for no
                limit.
            judge_start: see `train`.
        """
        history = train(
            trainer,
            batches,
            validation,
            batches.plan,
            judge_start=judge_start,
            checkpoints=None if record is None else record.checkpoints(self._key(facts)),
            told=None if record is None else record.told,
            budget=budget,
            before=time.monotonic() - self.begun,
        )
        for note in self.stopped_in_words(history):
            _log.warning(note)
        return history

    def calibration(self, scores: np.ndarray) -> Calibration:
        """What scores `(m, k)` of the judging images ask for; nothing where they are too few."""
        if len(scores) < FEWEST_TO_JUDGE:
            return Calibration.of_temperature(1.0, len(self.labels), 0)
        folds = stratified_folds(self.judging, _FOLDS, self.seed)
        return choose_calibration(scores, self.judged_targets, folds)

    def choices(self, history: History, plan: TrainingPlan) -> dict[str, Any]:
        """What was chosen, as JSON values."""
        facts = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(plan).items()}
        return {
            "training": facts,
            "best_epoch": history.best,
            "stopped": history.stopped,
            "n_fitted": len(self.fitting),
        }

    @staticmethod
    def stopped_in_words(history: History) -> list[str]:
        """That training ended before its time, where it did."""
        if not history.stopped or history.early:
            return []
        return [f"Training ended after epoch {history.trained}: {history.stopped.rstrip('.')}."]

    def _key(self, facts: Iterable[object]) -> str:
        """Tells this training from all others."""
        digest = hashlib.sha256(repr((self.plan, self.seed, *facts)).encode())
        if self.teacher is not None:
            digest.update(self.teacher.key.encode())
        for part, examples in (b"train", self.fitting), (b"val", self.judging):
            for example in examples:
                digest.update(b"%s %s %s\0" % (part, example.hash, example.label.encode()))
        return digest.hexdigest()


def _as_train(examples: Sequence[Example]) -> tuple[Example, ...]:
    return tuple(replace(e, split="train") for e in examples)


def source_facts(source: FeatureSource) -> tuple[object, ...]:
    """What features of a source follow from."""
    backbone = source.backbone
    return (backbone.key, *map(str, backbone.parts), source.views.name, source.precision)


def training_in_words(choices: dict[str, Any], epochs: int) -> list[tuple[str, str]]:
    """How a network was trained: names and values."""
    plan = choices["training"]
    best = choices["best_epoch"]
    kept = f"the best of {epochs} epochs was number {best}"
    if best == 0:
        kept = f"none of {epochs} epochs did better than the start, which was kept"
    steps = (
        f"{plan['optimizer']}, learning rate {plan['learning_rate']:.3g}, batches of "
        f"{plan['batch_size']}; {kept}"
    )
    rows = [("Training", steps)]
    if plan["augment"]:
        rows.append(("Augmentation", ", ".join(plan["augment"])))
    return rows
