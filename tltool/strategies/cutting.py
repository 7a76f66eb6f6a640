"""Where a backbone is cut for training, and whether what crosses the cut is worth storing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tltool._validation import TltoolError
from tltool.backbones import Backbone, Boundary
from tltool.features import HELD_IN_MEMORY
from tltool.training import TrainingPlan

__all__ = ["CACHES", "Cache", "choose_cache"]

CACHES = ("auto", "on", "off")

# Training takes a forward pass and about two more for the gradients.
_PASSES = 3

# A pass below the boundary runs on the engine of predictions, and takes that share of one in
# training; `benchmarks/strategies.py --rows cache`, three networks, see docs/speed.md.
_ON_ENGINE = 0.45

# Reading a byte of stored activations takes as long as so many multiply-adds: from memory, and from
# the store (one reading of ResNet-50's).
_MULTIPLY_ADDS_A_BYTE, _FROM_STORE = 25, 300

# It is stored where the estimate says that training gets so many times faster, because fewer
# views of an image are seen; in that case so many.
_WORTH = 1.5
_VIEWS = 4


@dataclass(frozen=True)
class Cache:
    """Whether activations at the boundary are stored.

    Args:
        used: whether they are.
        views: what is shown of each image, `training_views`.
        gain: how many times faster the estimate is with it; 0 where it cannot be.
        said: why, in a sentence.
    """

    used: bool
    views: str
    gain: float
    said: str


def choose_cache(
    asked: str,
    backbone: Backbone,
    cut: Boundary,
    plan: TrainingPlan,
    n_views: int,
    n_images: int,
    room: int,
) -> Cache:
    """Whether to store what crosses the boundary, so that only the layers above it are run.

    Each epoch costs an image `below + 3 above` multiply-adds without, and `3 above` and what
    reading takes with it, after `0.45 below` once for each view. It is worth it from 1.5 times on,
    as long as half of the store has room for it; pixels cannot be changed any more then.

    Args:
        asked: "auto", "on" or "off".
        backbone: that is cut.
        cut: where.
        plan: of the training.
        n_views: views of an image; 0 where each epoch draws its own.
        n_images: to store.
        room: bytes that the store may have.

    Raises:
        TltoolError: it is asked for where it cannot be.
    """
    why_not = _hindrance(backbone, cut, plan)
    if asked == "off" or (asked == "auto" and why_not):
        said = why_not or "as asked"
        return Cache(False, plan.views, 0.0, f"none, {said}")
    if why_not:
        raise TltoolError(f"--cache on: activations cannot be stored, {why_not}.")
    stored = n_views or _VIEWS
    numbers = math.prod(cut.shape)
    size = 4 * numbers * stored * n_images
    a_byte = _MULTIPLY_ADDS_A_BYTE if size <= HELD_IN_MEMORY else _FROM_STORE
    reading = 4 * numbers * a_byte
    without = plan.epochs * (cut.below + _PASSES * cut.above)
    cached = stored * _ON_ENGINE * cut.below + plan.epochs * (_PASSES * cut.above + reading)
    gain = without / max(cached, 1)
    views = plan.views if n_views else f"{plan.views}-{_VIEWS}"
    figures = f"{stored} views an image, {size / 1e9:.2g} GB, estimated {gain:.1f} times as fast"
    if asked == "on":
        return Cache(True, views, gain, f"activations of {cut.block}, {figures}")
    if gain < _WORTH:
        said = f"none, it would be {gain:.2f} times as fast, less than {_WORTH:g}"
        return Cache(False, plan.views, gain, said)
    if size > room / 2:
        return Cache(
            False,
            plan.views,
            gain,
            f"none, {size / 1e9:.2g} GB are more than half of the store (TLTOOL_STORE_SIZE)",
        )
    return Cache(True, views, gain, f"activations of {cut.block}, {figures}")


def _hindrance(backbone: Backbone, cut: Boundary, plan: TrainingPlan) -> str:
    """Why activations cannot be stored, in words; empty where they can."""
    if cut.layer is None:
        return "because all layers are trained"
    for tap in backbone.taps:
        for part in tap.parts:
            if not cut.trains(part.layer) and part.layer != cut.layer:
                return f"because the tap {tap.name} lies below the boundary"
    if plan.augment:
        return f"because --augment {','.join(plan.augment)} changes pixels in every epoch"
    return ""
