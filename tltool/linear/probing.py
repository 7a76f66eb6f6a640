"""A linear probe: how well a class can be told from features, with all images and with fewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tltool.linear.held_out import HeldOut, closed_forms
from tltool.linear.problem import Problem
from tltool.linear.search import VALUES

__all__ = ["Probe", "probe"]

_CLASSIFIER = "lda"


@dataclass(frozen=True)
class Probe:
    """Cross-validated shrinkage LDA.

    Args:
        sizes: mean numbers of images that it was fitted on, ascending, `(s,)`.
        hits: for each size and image, whether it was right while held out; over several rounds how
            often, `(s, n)`.
        losses: its log loss, `(s, n)`.
    """

    sizes: np.ndarray
    hits: np.ndarray
    losses: np.ndarray

    @property
    def accuracy(self) -> float:
        """With the most images."""
        return float(self.hits[-1].mean())


def probe(
    problem: Problem,
    rounds: Sequence[np.ndarray],
    chain: tuple[str, ...],
    shares: Sequence[float] = (1.0,),
    seed: int = 0,
) -> Probe:
    """Fit on the images of all folds but one, and on nested shares of each class of them.

    Of the shrinkages the one with the lowest log loss is taken, for each share by itself.

    Args:
        problem: features and classes.
        rounds: fold numbers of each row, `(n,)`, once or several times.
        chain: transforms.
        shares: of the images to fit on, ascending; one image of each class at least.
        seed: of which images these are.
    """
    n, values = len(problem.targets), VALUES[_CLASSIFIER]
    hits = np.zeros((len(shares), len(values), n))
    losses = np.zeros((len(shares), len(values), n))
    sizes = np.zeros(len(shares))
    fits = 0
    for number, folds in enumerate(rounds):
        place = _places(problem.targets, seed + number)
        for fold in np.unique(folds):
            held = np.flatnonzero(folds == fold)
            others = np.flatnonzero(folds != fold)
            fits += 1
            for i, share in enumerate(shares):
                chosen = others[_nested(problem.targets[others], place[others], share)]
                sizes[i] += len(chosen)
                for v, found in enumerate(_fitted(problem, chosen, held, chain)):
                    hits[i, v, held] += found.hits
                    losses[i, v, held] += found.losses
    best = losses.mean(axis=2).argmin(axis=1)
    rows = np.arange(len(shares))
    return Probe(sizes / fits, hits[rows, best] / len(rounds), losses[rows, best] / len(rounds))


def _places(targets: np.ndarray, seed: int) -> np.ndarray:
    """Each row's place in its class, drawn by lot."""
    order = np.random.default_rng(seed).permutation(len(targets))
    place = np.empty(len(targets), np.int64)
    for c in np.unique(targets):
        rows = order[targets[order] == c]
        place[rows] = np.arange(len(rows))
    return place


def _nested(targets: np.ndarray, place: np.ndarray, share: float) -> np.ndarray:
    """Which rows are the first of their class, up to a share of it; `place` orders them."""
    kept = np.zeros(len(targets), bool)
    for c in np.unique(targets):
        rows = np.flatnonzero(targets == c)
        first = rows[np.argsort(place[rows], kind="stable")]
        kept[first[: max(1, round(share * len(rows)))]] = True
    return np.flatnonzero(kept)


def _fitted(
    problem: Problem, chosen: np.ndarray, held: np.ndarray, chain: tuple[str, ...]
) -> list[HeldOut]:
    """What fits on some rows tell of others, for every shrinkage."""
    rows = np.concatenate([held, chosen])
    part = Problem(problem.features[rows], problem.targets[rows], problem.n_classes, problem.widths)
    folds = np.repeat([0, 1], [len(held), len(chosen)])
    forms, judged = closed_forms(part, chain, folds, frozenset((0,)))
    return judged.judge(forms.solution(_CLASSIFIER, value) for value in VALUES[_CLASSIFIER])
