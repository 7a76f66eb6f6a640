"""What more images would bring: a power law through the errors of smaller training sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tltool.metrics import Interval, logit_of_share

__all__ = ["LearningCurve", "first_reaching", "fit_curve", "widened"]

# Exponents that are tried: an error falls between hardly and in inverse proportion to the images.
_SLOPES = np.linspace(0.02, 1.0, 50)

# What is held of an exponent before any point is seen: its mean and deviation. Where the points
# are few it decides, where they are many it does not.
_USUAL_SLOPE = 0.4
_SLOPE_SPREAD = 0.25

_RESAMPLES = 300

# Numbers of images that are looked at beyond the largest measured one, to each doubling.
_AN_OCTAVE = 4


@dataclass(frozen=True)
class LearningCurve:
    """`error(n) = floor + scale * n ** -slope`, n the number of training images.

    Args:
        sizes: numbers of images that were fitted on, ascending.
        accuracies: what was right of images held out, for each.
        floor, scale, slope: of the curve.
        resampled: the same of resamples of the images, `(b, 3)`.
        held_out: number of images that were held out, one after the other.
        widening: factor on the width of intervals, that makes up for what resamples of one set
            cannot tell.

    Source: Cortes et al., "Learning Curves: Asymptotic Values and Rate of Convergence", 1993.
    """

    sizes: tuple[int, ...]
    accuracies: tuple[float, ...]
    floor: float
    scale: float
    slope: float
    resampled: np.ndarray = field(repr=False, compare=False)
    held_out: int
    widening: float = 1.0

    def accuracy(self, n: float, level: float = 0.9) -> Interval:
        """Expected with so many training images."""
        found = self._interval(n, level)
        largest = self.sizes[-1]
        if n <= largest:
            return found
        # stretched about a value that rises, the ends could fall: more images are never worse
        steps = math.ceil(_AN_OCTAVE * math.log2(n / largest))
        numbers = largest * 2.0 ** (np.arange(steps + 1) / _AN_OCTAVE)
        told = [self._interval(float(m), level) for m in numbers]
        low, high = (
            float(np.interp(math.log(n), np.log(numbers), np.maximum.accumulate(ends)))
            for ends in ([one.low for one in told], [one.high for one in told])
        )
        return Interval(found.value, min(low, found.value), max(high, found.value))

    def _interval(self, n: float, level: float) -> Interval:
        value = float(1.0 - _error(np.array([[self.floor, self.scale, self.slope]]), n)[0])
        found = 1.0 - _error(self.resampled, n)
        low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
        return widened(Interval(value, float(low), float(high)), self.widening, self.held_out)


def first_reaching(reached: Callable[[float], float], accuracy: float) -> float:
    """The smallest number of images for an accuracy, infinity beyond 10^9.

    Args:
        reached: the accuracy with so many images, which never falls with more.
        accuracy: that is wished for.
    """
    low, high = 0.0, math.log(1e9)
    if reached(math.exp(high)) < accuracy:
        return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(math.exp(middle)) >= accuracy else (middle, high)
    return float(math.ceil(math.exp(high) - 1e-6))


def fit_curve(
    sizes: np.ndarray,
    hits: np.ndarray,
    seed: int,
    widening: float = 1.0,
    groups: np.ndarray | None = None,
) -> LearningCurve | None:
    """A power law through shares of images that were right.

    Args:
        sizes: numbers of images that were fitted on, ascending, `(s,)`.
        hits: for each size and image held out how often it was right, from 0 to 1, `(s, n)`.
        seed: of the resamples.
        widening: see `LearningCurve`.
        groups: a number for each image, the same for near-duplicates, which are drawn together,
            `(n,)`; None where there are none.

    Returns:
        None with fewer than three sizes: two points tell no curve.
    """
    sizes = np.asarray(sizes, np.float64)
    if len(sizes) < 3 or not hits.size:
        return None
    misses = 1.0 - np.asarray(hits, np.float64)
    members = (
        np.arange(misses.shape[1]) if groups is None else np.unique(groups, return_inverse=True)[1]
    )
    n = int(members.max()) + 1
    # of a group its mean counts, as often as it has images
    of_group = np.stack([np.bincount(members, row, n) for row in misses])
    counts = np.bincount(members, minlength=n)
    random = np.random.default_rng(seed)
    # the Bayesian bootstrap; half an image that is always missed and half a one that never is
    # stand for what so many images cannot exclude
    weights = random.exponential(size=(_RESAMPLES, n))
    always, never = random.gamma(0.5, size=(2, _RESAMPLES))
    mean_count = counts.mean()
    totals = weights @ counts + mean_count * (always + never)
    errors = (weights @ of_group.T + mean_count * always[:, None]) / totals[:, None]
    # what is held beforehand is drawn anew for each, too, or it would pass for knowledge
    usual = np.clip(random.normal(_USUAL_SLOPE, _SLOPE_SPREAD, _RESAMPLES), *_SLOPES[[0, -1]])
    resampled = _fit(sizes, errors, n, usual)
    floor, scale, slope = _fit(sizes, misses.mean(axis=1)[None], n, np.array([_USUAL_SLOPE]))[0]
    return LearningCurve(
        tuple(round(float(size)) for size in sizes),
        tuple(float(1 - miss) for miss in misses.mean(axis=1)),
        float(floor),
        float(scale),
        float(slope),
        resampled,
        n,
        widening,
    )


def _fit(sizes: np.ndarray, errors: np.ndarray, n: int, usual: np.ndarray) -> np.ndarray:
    """Floor, scale and slope of rows of errors `(b, s)`, each with a usual slope: `(b, 3)`."""
    spread = np.maximum(errors * (1 - errors), 0.25 / n) / n
    weights = 1.0 / spread
    best = np.full(len(errors), np.inf)
    found = np.zeros((len(errors), 3))
    for slope in _SLOPES:
        falling = (sizes / sizes[-1]) ** -slope
        for with_floor in (False, True):
            floor, scale = _line(falling, errors, weights, with_floor)
            off = errors - floor[:, None] - scale[:, None] * falling
            cost = (weights * off**2).sum(axis=1)
            cost = cost + ((slope - usual) / _SLOPE_SPREAD) ** 2
            better = cost < best
            best = np.where(better, cost, best)
            slopes = np.full(len(errors), slope)
            made = np.stack([floor, scale * sizes[-1] ** slope, slopes], axis=1)
            found[better] = made[better]
    return found


def _line(
    falling: np.ndarray, errors: np.ndarray, weights: np.ndarray, with_floor: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Floor and scale, neither below 0, by least squares."""
    total = weights.sum(axis=1)
    sx = weights @ falling
    sxx = weights @ falling**2
    sy = (weights * errors).sum(axis=1)
    sxy = (weights * errors) @ falling
    alone = np.maximum(sxy / sxx, 0.0)
    if not with_floor:
        return np.zeros(len(errors)), alone
    scale = (total * sxy - sx * sy) / np.maximum(total * sxx - sx**2, 1e-300)
    floor = (sy - scale * sx) / total
    flat = scale < 0
    low = floor < 0
    scale = np.where(flat, 0.0, np.where(low, alone, scale))
    floor = np.where(flat, sy / total, np.where(low, 0.0, floor))
    return floor, scale


def _error(curves: np.ndarray, n: float) -> np.ndarray:
    return np.clip(curves[:, 0] + curves[:, 1] * n ** -curves[:, 2], 0.0, 1.0)


def widened(found: Interval, factor: float, n: int) -> Interval:
    """An interval of a share, so many times as wide in logits.

    Args:
        found: around its value, which no end passes.
        factor: at least 1.
        n: images that tell of it: half of one is the least that is missed or hit.
    """
    middle = logit_of_share(found.value, n)

    def stretched(end: float) -> float:
        return 1 / (1 + math.exp(-middle - factor * (logit_of_share(end, n) - middle)))

    low = min(stretched(found.low), found.value)
    return Interval(found.value, low, max(stretched(found.high), found.value))
