"""The learning rate range test: how far the rate can rise before learning breaks down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from tltool._progress import progress
from tltool.training.batches import Batch, Batches
from tltool.training.trainer import NotFiniteError, Trainer, repeatable

__all__ = ["RangeTest", "range_test", "rate_factor"]

# Rates of the first and last step; AdamW moves every weight by about the rate, SGD by far less.
_RANGES = {"sgd": (1e-5, 10.0), "adamw": (1e-7, 1e-1)}

_STEPS = 60

# Changes of the loss are averaged so far back. A fall by this share of the loss is one that can be
# told from none; where there is none, a rise by it is where learning breaks down. The test ends
# where the loss has risen by so many times itself.
_SMOOTHING = 0.8
_SHARE_TOLD = 0.01
_BROKEN_DOWN = 1.0

# Of the rate that is found.
_SHARE = 0.1

# From this domain distance on images are as dissimilar as it matters, and the rate is not lowered;
# the most that it is lowered by.
_DISSIMILAR = 0.1
_LEAST_FACTOR = 0.1


@dataclass(frozen=True)
class RangeTest:
    """What came of it.

    Args:
        rates: of its steps.
        changes: of the loss, by what was learned until then, as a share of it; smoothed.
        chosen: a tenth of the rate at which the loss fell most; where it hardly falls, because the
            network begins near the best that it can do, a tenth of the highest before it rises.
    """

    rates: tuple[float, ...]
    changes: tuple[float, ...]
    chosen: float


def range_test(trainer: Trainer, batches: Batches, optimizer: str) -> RangeTest:
    """Train with a rate that grows from step to step, and forget what was learned.

    Each loss is compared with that of the same batch before anything was learned, since batches
    differ by more than a step changes.

    Args:
        trainer: is left as it was.
        batches: what it learns from.
        optimizer: "sgd" or "adamw".

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", 2015,
    https://arxiv.org/abs/1506.01186; the tenth is fastai's rule.
    """
    before = trainer.state()
    low, high = _RANGES[optimizer]
    changes: list[float] = []
    with repeatable(), progress("rates", 2 * _STEPS) as advance:
        untouched = []
        for batch in _first(batches):
            untouched.append(trainer.step(batch, 0.0)[0])
            advance(1)
        trainer.restore(before)
        rates = [low * (high / low) ** (i / (_STEPS - 1)) for i in range(_STEPS)]
        usual = float(np.mean(untouched))
        mean = 0.0
        for rate, loss, batch in zip(rates, untouched, _first(batches), strict=True):
            try:
                change = (trainer.step(batch, rate)[0] - loss) / max(usual, 1e-6)
            except NotFiniteError:
                change = np.inf
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * change
            changes.append(mean / (1 - _SMOOTHING ** (len(changes) + 1)))
            advance(1)
            if changes[-1] > _BROKEN_DOWN:
                break
    trainer.restore(before)
    place = int(np.argmin(changes))
    if changes[place] > -_SHARE_TOLD:
        risen = [i for i, change in enumerate(changes) if change > _SHARE_TOLD]
        place = max(0, risen[0] - 1) if risen else len(changes) - 1
    return RangeTest(tuple(rates[: len(changes)]), tuple(changes), _SHARE * rates[place])


def _first(batches: Batches) -> Iterator[Batch]:
    """As many batches as there are steps, of as many epochs as that takes."""
    every = (batch for number in count() for batch in batches.epoch(number))
    return islice(every, _STEPS)


def rate_factor(distance: float | None) -> float:
    """What a learning rate that learning survives is multiplied by: 1 for images unlike the source.

    A tenth of it for images like those of the source, growing with the distance in between; 1 where
    that is not known.

    Source: Li et al., "Rethinking the Hyperparameters for Fine-tuning", 2020,
    https://arxiv.org/abs/2002.11770: the best effective rate grows tenfold from similar to
    dissimilar.
    """
    if distance is None:
        return 1.0
    return min(1.0, max(_LEAST_FACTOR, distance / _DISSIMILAR))
