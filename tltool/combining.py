"""Several classifiers' probabilities of the same images made into one, over plain arrays.

Members are weighed by what they say of images that none of them was fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tltool._validation import check_option
from tltool.linear import LinearHead, Problem, choose, fit_candidate
from tltool.linear.calibration import calibrated_log_loss
from tltool.linear.linear_head import softmax

__all__ = [
    "BEST",
    "CANDIDATES",
    "METHODS",
    "SMALLEST",
    "Combination",
    "CombinationChoice",
    "choose_combination",
    "fit_combination",
    "too_few",
    "usual_soup",
]

SMALLEST = 1e-7
"""Probabilities are no smaller where logarithms are taken."""

# Of weights: passes of expectation and maximisation, and as how many images each member counts
# beforehand.
_PASSES, _STILL = 2000, 1e-7
_PRIOR = 1.0

# Of greedy selection: bags of half of the members each, where there are so many that one does not
# miss the best; and how often a member is added.
_BAGS, _BAG_SHARE, _FEWEST_TO_BAG, _ADDED = 20, 0.5, 10, 40

BEST = "best-member"
"""The member with the lowest log loss alone."""

METHODS = ("mean", "geometric-mean", "weights", "greedy", "stacking")
"""Ways to combine all, the simplest first."""

CANDIDATES = (BEST, *METHODS)
"""What one of is chosen where nothing is asked for."""

_FITTED = (BEST, "weights", "greedy", "stacking")

# Of stacking, where the folds that were given are held out already.
_INNER_FOLDS = 5

# Fewer images, or fewer for each member, tell nothing of weights.
_FEWEST, _FEWEST_OF_MEMBER = 30, 5


@dataclass(frozen=True)
class Combination:
    """How members' probabilities become one.

    Args:
        method: one of `METHODS`, or `BEST`.
        weights: of the members, `(m,)`, 1 together; of stacking, as they were asked equally.
        head: of stacking, from the members' log probabilities side by side to scores.
    """

    method: str
    weights: np.ndarray
    head: LinearHead | None = None

    def scores(self, probabilities: np.ndarray) -> np.ndarray:
        """Scores `(n, k)` before the softmax, of probabilities `(m, n, k)`."""
        if self.head is not None:
            return self.head.scores(_side_by_side(probabilities))
        if self.method == "geometric-mean":
            return np.einsum("m,mnk->nk", self.weights, _logs(probabilities))
        return _logs(np.einsum("m,mnk->nk", self.weights, probabilities))

    def combine(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities `(n, k)`, of those of members `(m, n, k)`."""
        return softmax(self.scores(probabilities))


@dataclass(frozen=True)
class CombinationChoice:
    """Which method was taken, and by which figures.

    Args:
        chosen: fitted on all images.
        table: of each method accuracy and log loss, cross-validated; the log loss at the
            temperature that suits it best.
        nested: accuracy of the choice itself on images that it was not made by; None where nothing
            was chosen, or there are but two folds.
        scores: of the chosen method on images that it was not fitted on, `(n, k)`.
        note: why nothing could be fitted, in a sentence; empty otherwise.
    """

    chosen: Combination
    table: dict[str, tuple[float, float]]
    nested: float | None
    scores: np.ndarray
    note: str


def choose_combination(
    probabilities: np.ndarray,
    targets: np.ndarray,
    folds: np.ndarray | None,
    methods: Sequence[str] = CANDIDATES,
    *,
    seed: int = 0,
    weights: np.ndarray | None = None,
) -> CombinationChoice:
    """The method with the lowest cross-validated log loss at the temperature that suits it best.

    A mean is less sure than its members, which the calibration of the whole mends; so that is no
    fault of it.

    Args:
        probabilities: of images that no member was fitted on, `(m, n, k)`.
        targets: `(n,)`, their classes.
        folds: a fold number for each, `(n,)`, three at least; None where there are none.
        methods: to choose from, the simplest first.
        seed: of the bags.
        weights: of the images, `(n,)`, above 0 and 1 in the mean; None for one each.
    """
    for name in methods:
        check_option("--combine", name, CANDIDATES)
    m, n, _ = probabilities.shape
    weighs = any(name in _FITTED for name in methods)
    if folds is None or (weighs and too_few(n, m)):
        note = (
            f"{n} images that no member was fitted on are too few to weigh {m} members by, so "
            "their probabilities were averaged."
        )
        made = Combination("mean" if weighs else methods[0], _equal(m))
        return CombinationChoice(made, {}, None, made.scores(probabilities), note if weighs else "")
    counts = np.ones(n) if weights is None else weights
    scores = _cross_validated(probabilities, targets, folds, counts, methods, seed)
    table = {
        name: (
            float(np.average(found.argmax(axis=1) == targets, weights=counts)),
            _log_loss(found, targets, counts),
        )
        for name, found in scores.items()
    }
    chosen = min(methods, key=lambda name: table[name][1])
    nested = None
    if len(methods) > 1 and len(np.unique(folds)) > 2:
        right = np.zeros(n)
        for fold in np.unique(folds):
            held, others = folds == fold, folds != fold
            known = probabilities[:, others], targets[others], folds[others], counts[others]
            inner = _cross_validated(*known, methods, seed)
            losses = {
                name: _log_loss(found, targets[others], counts[others])
                for name, found in inner.items()
            }
            made = fit_combination(min(methods, key=losses.__getitem__), *known, seed=seed)
            right[held] = made.combine(probabilities[:, held]).argmax(axis=1) == targets[held]
        nested = float(np.average(right, weights=counts))
    made = fit_combination(chosen, probabilities, targets, folds, counts, seed=seed)
    return CombinationChoice(made, table, nested, scores[chosen], "")


def usual_soup(combine: str) -> str:
    """Which averages of weights join the members where nothing is said of that."""
    return "greedy" if combine == "auto" else "none"


def too_few(n: int, m: int) -> bool:
    """Whether n images that no member was fitted on say nothing of how to weigh m of them."""
    return n < max(_FEWEST, _FEWEST_OF_MEMBER * m)


def fit_combination(
    method: str,
    probabilities: np.ndarray,
    targets: np.ndarray,
    folds: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    seed: int = 0,
) -> Combination:
    """One method, fitted on all images.

    Args:
        method: one of `METHODS`, or `BEST`.
        probabilities: of images that no member was fitted on, `(m, n, k)`.
        targets: `(n,)`, their classes.
        folds: a fold number for each, `(n,)`, by which stacking chooses its penalty.
        weights: of the images, `(n,)`, above 0: of 2, an image counts as two. None for one each.
        seed: of the bags.
    """
    counts = np.ones(len(targets)) if weights is None else weights
    if method == "stacking":
        return _stacked(probabilities, targets, folds, counts)
    own = probabilities[:, np.arange(len(targets)), targets]
    if method == BEST:
        alone = np.zeros(len(own))
        alone[(np.log(np.maximum(own, SMALLEST)) @ counts).argmax()] = 1.0
        return Combination(method, alone)
    if method == "weights":
        return Combination(method, _weighed(own, counts))
    if method == "greedy":
        return Combination(method, _greedy(own, counts, seed))
    return Combination(method, _equal(len(own)))


def _log_loss(scores: np.ndarray, targets: np.ndarray, counts: np.ndarray) -> float:
    return calibrated_log_loss(scores, targets, counts)[0]


def _equal(m: int) -> np.ndarray:
    return np.full(m, 1.0 / m)


def _weighed(own: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Weights of the mean with the lowest log loss, by expectation and maximisation.

    The log loss is convex in them; each member counts as an image of its own beforehand, so that
    none is thrown out by chance.

    Args:
        own: probabilities of the true classes, `(m, n)`.
        counts: as how many images each counts, `(n,)`.
    """
    m, n = len(own), float(counts.sum())
    weights = _equal(m)
    likely = np.maximum(own, SMALLEST)
    for _ in range(_PASSES):
        shares = weights[:, None] * likely
        shares /= shares.sum(axis=0)
        before, weights = weights, (shares @ counts + _PRIOR) / (n + m * _PRIOR)
        if np.abs(weights - before).max() < _STILL:
            break
    return weights


def _greedy(own: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """Members added one after another, each as often as it lowers the log loss of the mean.

    With replacement, begun with the best, over bags of half of the members where these are many.
    Source: Caruana et al., "Ensemble Selection from Libraries of Models", 2004.
    """
    m, _ = own.shape
    random = np.random.default_rng(seed)
    bags, size = (1, m) if m < _FEWEST_TO_BAG else (_BAGS, round(_BAG_SHARE * m))
    parts = counts / counts.sum()
    added = np.zeros(m)
    for _ in range(bags):
        bag = np.sort(random.permutation(m)[:size])
        likely = np.maximum(own[bag], SMALLEST)
        total, best, best_loss = np.zeros(likely.shape[1]), np.zeros(size), np.inf
        taken = np.zeros(size)
        for step in range(1, _ADDED + 1):
            losses = -np.log((total + likely) / step) @ parts
            winner = int(losses.argmin())
            taken[winner] += 1
            total += likely[winner]
            if losses[winner] < best_loss - 1e-9:
                best, best_loss = taken.copy(), float(losses[winner])
        added[bag] += best / best.sum()
    return added / added.sum()


def _stacked(
    probabilities: np.ndarray, targets: np.ndarray, folds: np.ndarray, counts: np.ndarray
) -> Combination:
    """Multinomial logistic regression on the members' log probabilities.

    Source: Wolpert, "Stacked Generalization", 1992; Ting and Witten, "Issues in Stacked
    Generalization", 1999.
    """
    m, _, k = probabilities.shape
    problem = Problem(_side_by_side(probabilities).astype(np.float32), targets, k, weights=counts)
    found, numbered = np.unique(folds, return_inverse=True)
    if len(found) < 2:  # what is left when folds are held out
        numbered = np.arange(len(targets)) % min(_INNER_FOLDS, len(targets))
    chosen = choose(problem, numbered, ("logistic-regression",), nested=False).chosen
    return Combination("stacking", _equal(m), fit_candidate(problem, chosen.candidate).head)


def _cross_validated(
    probabilities: np.ndarray,
    targets: np.ndarray,
    folds: np.ndarray,
    counts: np.ndarray,
    methods: Sequence[str],
    seed: int,
) -> dict[str, np.ndarray]:
    """Scores `(n, k)` of each method, by fits without the fold of each image."""
    found = {name: np.zeros(probabilities.shape[1:]) for name in methods}
    for fold in np.unique(folds):
        held, others = folds == fold, folds != fold
        known = probabilities[:, others], targets[others], folds[others], counts[others]
        for name in methods:
            made = fit_combination(name, *known, seed=seed)
            found[name][held] = made.scores(probabilities[:, held])
    return found


def _logs(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, SMALLEST))


def _side_by_side(probabilities: np.ndarray) -> np.ndarray:
    """The log probabilities of all members, `(n, m * k)`."""
    m, n, k = probabilities.shape
    return _logs(probabilities).transpose(1, 0, 2).reshape(n, m * k)
