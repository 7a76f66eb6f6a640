"""Choosing classifier, transforms and penalty by cross-validation, and what the choice is worth.

The figure that a choice was made by flatters it. So the choice is made anew without each fold, by
cross-validation among the others, and judged on that fold. A classifier fitted without folds a
and b serves both the choice without a and the one without b, so that with five folds ten more fits
on three fifths of the images are all that nesting takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from tltool._cores import cores
from tltool._progress import progress
from tltool.linear.closed import ClosedForms
from tltool.linear.held_out import HeldOut, Split, closed_forms, shared_basis, split_off
from tltool.linear.problem import Problem
from tltool.linear.smooth import LOSSES, SmoothPath
from tltool.linear.spectrum import Spectrum
from tltool.linear.transforms import Classifier, Transforms, learns

__all__ = [
    "CLASSIFIERS",
    "VALUES",
    "Candidate",
    "Choice",
    "Scored",
    "choose",
    "fit_candidate",
]

# What is tried of each penalty, from the simplest classifier to the closest fit. C and alpha are
# for features whose mean variance is 1; alpha is a share of the number of images.
VALUES: dict[str, tuple[float, ...]] = {
    "lda": (0.99, 0.97, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1, 0.03),
    "ridge": (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003),
    "logistic-regression": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    "svm": (0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
}
CLASSIFIERS = tuple(VALUES)

# Images or features, whichever are fewer, up to which a closed form is quicker with a core of its
# own: what it works on then stays in the cache.
_NARROW = 1536


@dataclass(frozen=True)
class Candidate:
    """One way to classify.

    Args:
        classifier: "lda", "ridge", "logistic-regression" or "svm".
        transforms: steps before it.
        value: its shrinkage, alpha or C.
    """

    classifier: str
    transforms: tuple[str, ...]
    value: float


@dataclass(frozen=True)
class Scored:
    """What cross-validation found of a candidate.

    Args:
        candidate: which.
        accuracy: share of the images that were right while held out.
        log_loss: mean over those images, each fold's scores divided by the temperature that
            suits that fold best.
        temperature: what scores are divided by to be calibrated, the folds' geometric mean.
    """

    candidate: Candidate
    accuracy: float
    log_loss: float
    temperature: float


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Args:
        chosen: the best.
        table: every candidate, in the order in which they were tried.
        nested: share of the images that were right while held out from the choice, too; None
            with fewer than three folds.
        nested_hits: for each row whether it was; None as above.
        smaller: the same as `nested` where two folds were held out: with fewer images to learn
            from, it tells what more would bring.
        folds: how many there were.
    """

    chosen: Scored
    table: tuple[Scored, ...]
    nested: float | None
    nested_hits: np.ndarray | None
    smaller: float | None
    folds: int

    @property
    def expected(self) -> float | None:
        """`nested`, extended from the images of all folds but one to those of all.

        The error falls as a power of the number of images; how steeply is told by `smaller`. Never
        steeper than in inverse proportion, nor upwards. Source: Cortes et al., "Learning Curves:
        Asymptotic Values and Rate of Convergence", 1993, with an asymptote of 0.
        """
        if self.nested is None or self.smaller is None:
            return None
        error, more = 1.0 - self.nested, 1.0 - self.smaller
        if not 0 < error < more:
            return self.nested
        steps = np.log([(self.folds - 1) / (self.folds - 2), self.folds / (self.folds - 1)])
        steepness = min(1.0, float(np.log(more / error) / steps[0]))
        return 1.0 - error * float(np.exp(-steepness * steps[1]))


_Key = tuple[tuple[str, ...], str, frozenset[int]]


def choose(
    problem: Problem,
    folds: np.ndarray,
    classifiers: Sequence[str] = CLASSIFIERS,
    chains: Sequence[tuple[str, ...]] = (("standardise",),),
    *,
    nested: bool = True,
) -> Choice:
    """The best classifier, transforms and value by cross-validated accuracy.

    Of equals the one with the lowest log loss is taken. Classifiers that are found step by step,
    logistic regression and SVM, are tried on the transforms alone that serve ridge regression
    best: it is as linear as they are, and tells in a fraction of their time.

    Args:
        problem: features and classes.
        folds: a fold number for each row, `(n,)`, from 0; two at least.
        classifiers: to choose from.
        chains: transforms to choose from.
        nested: whether to tell what the choice is worth.
    """
    search = _Search(problem, folds, classifiers, chains)
    count = search.count
    nested = nested and count > 2
    search.run(nested)
    everywhere = tuple(range(count))
    table = search.table(everywhere, ())
    chosen = best(table)
    if not nested:
        return Choice(chosen, table, None, None, None, count)
    hits = np.zeros(len(problem.targets), bool)
    smaller = np.zeros(len(problem.targets))
    for out in everywhere:
        others = tuple(f for f in everywhere if f != out)
        without = best(search.table(others, (out,))).candidate
        judged = search.held_out(without, frozenset((out,)))
        hits[judged.rows] = judged.hits
        for other in others:
            pair = search.held_out(without, frozenset((out, other)))
            mine = folds[pair.rows] == out
            smaller[pair.rows[mine]] += pair.hits[mine] / len(others)
    weights = problem.row_weights
    return Choice(
        chosen,
        table,
        float(np.average(hits, weights=weights)),
        hits,
        float(np.average(smaller, weights=weights)),
        count,
    )


def best(table: Iterable[Scored]) -> Scored:
    """The most accurate; of equals the one with the lowest log loss."""
    return max(table, key=lambda scored: (scored.accuracy, -scored.log_loss))


def fit_candidate(problem: Problem, candidate: Candidate) -> Classifier:
    """One candidate, fitted on all rows to the last digits that matter."""
    name, value = candidate.classifier, candidate.value
    if name in LOSSES and not learns(candidate.transforms):
        head = shared_basis(problem, candidate.transforms).finish(name, value)
        return Classifier(candidate.transforms, problem.widths, head)
    problem = problem.to_fit(np.arange(len(problem.targets)))
    transforms = Transforms(candidate.transforms, problem.widths)
    features = transforms.fit(problem.features, problem.weights)
    if name in LOSSES:
        spectrum = Spectrum(features, problem.weights)
        path = SmoothPath(spectrum, problem.targets, problem.n_classes, name)
        head = spectrum.head(path.finish(value))
    else:
        forms = ClosedForms(features, problem.targets, problem.n_classes, problem.weights)
        head = forms.head(forms.solution(name, value))
    return transforms.classifier(head)


def out_of_fold_scores(problem: Problem, candidate: Candidate, folds: np.ndarray) -> np.ndarray:
    """What fits to the other folds say of each row, `(n, k)`, before any calibration.

    Args:
        problem: features and classes.
        candidate: what is fitted.
        folds: a fold number for each row, `(n,)`; two at least.
    """
    name, chain = candidate.classifier, candidate.transforms
    scores = np.zeros((len(problem.targets), problem.n_classes), np.float32)
    for fold in range(int(folds.max()) + 1):
        out = frozenset((fold,))
        if name in LOSSES:
            split = split_off(problem, chain, folds, out)
            solution, judged = split.solution(name, VALUES[name], candidate.value), split.judged
        else:
            forms, judged = closed_forms(problem, chain, folds, out)
            solution = forms.solution(name, candidate.value)
        scores[judged.rows] = judged.scores(solution)
    return scores


class _Search:
    """Held-out results of every candidate, by the folds that were left out."""

    def __init__(
        self,
        problem: Problem,
        folds: np.ndarray,
        classifiers: Sequence[str],
        chains: Sequence[tuple[str, ...]],
    ) -> None:
        self._problem = problem
        self._folds = folds
        self._chains = list(chains)
        self._stepwise = [name for name in classifiers if name in LOSSES]
        self._closed = [name for name in classifiers if name not in LOSSES]
        self.count = int(folds.max()) + 1
        self._results: dict[_Key, list[HeldOut]] = {}
        self._scouted = bool(self._stepwise) and len(self._chains) > 1
        self._scouts = sorted({*self._closed, *(["ridge"] if self._scouted else [])})

    def run(self, nested: bool) -> None:
        """Fit all that is needed."""
        singles = [frozenset((fold,)) for fold in range(self.count)]
        pairs = [frozenset(pair) for pair in combinations(range(self.count), 2)]
        outs = singles + (pairs if nested else [])
        if self._scouts:
            with progress("fitting closed forms", len(outs) * len(self._chains)) as advance:
                jobs = list(product(self._chains, outs))
                if min(self._problem.features.shape) <= _NARROW:
                    _side_by_side(self._fit_closed, jobs, advance)
                else:
                    for job in jobs:
                        self._fit_closed(*job)
                        advance(1)
        if self._stepwise:
            wanted = self._wanted(nested)
            with progress("fitting step by step", len(wanted) * len(self._stepwise)) as advance:
                self._fit_stepwise(wanted, advance)

    def table(self, folds: Sequence[int], out: tuple[int, ...]) -> tuple[Scored, ...]:
        """Every candidate, judged on some folds by fits without them and without those of `out`."""
        rows = []
        for chain in self._chains:
            for name in (*self._closed, *self._stepwise):
                if name in self._stepwise and self._scouted and chain != self._scout(folds, out):
                    continue
                rows += [self._scored(Candidate(name, chain, v), folds, out) for v in VALUES[name]]
        return tuple(rows)

    def held_out(self, candidate: Candidate, out: frozenset[int]) -> HeldOut:
        """A candidate's results without these folds."""
        values = VALUES[candidate.classifier]
        found = self._results[candidate.transforms, candidate.classifier, out]
        return found[values.index(candidate.value)]

    def _scored(self, candidate: Candidate, folds: Sequence[int], out: tuple[int, ...]) -> Scored:
        """A candidate on the rows of some folds, each by the fit that left it and `out` out."""
        hits = losses = total = logs = 0.0
        for fold in folds:
            found = self.held_out(candidate, frozenset((fold, *out)))
            mine = self._folds[found.rows] == fold
            weights = self._problem.row_weights[found.rows[mine]]
            hits += float(weights @ found.hits[mine])
            losses += float(weights @ found.losses[mine])
            total += float(weights.sum())
            temperatures = found.temperatures[mine]
            logs += float(np.log(temperatures[:1]).sum()) / len(folds)
        total = max(total, 1e-30)
        return Scored(candidate, hits / total, losses / total, float(np.exp(logs)))

    def _scout(self, folds: Sequence[int], out: tuple[int, ...]) -> tuple[str, ...]:
        """The transforms that serve ridge regression best."""
        table = [
            self._scored(Candidate("ridge", chain, value), folds, out)
            for chain in self._chains
            for value in VALUES["ridge"]
        ]
        return best(table).candidate.transforms

    def _wanted(self, nested: bool) -> list[tuple[tuple[str, ...], frozenset[int]]]:
        """Chains and folds to leave out that stepwise classifiers are to be fitted with."""
        everywhere = tuple(range(self.count))
        wanted = []
        outs: list[tuple[int, ...]] = [(), *((f,) for f in everywhere if nested)]
        for out in outs:
            others = [f for f in everywhere if f not in out]
            chains = [self._scout(others, out)] if self._scouted else self._chains
            for chain in chains:
                wanted += [(chain, frozenset((f, *out))) for f in others]
                wanted += [(chain, frozenset(out))] if out else []
        return list(dict.fromkeys(wanted))

    def _fit_closed(self, chain: tuple[str, ...], out: frozenset[int]) -> None:
        forms, judged = closed_forms(self._problem, chain, self._folds, out)
        for name in self._scouts:
            solutions = (forms.solution(name, value) for value in VALUES[name])
            self._results[chain, name, out] = judged.judge(solutions)

    def _fit_stepwise(
        self,
        wanted: Sequence[tuple[tuple[str, ...], frozenset[int]]],
        advance: Callable[[int], None],
    ) -> None:
        """A core a path: within one, a second thread would mostly wait for the first.

        What is left at the end shares the cores.
        """

        def fit(name: str, chain: tuple[str, ...], out: frozenset[int], split: Split) -> None:
            self._results[chain, name, out] = split.walk(name, VALUES[name])

        n_cores = cores()
        for start in range(0, len(wanted), n_cores):
            splits = [
                (chain, out, split_off(self._problem, chain, self._folds, out))
                for chain, out in wanted[start : start + n_cores]
            ]
            _side_by_side(fit, [(n, *rest) for n in self._stepwise for rest in splits], advance)


def _side_by_side(
    fit: Callable[..., None], jobs: Sequence[tuple[Any, ...]], advance: Callable[[int], None]
) -> None:
    """Fits at the same time, the cores shared out among them."""
    import scipy.linalg  # noqa: F401 - threads of libraries that are loaded alone can be limited

    n_cores = cores()
    pool = ThreadPoolExecutor(n_cores, thread_name_prefix="fit")
    try:
        with threadpool_limits(max(1, n_cores // len(jobs))):
            for _ in pool.map(lambda job: fit(*job), jobs):
                advance(1)
    finally:  # who interrupts does not wait for fits under way
        pool.shutdown(wait=False, cancel_futures=True)
