"""Scores to probabilities that can be believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tltool.linear.linear_head import softmax

__all__ = [
    "Calibration",
    "calibrated_log_loss",
    "calibrated_losses",
    "choose_calibration",
    "fit_temperature",
    "fit_vector",
]

# Of vector scaling: how far the factors and the offsets of classes are expected to lie from those
# of the temperature alone, and the fewest images that it is tried on.
_FACTORS, _OFFSETS = 0.25, 1.0
_FEWEST = 10

# By so many standard errors it has to be better than the temperature alone.
_CLEARLY = 2.0


@dataclass(frozen=True)
class Calibration:
    """What is done to scores before the softmax, so that probabilities can be believed.

    Args:
        method: "none", "temperature" or "vector".
        scale: what the scores of each class are multiplied by, `(k,)`, above 0.
        offset: what is added, `(k,)`.
        images: how many told.
    """

    method: str
    scale: np.ndarray
    offset: np.ndarray
    images: int

    @classmethod
    def of_temperature(cls, temperature: float, k: int, images: int) -> Calibration:
        """Scores of `k` classes, all divided by the same number."""
        method = "temperature" if images else "none"
        return cls(method, np.full(k, 1.0 / temperature), np.zeros(k), images)

    @property
    def temperature(self) -> float:
        """What scores are divided by, of several factors their geometric mean."""
        return float(np.exp(-np.log(self.scale).mean()))

    def apply(self, scores: np.ndarray) -> np.ndarray:
        """Scores `(n, k)` as the softmax is to be given them."""
        return scores * self.scale + self.offset

    def undo(self, scores: np.ndarray) -> np.ndarray:
        """What `apply` was given."""
        return (scores - self.offset) / self.scale

    def in_words(self) -> str:
        """How it was done, and on what."""
        if self.method == "none":
            return "none: there are no images to tell by"
        said = f"temperature {self.temperature:.3g}"
        if self.method == "vector":
            low, high = self.scale.min() * self.temperature, self.scale.max() * self.temperature
            said += f", factors of the classes {low:.2f} to {high:.2f}, offsets "
            said += f"{self.offset.min():+.2f} to {self.offset.max():+.2f}"
        return f"{said}; on {self.images:,} images that were not fitted on"


def choose_calibration(
    scores: np.ndarray,
    targets: np.ndarray,
    folds: np.ndarray | None,
    *,
    weights: np.ndarray | None = None,
    calibrated: bool = False,
) -> Calibration:
    """Temperature scaling, or vector scaling where it clearly does better on images held out.

    That is, where its cross-validated log loss is lower by more than two standard errors of the
    difference.

    Args:
        scores: `(m, k)`, of images that the classifier was not fitted on.
        targets: `(m,)`, their classes.
        folds: a fold number for each, `(m,)`; None where no folds can be made.
        weights: `(m,)`; None for one each.
        calibrated: whether they come of probabilities that were calibrated. Then they stay as they
            are, but for a temperature that lowers their cross-validated log loss.
    """
    m, k = scores.shape
    weights = np.ones(m) if weights is None else weights
    kept = calibrated and (folds is None or _gained(scores, targets, folds, weights) <= 0)

    def temperature(rows: slice | np.ndarray) -> float:
        return 1.0 if kept else fit_temperature(scores[rows], targets[rows], weights[rows])

    known = temperature(slice(None))
    simple = Calibration.of_temperature(known, k, m)
    if folds is None or m < _FEWEST or weights.sum() <= 0:
        return simple
    vector = fit_vector(scores, targets, weights, known)
    gained = _losses(simple.apply(scores), targets) - _losses(vector.apply(scores), targets)
    gained -= _freedom(vector, scores, weights) / m
    if not _is_clear(gained, weights):  # not even on the images that it was fitted on
        return simple
    for fold in np.unique(folds):
        held, others = folds == fold, folds != fold
        one = temperature(others)
        more = fit_vector(scores[others], targets[others], weights[others], one)
        gained[held] = _losses(scores[held] / one, targets[held])
        gained[held] -= _losses(more.apply(scores[held]), targets[held])
    return vector if _is_clear(gained, weights) else simple


def _gained(
    scores: np.ndarray, targets: np.ndarray, folds: np.ndarray, weights: np.ndarray
) -> float:
    """By how much a temperature lowers the log loss of images that it was not fitted on."""
    gained = _losses(scores, targets)
    for fold in np.unique(folds):
        held, others = folds == fold, folds != fold
        known = fit_temperature(scores[others], targets[others], weights[others])
        gained[held] -= _losses(scores[held] / known, targets[held])
    return float(weights @ gained)


def _is_clear(gained: np.ndarray, weights: np.ndarray) -> bool:
    """Whether what images gain, `(m,)`, is more than chance makes."""
    shares = weights / weights.sum()
    mean = float(shares @ gained)
    return mean > _CLEARLY * float(np.sqrt(shares**2 @ (gained - mean) ** 2))


def _freedom(vector: Calibration, scores: np.ndarray, weights: np.ndarray) -> float:
    """How many parameters a fitted vector scaling has, less what its prior takes from each.

    An image that it was fitted on gains by that number, divided by the number of images, more than
    one that it was not. Source: Akaike, "A new look at the statistical model identification", 1974;
    the Hessian by its diagonal alone.
    """
    p = softmax(vector.apply(scores))
    unsure = weights[:, None] * p * (1 - p)
    factors = (unsure * (scores / vector.temperature) ** 2).sum(axis=0)
    offsets = unsure.sum(axis=0)
    told = factors / (factors + _FACTORS**-2) + offsets / (offsets + _OFFSETS**-2)
    return float(told.sum())


def fit_vector(
    scores: np.ndarray, targets: np.ndarray, weights: np.ndarray, temperature: float
) -> Calibration:
    """A factor and an offset for each class, near those of a temperature unless images say more.

    Source: vector scaling of Guo et al., "On Calibration of Modern Neural Networks", 2017,
    https://arxiv.org/abs/1706.04599, with a normal prior on what differs from temperature scaling,
    and one image more of which every class is as likely.
    """
    from scipy.optimize import minimize

    m, k = scores.shape
    scaled = scores / temperature
    total = float(weights.sum())
    shares = weights / (total + 1.0)
    wanted = np.zeros((m, k))
    wanted[np.arange(m), targets] = 1.0
    unsure = 1.0 / (1.0 + total)
    wanted = (1 - unsure) * wanted + unsure / k

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        factors, offsets = values[:k], values[k:]
        moved = scaled * factors + offsets
        moved = moved - moved.max(axis=1, keepdims=True)
        logs = moved - np.log(np.exp(moved).sum(axis=1, keepdims=True))
        off = shares[:, None] * (np.exp(logs) - wanted)
        far, shifted = (factors - 1) / _FACTORS, offsets / _OFFSETS
        penalty = 0.5 * float(far @ far + shifted @ shifted) / (total + 1.0)
        slopes = np.concatenate([(off * scaled).sum(axis=0), off.sum(axis=0)])
        slopes += np.concatenate([far / _FACTORS, shifted / _OFFSETS]) / (total + 1.0)
        return -float((shares[:, None] * wanted * logs).sum()) + penalty, slopes

    start = np.concatenate([np.ones(k), np.zeros(k)])
    bounds = [(0.1, 10.0)] * k + [(None, None)] * k
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Calibration("vector", found[:k] / temperature, found[k:], m)


def _losses(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Log loss of each image, `(n,)`."""
    p = softmax(scores)[np.arange(len(targets)), targets]
    return -np.log(np.maximum(p, np.finfo(np.float32).eps))


def fit_temperature(
    scores: np.ndarray, targets: np.ndarray, weights: np.ndarray, start: float | None = None
) -> float:
    """The number to divide scores by that gives the lowest log loss.

    One image more, of which every class is as likely, keeps confidence finite where all the others
    are right, as in Platt's method. Newton's method on the inverse, in which the log loss is
    convex. Source: Guo et al., "On Calibration of Modern Neural Networks", 2017,
    https://arxiv.org/abs/1706.04599; Platt, "Probabilistic Outputs for Support Vector Machines",
    1999.
    """
    scores = scores - scores.max(axis=1, keepdims=True)
    rows = np.arange(len(targets))
    spread = float(np.abs(scores).mean())
    if not spread > 0 or not len(targets) or not weights.sum() > 0:
        return 1.0
    shares = weights / weights.sum()
    unsure = 1.0 / (1.0 + float(weights.sum()))
    low, high = 1e-2 / spread, 1e2 / spread
    inverse = min(max(1.0 / (start or spread), low), high)
    right = (1 - unsure) * float(shares @ scores[rows, targets])
    right += unsure * float(shares @ scores.mean(axis=1))
    for _ in range(20):
        p = softmax(inverse * scores)
        mean = np.einsum("ij,ij->i", p, scores)
        slope = float(shares @ mean) - right
        bend = float(shares @ (np.einsum("ij,ij,ij->i", p, scores, scores) - mean**2))
        if slope > 0:
            high = inverse
        else:
            low = inverse
        step = inverse - slope / max(bend, 1e-30)
        step = step if low < step < high else float(np.sqrt(low * high))
        if abs(step - inverse) < 1e-2 * inverse:
            break
        inverse = step
    return 1.0 / inverse


def calibrated_log_loss(
    scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """Log loss of scores `(n, k)` at the temperature that makes it least, and that temperature."""
    losses, temperature = calibrated_losses(scores, targets, weights)
    return float(np.average(losses, weights=weights)), temperature


def calibrated_losses(
    scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """The same of each image, `(n,)`."""
    weights = np.ones(len(scores)) if weights is None else weights
    with np.errstate(over="ignore", invalid="ignore"):  # scores as large as that are hopeless
        temperature = fit_temperature(scores, targets, weights)
        return _losses(scores / temperature, targets), temperature
