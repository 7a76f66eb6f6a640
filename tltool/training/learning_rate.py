"""The learning rate range test: how far the rate can rise before learning breaks down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tltool._progress import progress
from tltool.training.batches import Batches
from tltool.training.trainer import NotFiniteError, Trainer, repeatable

__all__ = ["RangeTest", "range_test"]

# Rates of the first and last step; AdamW moves every weight by about the rate, SGD by far less.
_RANGES = {"sgd": (1e-5, 10.0), "adamw": (1e-7, 1e-1)}

_STEPS = 60

# Losses are averaged so far back, and the test ends where the mean is so many times the least.
_SMOOTHING = 0.8
_BROKEN_DOWN = 2.0

# Of the rate at which the loss is least.
_SHARE = 0.1


@dataclass(frozen=True)
class RangeTest:
    """What came of it.

    Args:
        rates: of its steps.
        losses: after each, smoothed.
        chosen: a tenth of the rate at which the smoothed loss is least.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    chosen: float


def range_test(trainer: Trainer, batches: Batches, optimizer: str) -> RangeTest:
    """Train with a rate that grows from step to step, and forget what was learned.

    Args:
        trainer: is left as it was.
        batches: what it learns from.
        optimizer: "sgd" or "adamw".

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", 2015,
    https://arxiv.org/abs/1506.01186; the tenth is fastai's rule.
    """
    before = trainer.state()
    low, high = _RANGES[optimizer]
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    number = -1
    with repeatable(), progress("rates", _STEPS) as advance:
        while len(rates) < _STEPS:
            number += 1
            for batch in batches.epoch(number):
                rate = low * (high / low) ** (len(rates) / (_STEPS - 1))
                try:
                    loss, _ = trainer.step(batch, rate)
                except NotFiniteError:
                    loss = np.inf
                mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
                rates.append(rate)
                losses.append(mean / (1 - _SMOOTHING ** len(rates)))
                advance(1)
                if len(rates) == _STEPS or losses[-1] > _BROKEN_DOWN * min(losses):
                    break
            else:
                continue
            break
    trainer.restore(before)
    best = rates[int(np.argmin(losses))]
    return RangeTest(tuple(rates), tuple(losses), _SHARE * best)
