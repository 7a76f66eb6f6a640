"""Off-the-shelf features: the network as it is, and a linear classifier on top."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tltool._files import counted
from tltool._validation import check_option
from tltool.data import Dataset, Example
from tltool.features import FeatureSource
from tltool.linear import (
    CLASSIFIERS,
    Candidate,
    Choice,
    Classifier,
    Problem,
    Scored,
    check_transforms,
    choose,
    fit_candidate,
    out_of_fold_scores,
)
from tltool.linear.calibration import Calibration, choose_calibration
from tltool.metrics import wilson_interval
from tltool.strategies.examples import constant_features, weighty
from tltool.strategies.folds import stratified_folds
from tltool.strategies.strategy import FeatureFit
from tltool.training import TrainingRecord

__all__ = [
    "CHAINS",
    "CLASSIFIER_OPTIONS",
    "PENALTIES",
    "OffTheShelf",
    "fewer_folds",
    "scores_held_out",
]

_log = logging.getLogger(__name__)

CLASSIFIER_OPTIONS = ("auto", *CLASSIFIERS)

PENALTIES = {"lda": "shrinkage", "ridge": "alpha", "logistic-regression": "C", "svm": "C"}
"""What the value that is chosen of each classifier is called."""

# What is tried where no transforms are named.
CHAINS = (("standardise",), ("l2",), ("sqrt", "l2"), ("dropout",))
"""Transforms to choose from."""

# Of images that are held out of a fit that is there already.
_FOLDS = 5

# Where no folds can be made: the middle of what was chosen on data sets where they can.
_DEFAULTS = {"lda": 0.65, "ridge": 1.0, "logistic-regression": 0.1, "svm": 0.001}
_DEFAULT = "logistic-regression"


class OffTheShelf:
    """A linear classifier on stored features.

    Classifier, transforms and penalty are those with the highest cross-validated accuracy on
    train and validation images together (of equals, with the lowest log loss); scores are divided
    by the temperature that calibrates them on the images held out. The head is then fitted on all
    of them.

    Args:
        classifier: "lda", "ridge", "logistic-regression" or "svm"; "auto" to choose among them.
        transforms: steps between features and classifier, such as "sqrt,l2"; None to choose.
        folds: of the cross-validation; fewer where a class has fewer images.
        chains: rows of steps to choose from where `transforms` is None.

    Raises:
        TltoolError: an unknown classifier or step.

    Source: Donahue et al., "DeCAF", 2013, https://arxiv.org/abs/1310.1531; Razavian et al.,
    "CNN Features off-the-shelf", 2014, https://arxiv.org/abs/1403.6382
    """

    name = "off-the-shelf"

    def __init__(
        self,
        classifier: str = "auto",
        transforms: str | Sequence[str] | None = None,
        folds: int = 5,
        chains: Sequence[tuple[str, ...]] = CHAINS,
    ) -> None:
        check_option("--classifier", classifier, CLASSIFIER_OPTIONS)
        self.classifiers = CLASSIFIERS if classifier == "auto" else (classifier,)
        given = chains if transforms is None else [check_transforms(transforms)]
        self.chains: tuple[tuple[str, ...], ...] = tuple(given)
        self.folds = folds

    def extract(self, source: FeatureSource, dataset: Dataset) -> None:
        """See `Strategy.extract`."""
        source.for_prediction().extract(dataset.examples)
        if source.views.random:
            source.extract(dataset.of("train", "val"))

    def fit(
        self,
        source: FeatureSource,
        dataset: Dataset,
        *,
        seed: int,
        weights: np.ndarray | None = None,
        record: TrainingRecord | None = None,
    ) -> LinearFit:
        """See `Strategy.fit`."""
        examples, weights = weighty(dataset.of("train", "val"), weights)
        features = source.for_prediction().features(examples)
        problem = Problem(
            features.values,
            dataset.targets(examples),
            len(dataset.labels),
            features.widths,
            weights,
            source.each_view(examples) if source.views.random else None,
        )
        notes = constant_features(features, source)
        folds = stratified_folds(examples, self.folds, seed)
        if folds is None:
            candidate = self._default()
            notes.append(
                "Every class has a single image to fit on, so nothing could be chosen by "
                f"cross-validation; {candidate.classifier} with {PENALTIES[candidate.classifier]} "
                f"= {candidate.value:g} was taken."
            )
            choices = _choices(candidate, 0)
            calibration = Calibration.of_temperature(1.0, problem.n_classes, 0)
            judged: tuple[Example, ...] = ()
            scores = np.empty((0, problem.n_classes))
        else:
            notes += fewer_folds(examples, folds, self.folds)
            choice = choose(problem, folds, self.classifiers, self.chains)
            candidate = choice.chosen.candidate
            judged, scores = examples, out_of_fold_scores(problem, candidate, folds)
            calibration = choose_calibration(
                scores, problem.targets, folds, weights=problem.weights
            )
            choices = _choices(
                candidate,
                choice.folds,
                _estimate(choice, problem),
                choice.table,
            )
        for note in notes:
            _log.warning(note)
        classifier = fit_candidate(problem, candidate)
        fit = LinearFit(dataset.labels, choices, tuple(notes), classifier)
        return fit.calibrated(calibration, judged, scores)

    def _default(self) -> Candidate:
        """What is taken where there is nothing to choose by."""
        name = _DEFAULT if _DEFAULT in self.classifiers else self.classifiers[0]
        return Candidate(name, self.chains[0], _DEFAULTS[name])


@dataclass(frozen=True)
class LinearFit(FeatureFit):
    """A linear classifier on features."""

    classifier: Classifier

    @property
    def in_words(self) -> str:
        """The classifier that was chosen: "lda, shrinkage 0.35, after sqrt, l2"."""
        return _in_words(self.choices)

    def described(self) -> list[tuple[str, str]]:
        """See `FittedClassifier`."""
        choices = self.choices
        folds, estimate = choices["folds"], choices["estimate"]
        rows = [
            ("Classifier", self.in_words),
            ("Cross-validation", f"{folds} folds" if folds else "none"),
        ]
        if estimate:
            figures = "{accuracy:.3f}   95 % interval {low:.3f} to {high:.3f}".format(**estimate)
            told = "nested cross-validation, no test image seen"
            rows.append(("Estimated before", f"{figures}, {told}"))
        return rows


def scores_held_out(
    source: FeatureSource,
    dataset: Dataset,
    fit: LinearFit,
    held: Sequence[Example],
    *,
    seed: int,
    weights: np.ndarray | None = None,
) -> np.ndarray | None:
    """What such a fit says of some of its images when it is made without a few of them at a time.

    It tells how confident the fit itself is on other images, as one without any of them would not:
    features of images that a network was trained on are not like those of others.

    Args:
        source: where its features came from.
        dataset: what it was fitted on.
        fit: as `OffTheShelf.fit` made it.
        held: images of that data set.
        seed: of the folds.
        weights: that it was fitted with.

    Returns:
        Scores `(m, k)` as the fit calibrates them; None where no folds can be made.
    """
    folds = stratified_folds(held, _FOLDS, seed)
    if folds is None or fit.calibration is None:
        return None
    examples, weights = weighty(dataset.of("train", "val"), weights)
    features = source.for_prediction().features(examples)
    place = {e.hash: i for i, e in enumerate(examples)}
    if any(e.hash not in place for e in held):
        return None
    rows = [place[e.hash] for e in held]
    everywhere = np.full(len(examples), -1)
    everywhere[rows] = folds
    problem = Problem(
        features.values, dataset.targets(examples), len(dataset.labels), features.widths, weights
    )
    name = fit.choices["classifier"]
    value = float(fit.choices[PENALTIES[name]])
    candidate = Candidate(name, tuple(fit.choices["transforms"]), value)
    return fit.calibration.apply(out_of_fold_scores(problem, candidate, everywhere)[rows])


def _in_words(choices: dict[str, Any]) -> str:
    """Which classifier was chosen: "lda, shrinkage 0.35, after sqrt, l2"."""
    name = choices["classifier"]
    steps = ", ".join(choices["transforms"])
    value = f"{PENALTIES[name]} {choices[PENALTIES[name]]:g}"
    return f"{name}, {value}" + (f", after {steps}" if steps else "")


def _estimate(choice: Choice, problem: Problem) -> dict[str, Any] | None:
    """How accurate the choice will be on other images, told without any of them.

    The interval is that of the nested figure, moved with it; None where nothing could be nested.
    """
    hits, expected = choice.nested_hits, choice.expected
    if hits is None or expected is None:
        return None
    low, high = wilson_interval(int(hits.sum()), len(hits))
    moved = expected - float(hits.mean())
    found, counts = (
        np.bincount(problem.targets, each, problem.n_classes) for each in (hits, np.ones(len(hits)))
    )
    return {
        "accuracy": expected,
        "low": min(max(low + moved, 0.0), 1.0),
        "high": min(max(high + moved, 0.0), 1.0),
        "nested": choice.nested,
        "nested_with_fewer_images": choice.smaller,
        "nested_of_each_class": (found / np.maximum(counts, 1)).tolist(),
    }


def _choices(
    candidate: Candidate,
    folds: int,
    estimate: dict[str, Any] | None = None,
    table: Sequence[Scored] = (),
) -> dict[str, Any]:
    """What was chosen and by which figures, as JSON values."""
    return {
        "classifier": candidate.classifier,
        "transforms": list(candidate.transforms),
        PENALTIES[candidate.classifier]: candidate.value,
        "folds": folds,
        "estimate": estimate,
        "cross_validation": [
            {
                "classifier": scored.candidate.classifier,
                "transforms": list(scored.candidate.transforms),
                "value": scored.candidate.value,
                "accuracy": scored.accuracy,
                "log_loss": scored.log_loss,
                "temperature": scored.temperature,
            }
            for scored in table
        ],
    }


def fewer_folds(examples: Sequence[Example], folds: np.ndarray, wanted: int) -> list[str]:
    """That there are fewer folds than usual, and why, in a sentence; none where there are not."""
    count = int(folds.max()) + 1
    if count >= wanted:
        return []
    sizes = Counter(label for label, _ in {(e.label, e.group) for e in examples})
    smallest = min(sizes, key=lambda label: (sizes[label], label))
    return [
        f"Cross-validation has {count} folds instead of {wanted}, because class {smallest!r} has "
        f"{counted(sizes[smallest], 'image')} to fit on, near-duplicates counted once."
    ]
