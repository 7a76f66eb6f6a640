"""Feature-space ensemble: many classifiers of one network's stored features, made into one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tltool._files import counted
from tltool._keras import import_keras
from tltool._progress import progress
from tltool._validation import TltoolError, check_option
from tltool.combining import Combination, choose_combination
from tltool.data import Dataset, Example
from tltool.features import FeatureSource
from tltool.linear import (
    CLASSIFIERS,
    Candidate,
    Classifier,
    Problem,
    check_transforms,
    choose,
    fit_candidate,
    out_of_fold_scores,
)
from tltool.linear.calibration import Calibration, choose_calibration, fit_temperature
from tltool.linear.linear_head import softmax
from tltool.linear.search import best
from tltool.merging import combined_model
from tltool.metrics import log_losses, wilson_interval
from tltool.strategies.examples import constant_features, weighty
from tltool.strategies.folds import stratified_folds
from tltool.strategies.off_the_shelf import CHAINS, CLASSIFIER_OPTIONS, PENALTIES, fewer_folds
from tltool.strategies.strategy import FittedClassifier, OutOfSample
from tltool.training import TrainingRecord

if TYPE_CHECKING:
    import keras

__all__ = ["FeatureEnsemble"]

_log = logging.getLogger(__name__)

# Out-of-fold images for each candidate that is weighed; of more candidates the best.
_IMAGES_OF_CANDIDATE = 5

# Members that weigh less cost more than they bring.
_LIGHTEST = 0.01


class FeatureEnsemble:
    """Linear classifiers of every depth and view of a network, selected greedily into one.

    A candidate is a classifier on one of the taps' parts, or on all of them side by side, of all
    views of an image, or of the whole image among crops; its transforms and penalty are
    cross-validated. What candidates say of images held out is averaged, members chosen with
    replacement. Every candidate sees features that are stored already, so that none costs a forward
    pass.

    Args:
        classifier: "lda", "ridge", "logistic-regression" or "svm"; "auto" for all of them.
        transforms: steps between features and classifier, such as "sqrt,l2"; None to choose.
        folds: of the cross-validation; fewer where a class has fewer images.

    Raises:
        TltoolError: an unknown classifier or step.

    Source: Caruana et al., "Ensemble Selection from Libraries of Models", 2004.
    """

    name = "feature-ensemble"

    def __init__(
        self, classifier: str = "auto", transforms: str | None = None, folds: int = 5
    ) -> None:
        check_option("--classifier", classifier, CLASSIFIER_OPTIONS)
        self.classifiers = CLASSIFIERS if classifier == "auto" else (classifier,)
        self.chains = CHAINS if transforms is None else (check_transforms(transforms),)
        self.folds = folds

    def extract(self, source: FeatureSource, dataset: Dataset) -> None:
        """See `Strategy.extract`."""
        source.for_prediction().extract(dataset.examples)

    def fit(
        self,
        source: FeatureSource,
        dataset: Dataset,
        *,
        seed: int,
        weights: np.ndarray | None = None,
        record: TrainingRecord | None = None,
    ) -> FittedClassifier:
        """See `Strategy.fit`."""
        source = source.for_prediction()
        examples, weights = weighty(dataset.of("train", "val"), weights)
        notes = constant_features(source.features(examples), source)
        values = source.means(examples, list(_groups(source).values()))
        targets = dataset.targets(examples)
        folds = stratified_folds(examples, self.folds, seed)
        if folds is None:
            raise TltoolError(
                "Every class has a single image to fit on, so there is nothing to select members "
                "by; give more images, or take --strategy off-the-shelf."
            )
        notes += fewer_folds(examples, folds, self.folds)
        for note in notes:
            _log.warning(note)
        found: list[_Candidate] = []
        looks = list(_looks(source))
        with progress("candidates", len(looks)) as advance:
            for look in looks:
                problem = look.problem(values, targets, len(dataset.labels), weights)
                found += _candidates(look, problem, folds, self.classifiers, self.chains)
                advance(1)
        most = max(2, len(examples) // _IMAGES_OF_CANDIDATE)
        tried = sorted(found, key=lambda one: one.log_loss)
        kept = tried[:most]
        said = np.stack([one.probabilities for one in kept])
        choice = choose_combination(said, targets, folds, ("greedy",), seed=seed, weights=weights)
        shares = choice.chosen.weights
        used = [i for i, share in enumerate(shares) if share >= _LIGHTEST]
        members = [
            _Member(kept[i].look, _fitted(kept[i], values, targets, dataset, weights)) for i in used
        ]
        shares = shares[used] / shares[used].sum()
        calibration = choose_calibration(choice.scores, targets, folds, weights=weights)
        hits = int((choice.scores.argmax(axis=1) == targets).sum())
        low, high = wilson_interval(hits, len(targets))
        choices = {
            "mixture": [
                {"share": float(share)} | kept[i].described()
                for share, i in zip(shares, used, strict=True)
            ],
            "candidates": [one.described() for one in tried],
            "folds": int(folds.max()) + 1,
            "estimate": {"accuracy": hits / len(targets), "low": low, "high": high},
            "temperature": calibration.temperature,
            "calibration": {"method": calibration.method, "images": calibration.images},
            "transforms": [],
        }
        return MixtureFit(
            dataset.labels,
            choices,
            (*notes, *([choice.note] if choice.note else [])),
            members=tuple(members),
            combination=Combination("greedy", shares),
            calibration=calibration,
            held_out=OutOfSample(tuple(examples), calibration.apply(choice.scores)),
        )


@dataclass(frozen=True)
class _Look:
    """Which of the stored features a classifier is given.

    Args:
        name: in words.
        group: place of the views that they are averaged over, in `_groups`.
        views: their numbers.
        start: the first column.
        widths: of each part, from there on.
    """

    name: str
    group: int
    views: tuple[int, ...]
    start: int
    widths: tuple[int, ...]

    @property
    def columns(self) -> slice:
        return slice(self.start, self.start + sum(self.widths))

    def features(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """`(n, d)`, of those of each group of views."""
        return np.ascontiguousarray(values[self.group][:, self.columns])

    def problem(
        self,
        values: Sequence[np.ndarray],
        targets: np.ndarray,
        k: int,
        weights: np.ndarray | None,
    ) -> Problem:
        return Problem(self.features(values), targets, k, self.widths, weights)

    def on(self, every_view: keras.Model) -> keras.Model:
        """From canvases to these features, of the model that gives those of each view."""
        keras = import_keras()
        given = every_view.output
        if len(given.shape) == 3:
            if len(self.views) < given.shape[1]:
                given = keras.ops.take(given, np.array(self.views), axis=1)
            given = keras.ops.mean(given, axis=1)
        if sum(self.widths) < given.shape[1]:
            given = given[:, self.columns]
        return keras.Model(every_view.input, given)


@dataclass(frozen=True)
class _Candidate:
    """A classifier on a look at the features, and what it says of images held out."""

    look: _Look
    candidate: Candidate
    temperature: float
    probabilities: np.ndarray
    accuracy: float
    log_loss: float

    def described(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "features": self.look.name,
            "classifier": self.candidate.classifier,
            "transforms": list(self.candidate.transforms),
            "value": self.candidate.value,
            "accuracy": self.accuracy,
            "log_loss": self.log_loss,
        }


def _groups(source: FeatureSource) -> dict[str, tuple[int, ...]]:
    """Views that features are averaged over: all of them, and those of the whole image."""
    views = source.views
    groups = {"": tuple(range(views.count))}
    if views.whole and views.crops:
        upright = 1 + len(views.crops)
        groups[", whole image"] = (0, upright) if views.mirrored else (0,)
    return groups


def _looks(source: FeatureSource) -> Iterator[_Look]:
    """Every part of the taps and all of them, of every group of views."""
    parts, widths = source.backbone.parts, source.widths
    starts = np.concatenate([[0], np.cumsum(widths)])
    for group, (said, chosen) in enumerate(_groups(source).items()):
        for part, start, width in zip(parts, starts[:-1], widths, strict=True):
            yield _Look(f"{part}{said}", group, chosen, int(start), (width,))
        if len(parts) > 1:
            yield _Look(f"all{said}", group, chosen, 0, tuple(widths))


def _candidates(
    look: _Look,
    problem: Problem,
    folds: np.ndarray,
    classifiers: Sequence[str],
    chains: Sequence[tuple[str, ...]],
) -> Iterator[_Candidate]:
    """The best of each classifier."""
    table = choose(problem, folds, classifiers, chains, nested=False).table
    for name in classifiers:
        chosen = best(row for row in table if row.candidate.classifier == name).candidate
        scores = out_of_fold_scores(problem, chosen, folds)
        temperature = fit_temperature(scores, problem.targets, problem.row_weights)
        said = softmax(scores / temperature)
        weights, hits = problem.row_weights, scores.argmax(axis=1) == problem.targets
        accuracy, loss = (
            float(np.average(each, weights=weights))
            for each in (hits, log_losses(said, problem.targets))
        )
        yield _Candidate(look, chosen, temperature, said, accuracy, loss)


def _fitted(
    one: _Candidate,
    values: Sequence[np.ndarray],
    targets: np.ndarray,
    dataset: Dataset,
    weights: np.ndarray | None,
) -> Classifier:
    k = len(dataset.labels)
    made = fit_candidate(one.look.problem(values, targets, k, weights), one.candidate)
    return made.scaled(np.full(k, 1.0 / one.temperature), np.zeros(k))


@dataclass(frozen=True)
class _Member:
    """A calibrated classifier, and what it looks at."""

    look: _Look
    classifier: Classifier


@dataclass(frozen=True)
class MixtureFit(FittedClassifier):
    """Classifiers of one network's features, and how they are combined.

    Args:
        members: the classifiers.
        combination: of their probabilities.
        calibration: of what comes of that.
    """

    members: tuple[_Member, ...] = field(kw_only=True)
    combination: Combination = field(kw_only=True)
    calibration: Calibration = field(kw_only=True)

    def described(self) -> list[tuple[str, str]]:
        """See `FittedClassifier`."""
        choices = self.choices
        tried, used = len(choices["candidates"]), len(self.members)
        first = max(choices["mixture"], key=lambda row: row["share"])
        figures = "{accuracy:.3f}   95 % interval {low:.3f} to {high:.3f}".format(
            **choices["estimate"]
        )
        name = first["classifier"]
        largest = f"{name} ({PENALTIES[name]} {first['value']:g}) on {first['features']}"
        return [
            ("Members", f"{counted(used, 'classifier')} of {tried} that were tried"),
            ("Largest share", f"{first['share']:.2f}, {largest}"),
            ("Estimated before", f"{figures}, cross-validation of the shares, no test image seen"),
        ]

    def features_from(self, source: FeatureSource) -> FeatureSource:
        """See `FittedClassifier`."""
        return source.for_prediction()

    def build_model(self, source: FeatureSource) -> keras.Model:
        """See `FittedClassifier`."""
        shown = self.features_from(source)
        every_view = shown.model_of_each_view()
        models = [member.classifier.on(member.look.on(every_view)) for member in self.members]
        size = shown.canvas_size
        return combined_model(models, self.combination, self.calibration, size, inside=False)

    def scores(self, source: FeatureSource, examples: Sequence[Example]) -> np.ndarray:
        """See `FittedClassifier`."""
        shown = self.features_from(source)
        values = shown.means(examples, list(_groups(shown).values()))
        said = [softmax(m.classifier.scores(m.look.features(values))) for m in self.members]
        found = self.calibration.apply(self.combination.scores(np.stack(said)))
        return found.astype(np.float32)
