"""A network in training from a start to a fitted classifier, whatever it starts from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np

from tltool._presets import training_views
from tltool.backbones import Boundary
from tltool.domain import measured_distance
from tltool.features import DrawnPictures, FeatureSource, StoredActivations
from tltool.linear import Classifier
from tltool.linear.calibration import calibrated_losses
from tltool.metrics import is_clearly_lower, simplest_of_the_best
from tltool.strategies.cutting import choose_cache
from tltool.strategies.lesson import Lesson, source_facts
from tltool.strategies.off_the_shelf import OffTheShelf, scores_held_out
from tltool.strategies.precision import choose_precision
from tltool.strategies.teaching import teaching
from tltool.strategies.tuning import TunedFit, TunedNetwork
from tltool.training import (
    Batches,
    History,
    Pictures,
    Taught,
    Trainer,
    TrainingPlan,
    TrainingRecord,
)
from tltool.training.learning_rate import range_test, rate_factor

__all__ = ["NetworkTraining"]

_log = logging.getLogger(__name__)

# Images that are judged at a time.
_JUDGED = 32

# Fewer images of a class than that are too few to train a network on, unless validation images
# clearly say otherwise: in the advisor's grid trained networks were 0.2 points worse than those
# they began with at five images of a class, and 2.1 points better at twenty, whatever the six to
# twenty validation images said.
_FEW_OF_A_CLASS = 10


class NetworkTraining:
    """What lies above a boundary of a backbone, and a head, trained on the images of a lesson.

    Args:
        source: of the network that it begins with.
        lesson: what is learned from, and how.
        cut: the boundary.
        cache: of activations at it: "auto", "on" or "off".
        pretrained: whether that network and head are good for something: they are judged before the
            first epoch, and a learning rate that is left open is lower the nearer the images are to
            those of the source.
    """

    def __init__(
        self, source: FeatureSource, lesson: Lesson, cut: Boundary, cache: str, *, pretrained: bool
    ) -> None:
        self._source, self._lesson, self._cut = source, lesson, cut
        self._pretrained = pretrained
        backbone, plan = source.backbone, lesson.plan
        shown = training_views(plan.views, backbone.input_size)
        self._held = choose_cache(
            cache,
            backbone,
            cut,
            plan,
            shown.count if shown.random else 1,
            len(lesson.fitting) + len(lesson.judging),
            source.store.max_bytes,
        )
        self.plan = replace(plan, views=self._held.views)

    def run(
        self, start: Classifier, record: TrainingRecord | None, budget: float | None
    ) -> History:
        """Train from a head on; the network is left with the weights of the best epoch.

        Args:
            start: the head that it begins with.
            record: where it is kept and told; None for nowhere.
            budget: seconds after which it ends; None for no limit.
        """
        lesson, stored = self._lesson, self._held.used
        for note in lesson.notes:
            _log.warning(note)
        pictures, judged = self._pictures()
        batches = replace(lesson, plan=self.plan).batches(
            pictures, of_pixels=not stored, taught=self._taught()
        )
        if self.plan.precision == "auto":
            self.plan = replace(self.plan, precision=self._precision(start, batches))
        self._network = self._network_of(start, self.plan)
        trainer = self._network.trainer(self.plan)
        if self.plan.learning_rate == "auto":
            self.plan = replace(self.plan, learning_rate=self._rate(trainer, batches))
        return lesson.train(
            trainer,
            replace(batches, plan=self.plan),
            lesson.validation(judged, _JUDGED),
            (*source_facts(self._source), self._cut.unfrozen, stored),
            record=record,
            budget=budget,
            judge_start=self._pretrained,
        )

    def fit(self, history: History, start: str, linear: OffTheShelf | None = None) -> TunedFit:
        """What came of it: one of several ways to end, by the validation images.

        The network may stay as it was before, with a linear head; or be the trained one, with a
        linear head fitted on its features; or network and head may be as they were trained, where
        their log loss is lower by more than a standard error of the difference. Between the
        trained network and the one before it a one-sided paired t-test at 95 % decides, if it can;
        if it cannot, the number of images does: with few of each class the network stays as it
        was, with more it is the trained one. A linear head that is taken is fitted once more, on
        the validation images as well, and calibrated on them by fits without a fifth of them.

        Args:
            history: what `run` returned.
            start: what it began with, in words.
            linear: fits such a head; None to end as trained.
        """
        lesson, network, source = self._lesson, self._network, self._source
        choices = lesson.choices(history, self.plan)
        fit = TunedFit(
            lesson.labels,
            choices,
            (*lesson.notes, *lesson.stopped_in_words(history)),
            network.classifier(),
            network.arrays(),
            history=tuple(asdict(epoch) for epoch in history.epochs),
        )
        said, losses, scores = "as trained", {}, np.empty((0, 0))
        best = "the start" if self._few and linear is not None else said
        if lesson.judging:
            tuned = fit.features_from(source)
            ends = {"as trained": self._judged(tuned, fit.classifier)}
            for name, features in (("fitted on them", tuned), ("the start", source)):
                if linear is not None:
                    weights = lesson.fitting_weights
                    apart = linear.fit(features, lesson.to_fit, seed=lesson.seed, weights=weights)
                    ends[name] = self._judged(features, apart.classifier)
            losses = {name: float(found.mean()) for name, (_, found) in ends.items()}
            best = self._best_end({name: found for name, (_, found) in ends.items()})
            scores = ends[best][0]
        if linear is not None and best != "as trained":
            features = source if best == "the start" else fit.features_from(source)
            whole = linear.fit(features, lesson.whole, seed=lesson.seed, weights=lesson.weights)
            said = f"{whole.in_words}, on all {len(lesson.weights)} images"
            fit = replace(fit, classifier=whole.classifier)
            if lesson.judging:
                held = scores_held_out(
                    features,
                    lesson.whole,
                    whole,
                    lesson.judging,
                    seed=lesson.seed,
                    weights=lesson.weights,
                )
                scores = scores if held is None else held
            else:  # it was calibrated out of fold
                choices |= {name: whole.choices[name] for name in ("temperature", "calibration")}
                fit = replace(fit, calibration=whole.calibration, held_out=whole.held_out)
        if best == "the start":
            fit = replace(fit, arrays=None)
            choices["best_epoch"] = 0
        choices |= {
            "unfrozen": ", ".join(self._cut.unfrozen),
            "start": start,
            "head": said,
            "ends": losses,
            "cache": self._held.said,
            "transforms": list(fit.classifier.steps),
        }
        if best == "the start" and not lesson.judging:
            return fit
        return fit.calibrated(lesson.calibration(scores), lesson.judging, scores)

    def _best_end(self, losses: Mapping[str, np.ndarray]) -> str:
        """Of "as trained", "fitted on them" and "the start", as many as there are."""
        trained = ("fitted on them", "as trained")
        best = simplest_of_the_best({name: losses[name] for name in trained if name in losses})
        if "the start" not in losses:
            return best
        if self._few:
            return best if is_clearly_lower(losses[best], losses["the start"]) else "the start"
        return "the start" if is_clearly_lower(losses["the start"], losses[best]) else best

    @property
    def _few(self) -> bool:
        """Whether the images are too few to train a network on where nothing speaks for it."""
        return len(self._lesson.fitting) < _FEW_OF_A_CLASS * len(self._lesson.labels)

    def _judged(self, tuned: FeatureSource, classifier: Classifier) -> tuple[np.ndarray, ...]:
        """Scores of the validation images, and log losses at the temperature that suits them."""
        scores = classifier.scores(tuned.features(self._lesson.judging).values)
        return scores, calibrated_losses(scores, self._lesson.judged_targets)[0]

    def _network_of(self, start: Classifier, plan: TrainingPlan) -> TunedNetwork:
        backbone, seed = self._source.backbone, self._lesson.seed
        return TunedNetwork(
            backbone, self._cut, start, plan, seed, from_activations=self._held.used
        )

    def _precision(self, start: Classifier, batches: Batches) -> str:
        """What is measured to pay."""

        def trainer_in(precision: str) -> Trainer:
            tried = replace(self.plan, precision=precision)
            return self._network_of(start, tried).trainer(tried)

        key = f"{self._source.backbone.key} {self._cut.unfrozen} {self._held.used}"
        return choose_precision(key, self._source.store, trainer_in, next(batches.epoch(0)))

    def _rate(self, trainer: Trainer, batches: Batches) -> float:
        """What a range test finds, for a pretrained network scaled by the domain distance."""
        found = range_test(trainer, batches, self.plan.optimizer).chosen
        if not self._pretrained:
            return found
        distance = measured_distance(self._source, self._lesson.fitting)
        return found * rate_factor(None if distance is None else distance.value)

    def _taught(self) -> Taught | None:
        """What the teacher says, if there is one."""
        lesson, size = self._lesson, self._source.backbone.input_size
        if lesson.teacher is None:
            return None
        return teaching(
            lesson.teacher,
            lesson.fitting,
            training_views(self.plan.views, size),
            size,
            self.plan,
            of_pixels=not self._held.used,
        )

    def _pictures(self) -> tuple[Pictures, Pictures]:
        """What the network is shown of the images to fit on, and of those to judge by."""
        lesson, cut, backbone = self._lesson, self._cut, self._source.backbone
        size = backbone.input_size
        shown, judged = training_views(self.plan.views, size), self._source.views
        if not self._held.used:
            drawn = DrawnPictures(lesson.fitting, shown, size)
            return drawn, DrawnPictures(lesson.judging, judged, size)
        crossing = self._source.of_backbone(backbone.tapping(f"{cut.block}:flatten"))
        stored = StoredActivations(crossing.showing(shown), lesson.fitting, cut.shape)
        return stored, StoredActivations(crossing.showing(judged), lesson.judging, cut.shape)
