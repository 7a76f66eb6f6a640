"""Some rows to fit on, and how a fit does on the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tltool.linear.calibration import fit_temperature
from tltool.linear.centred import Solution
from tltool.linear.closed import ClosedForms
from tltool.linear.linear_head import LinearHead, softmax
from tltool.linear.problem import Problem
from tltool.linear.smooth import SmoothPath
from tltool.linear.spectrum import Design, Spectrum
from tltool.linear.transforms import Transforms, apply_of_one_image, learns

__all__ = [
    "HeldOut",
    "Judged",
    "SharedBasis",
    "Split",
    "closed_forms",
    "own_basis",
    "shared_basis",
    "split_off",
]


@dataclass(frozen=True)
class HeldOut:
    """Results on rows that were held out.

    Args:
        rows: which, `(m,)`.
        hits: whether each was right.
        losses: log loss of each, at its temperature.
        temperatures: what its scores were divided by: the number that suits its fold best, so
            that nothing is told of one fold by the classes of another.
    """

    rows: np.ndarray
    hits: np.ndarray
    losses: np.ndarray
    temperatures: np.ndarray


@dataclass(frozen=True)
class Judged:
    """Rows that are held out, by which fits to the others are judged.

    Args:
        problem: all of it.
        rows: which, `(m,)`.
        folds: theirs, `(m,)`.
        coordinates: theirs, `(m, r)`, in which solutions are given.
    """

    problem: Problem
    rows: np.ndarray
    folds: np.ndarray
    coordinates: np.ndarray

    def scores(self, solution: Solution) -> np.ndarray:
        """What a solution says of the rows, `(m, k)`."""
        kernel, bias = solution
        return self.coordinates @ kernel + bias.astype(kernel.dtype)

    def judge(self, solutions: Iterable[Solution]) -> list[HeldOut]:
        """How solutions along a path do."""
        targets = self.problem.targets[self.rows]
        weights = self.problem.row_weights[self.rows]
        parts = [np.flatnonzero(self.folds == fold) for fold in np.unique(self.folds)]
        before: list[float | None] = [None] * len(parts)
        found: list[HeldOut] = []
        for scores in map(self.scores, solutions):
            before = [
                fit_temperature(scores[part], targets[part], weights[part], start)
                for part, start in zip(parts, before, strict=True)
            ]
            temperatures = np.empty(len(scores), scores.dtype)
            for part, temperature in zip(parts, before, strict=True):
                temperatures[part] = temperature
            p = softmax(scores / temperatures[:, None])[np.arange(len(targets)), targets]
            losses = -np.log(np.maximum(p, np.finfo(np.float32).eps))
            hits = scores.argmax(axis=1) == targets
            found.append(HeldOut(self.rows, hits, losses, temperatures))
        return found


@dataclass(frozen=True)
class Split:
    """A part of the rows to fit on step by step, and the others.

    Args:
        design: of the rows to fit on.
        targets: theirs, one for each copy.
        judged: the others, in the same coordinates.
    """

    design: Design
    targets: np.ndarray
    judged: Judged

    def walk(self, name: str, values: Iterable[float]) -> list[HeldOut]:
        """Results along the path of a classifier."""
        return self.judged.judge(map(self._path(name).advance, values))

    def solution(self, name: str, values: Sequence[float], value: float) -> Solution:
        """The one of the path at one of its values."""
        path = self._path(name)
        return [path.advance(v) for v in values[: values.index(value) + 1]][-1]

    def _path(self, name: str) -> SmoothPath:
        return SmoothPath(self.design, self.targets, self.judged.problem.n_classes, name)


def split_off(
    problem: Problem, chain: tuple[str, ...], folds: np.ndarray, out: frozenset[int]
) -> Split:
    """The rows of all folds but those that are held out, and these; see `closed_forms`."""
    if learns(chain):
        return own_basis(problem, chain, folds, out)
    return shared_basis(problem, chain).split(folds, out)


def closed_forms(
    problem: Problem, chain: tuple[str, ...], folds: np.ndarray, out: frozenset[int]
) -> tuple[ClosedForms, Judged]:
    """The closed forms of all folds but those that are held out, and these.

    Args:
        problem: rows and classes.
        chain: transforms.
        folds: a fold number for each row.
        out: those that are held out.
    """
    inside, features, rows, others = _apart(problem, chain, folds, out)
    forms = ClosedForms(features, inside.targets, problem.n_classes, inside.weights)
    return forms, Judged(problem, rows, folds[rows], forms.project(others))


def own_basis(
    problem: Problem, chain: tuple[str, ...], folds: np.ndarray, out: frozenset[int]
) -> Split:
    """A split whose rows to fit on have a factorisation of their own; see `closed_forms`."""
    inside, features, rows, others = _apart(problem, chain, folds, out)
    spectrum = Spectrum(features, inside.weights)
    judged = Judged(problem, rows, folds[rows], spectrum.project(others))
    return Split(spectrum, inside.targets, judged)


def _apart(
    problem: Problem, chain: tuple[str, ...], folds: np.ndarray, out: frozenset[int]
) -> tuple[Problem, np.ndarray, np.ndarray, np.ndarray]:
    """Rows to fit on and their features after a chain; which rows are not, and theirs."""
    held = np.isin(folds, list(out))
    inside, rows = problem.to_fit(np.flatnonzero(~held)), np.flatnonzero(held)
    transforms = Transforms(chain, problem.widths)
    features = transforms.fit(inside.features, inside.weights)
    return inside, features, rows, transforms.apply(problem.features[rows])


@dataclass(frozen=True)
class _Part:
    """Rows of a shared basis, less their `mean` and times a `factor`."""

    design: Design
    targets: np.ndarray
    mean: np.ndarray
    factor: np.floating


def shared_basis(problem: Problem, chain: tuple[str, ...]) -> SharedBasis:
    """The shared basis of a problem after a chain; made once."""
    if chain not in problem.bases:
        problem.bases[chain] = SharedBasis(problem, chain)
    found: SharedBasis = problem.bases[chain]
    return found


class SharedBasis:
    """One factorisation of all rows, in whose coordinates every part of them can be fitted.

    A penalty on the weights' length is the same in every orthonormal basis of the rows' span, so
    the fits are those that a factorisation of the part alone would give; only the directions that
    L-BFGS scales are a little off. That holds where transforms learn nothing of the rows but a
    factor, which is had for each part.

    Args:
        problem: rows and classes.
        chain: transforms of one image.
    """

    def __init__(self, problem: Problem, chain: tuple[str, ...]) -> None:
        if learns(chain):
            raise ValueError(f"{chain} learns from the rows that are fitted on")
        self._problem = problem
        everything = problem.to_fit(np.arange(len(problem.targets)))
        known = apply_of_one_image(chain, problem.widths, everything.features)
        self._spectrum = Spectrum(known)
        self._known = self._judged = self._spectrum.coordinates
        if problem.copies is not None:
            shown = apply_of_one_image(chain, problem.widths, problem.features)
            self._judged = self._spectrum.project(shown)
        self._copies = len(everything.targets) // len(problem.targets)
        self._weights = everything.row_weights
        self._targets = everything.targets

    def split(self, folds: np.ndarray, out: frozenset[int]) -> Split:
        """The rows of all folds but those that are held out, and the others."""
        held = np.isin(folds, list(out))
        rows = np.flatnonzero(held)
        part = self._part(~held)
        coordinates = (self._judged[rows] - part.mean) * part.factor
        judged = Judged(self._problem, rows, folds[rows], coordinates)
        return Split(part.design, part.targets, judged)

    def finish(self, name: str, value: float) -> LinearHead:
        """A classifier found step by step on all rows, of features after the chain."""
        part = self._part(np.ones(len(self._problem.targets), bool))
        path = SmoothPath(part.design, part.targets, self._problem.n_classes, name)
        kernel, bias = path.finish(value)
        kernel = kernel * part.factor
        return self._spectrum.head((kernel, bias - part.mean @ kernel))

    def _part(self, inside: np.ndarray) -> _Part:
        """Some of the rows, centred and of unit variance in the mean."""
        inside = np.repeat(inside, self._copies)
        known, weights = self._known[inside], self._weights[inside]
        total = max(float(weights.sum()), 1e-30)
        mean = ((weights / total) @ known).astype(known.dtype)
        known -= mean
        scatter = np.einsum("i,ij,ij->j", weights.astype(known.dtype), known, known)
        spread = float(scatter.sum(dtype=np.float64)) / total / self._spectrum.n_features
        factor = known.dtype.type(1.0 / np.sqrt(spread) if spread > 0 else 1.0)
        known *= factor
        design = Design(known, scatter * factor**2, weights)
        return _Part(design, self._targets[inside], mean, factor)
