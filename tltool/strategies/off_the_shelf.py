"""Off-the-shelf features: the network as it is, and a linear classifier on top."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from tltool._cores import cores
from tltool._progress import progress
from tltool.data import Dataset, Example
from tltool.features import FeatureSource
from tltool.strategies.folds import stratified_folds
from tltool.strategies.logistic import fit_logistic, fit_logistic_path
from tltool.strategies.strategy import FittedClassifier

__all__ = ["OffTheShelf"]

_log = logging.getLogger(__name__)

# Where no folds can be made: the middle of what was chosen on data sets where they can.
_DEFAULT_C = 0.1


class OffTheShelf:
    """Logistic regression on stored features.

    C is the value with the highest cross-validated accuracy on train and validation images
    together (of equals, the one with the lowest log loss); the head is then fitted on all of
    them. The values are tried upwards, until accuracy has fallen twice in a row.

    Args:
        values: of C, ascending.
        folds: of the cross-validation; fewer where a class has fewer images.

    Source: Donahue et al., "DeCAF", 2013, https://arxiv.org/abs/1310.1531; Razavian et al.,
    "CNN Features off-the-shelf", 2014, https://arxiv.org/abs/1403.6382
    """

    name = "off-the-shelf"

    def __init__(
        self,
        values: Sequence[float] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
        folds: int = 5,
    ) -> None:
        self.values = values
        self.folds = folds

    def fit(self, source: FeatureSource, dataset: Dataset, *, seed: int) -> FittedClassifier:
        """See `Strategy.fit`."""
        examples = dataset.of("train", "val")
        features = source.features(examples).values
        targets = dataset.targets(examples)
        n_classes = len(dataset.labels)
        folds = stratified_folds(examples, self.folds, seed)
        if folds is None:
            _log.warning(
                "Every class has a single image to fit on, so the regularisation could not be "
                "chosen by cross-validation; C = %g was taken.",
                _DEFAULT_C,
            )
            table: list[dict[str, float]] = []
            chosen = _DEFAULT_C
        else:
            table = self._cross_validate(features, targets, n_classes, folds)
            chosen = max(table, key=lambda row: (row["accuracy"], -row["log_loss"]))["C"]
        with threadpool_limits(1):  # measured: quicker than two for all but the widest features
            head = fit_logistic(features, targets, n_classes, chosen)
        choices: dict[str, Any] = {
            "classifier": "logistic regression",
            "C": chosen,
            "folds": 0 if folds is None else int(folds.max()) + 1,
            "cross_validation": table,
        }

        def predict_proba(wanted: Sequence[Example]) -> np.ndarray:
            return head.predict_proba(source.features(wanted).values)

        return FittedClassifier(
            dataset.labels, lambda: head.on(source.backbone.model), predict_proba, choices
        )

    def _cross_validate(
        self, features: np.ndarray, targets: np.ndarray, n_classes: int, folds: np.ndarray
    ) -> list[dict[str, float]]:
        """Accuracy and log loss of each value that was tried, over all held-out images."""
        count = int(folds.max()) + 1
        paths = [
            fit_logistic_path(features[folds != f], targets[folds != f], n_classes, self.values)
            for f in range(count)
        ]
        table: list[dict[str, float]] = []
        n = len(targets)

        def score(fold: int) -> tuple[int, float]:
            """Right answers and summed log loss on a fold, for the next value."""
            held_out = folds == fold
            probabilities = next(paths[fold]).predict_proba(features[held_out])
            truth = targets[held_out]
            right = probabilities[np.arange(len(truth)), truth]
            losses = -np.log(np.maximum(right, np.finfo(np.float32).eps))
            return int((probabilities.argmax(axis=1) == truth).sum()), float(losses.sum())

        # A core a fold: within one, a second thread would mostly wait for the first.
        n_cores = cores()
        with (
            threadpool_limits(max(1, n_cores // count)),
            ThreadPoolExecutor(min(n_cores, count)) as pool,
            progress("fitting", len(self.values) * count) as advance,
        ):
            for value in self.values:
                hits, losses = 0, 0.0
                for right, loss in pool.map(score, range(count)):
                    hits, losses = hits + right, losses + loss
                    advance(1)
                table.append({"C": value, "accuracy": hits / n, "log_loss": losses / n})
                if _falling([row["accuracy"] for row in table]):
                    break
        return table


def _falling(figures: Sequence[float]) -> bool:
    """Whether the last two figures each fell below the one before."""
    return len(figures) >= 3 and figures[-3] > figures[-2] > figures[-1]
