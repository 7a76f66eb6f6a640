"""Whether one classifier is better than another, from what both say of the same images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tltool.metrics import Interval, log_losses, resampling_counts

__all__ = ["PairComparison", "adjusted", "compare_predictions", "images_to_tell", "mcnemar"]

_RESAMPLES = 10_000
_LOSS_RESAMPLES = 2_000
_BLOCK = 100
_LEVEL = (2.5, 97.5)

# A difference that is called real appears by chance in so many of a hundred comparisons.
_SIGNIFICANCE = 0.05

# A difference of its size is found in so many of a hundred tests.
_POWER = 0.8


@dataclass(frozen=True)
class PairComparison:
    """Two classifiers on the same images; differences are those of the first less the second.

    Args:
        first, second: their names.
        n: number of images.
        accuracy: difference in accuracy, with its 95 % interval.
        log_loss: difference in log loss; negative where the first is better.
        only_first: images that only the first names right.
        only_second: images that only the second names right.
        p_value: of McNemar's exact test, corrected where several could have been compared.
        images: about how many test images would tell a difference of this size in four of five
            tests; None where there is none.
    """

    first: str
    second: str
    n: int
    accuracy: Interval
    log_loss: Interval
    only_first: int
    only_second: int
    p_value: float
    images: int | None

    @property
    def told_apart(self) -> bool:
        """Whether chance alone would hardly make such a difference."""
        return self.p_value < _SIGNIFICANCE

    def in_words(self) -> str:
        """What can be said of the two, a sentence or two."""
        points = 100 * self.accuracy.value
        better, other = self.first, self.second
        if points < 0:
            better, other = other, better
        right = f"right where the other is wrong {self.only_first} and {self.only_second} times"
        if self.images is None:
            return (
                f"{self.first} and {self.second} name as many of {self.n:,} images right "
                f"({right}): no difference in accuracy to tell."
            )
        said = f"{better} is {abs(points):.1f} points more accurate than {other}"
        if self.told_apart:
            return f"{said} ({right}; {_p_in_words(self.p_value)}): more than noise."
        return (
            f"{said} ({right}; {_p_in_words(self.p_value)}), which cannot be told from noise; "
            f"about {_rounded(self.images):,} test images would tell, and there are {self.n:,}."
        )


def compare_predictions(
    names: tuple[str, str],
    probabilities: tuple[np.ndarray, np.ndarray],
    targets: np.ndarray,
    *,
    seed: int = 0,
    tests: int = 1,
) -> PairComparison:
    """Compare two classifiers on the same images.

    The intervals are percentiles of a paired bootstrap (10,000 resamples, 2,000 of the log loss):
    images are drawn, and both classifiers are judged on the same ones. In that of the accuracy,
    half an image that only the one names right and half a one that only the other does are added,
    so that agreement on a few images is not taken for certainty (Agresti and Min, "Simple improved
    confidence intervals for comparing matched proportions", 2005).

    Args:
        names: of the classifiers.
        probabilities: of each, `(n, k)`.
        targets: `(n,)`, true class numbers.
        seed: of the resampling.
        tests: how many are made together; the number of images is for one of them.
    """
    n = len(targets)
    first, second = ((p.argmax(axis=1) == targets) for p in probabilities)
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    random = np.random.default_rng(seed)
    shares = np.array([only_first + 0.5, only_second + 0.5, n - only_first - only_second])
    drawn = random.multinomial(n, shares / shares.sum(), _RESAMPLES)
    low, high = np.percentile((drawn[:, 0] - drawn[:, 1]) / n, _LEVEL)
    difference = (only_first - only_second) / n
    losses = log_losses(probabilities[0], targets) - log_losses(probabilities[1], targets)
    means = [
        resampling_counts(random, _BLOCK, n) @ losses / n for _ in range(0, _LOSS_RESAMPLES, _BLOCK)
    ]
    loss_low, loss_high = np.percentile(np.concatenate(means), _LEVEL)
    return PairComparison(
        *names,
        n,
        Interval(difference, min(float(low), difference), max(float(high), difference)),
        Interval(float(losses.mean()), float(loss_low), float(loss_high)),
        only_first,
        only_second,
        mcnemar(only_first, only_second),
        images_to_tell(only_first, only_second, n, tests),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Probability of so unequal counts or more unequal ones, were both equally likely.

    The exact form. Source: McNemar, "Note on the sampling error of the difference between
    correlated proportions or percentages", 1947.
    """
    from scipy.stats import binomtest

    n = only_first + only_second
    return float(binomtest(only_first, n).pvalue) if n else 1.0


def images_to_tell(only_first: int, only_second: int, n: int, tests: int = 1) -> int | None:
    """How many images a test would need to find a difference like this one, four times in five.

    Two-sided, at 5 % for all tests together (Bonferroni). Source: Connor, "Sample size for testing
    differences in proportions for the paired-sample design", 1987.

    Args:
        only_first, only_second: images that only the one, or only the other, names right.
        n: of so many.
        tests: how many are made together.

    Returns:
        None where both name as many right.
    """
    from scipy.stats import norm

    certain, power = norm.isf(_SIGNIFICANCE / tests / 2), norm.isf(1 - _POWER)
    discordant, difference = (only_first + only_second) / n, (only_first - only_second) / n
    if difference == 0:
        return None
    spread = math.sqrt(max(discordant - difference**2, 0.0))
    wanted = (certain * math.sqrt(discordant) + power * spread) / difference
    return math.ceil(wanted**2)


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Probabilities of several tests, made larger so that all together err in 5 of 100.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    found, largest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[i]))
        found[i] = largest
    return found


def _p_in_words(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _rounded(n: int) -> int:
    """To two digits."""
    step = 10 ** max(0, len(str(n)) - 2)
    return -(-n // step) * step
