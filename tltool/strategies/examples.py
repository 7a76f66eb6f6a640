"""Which images a strategy learns from, and what is to be said of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from tltool._validation import TltoolError
from tltool.data import Example
from tltool.features import Features, FeatureSource

__all__ = ["FEWEST_TO_JUDGE", "constant_features", "split_off", "weighty"]

# Of the images to fit on, one in so many is held back where there are none for validation.
_HELD_BACK = 10

FEWEST_TO_JUDGE = 5
"""The fewest images that are held back to say when to stop, and that calibrate."""


def weighty(
    examples: tuple[Example, ...], weights: np.ndarray | None
) -> tuple[tuple[Example, ...], np.ndarray | None]:
    """The examples that weigh anything, and their weights, 1 in the mean.

    Raises:
        TltoolError: they are of fewer than two classes.
    """
    if weights is not None:
        kept = np.flatnonzero(weights > 0)
        examples, weights = tuple(examples[i] for i in kept), weights[kept]
        weights = weights / max(float(weights.mean()), np.finfo(float).tiny) if len(kept) else None
    if len({e.label for e in examples}) < 2:
        raise TltoolError(
            "There are images of fewer than two classes to fit on; give some of another class, of "
            "a weight above 0."
        )
    return examples, weights


def split_off(examples: Sequence[Example], seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images to fit on and images to validate with, as positions, and what is to be said of it.

    Those of the val split, where there are any; else about a tenth of each class, near-duplicates
    together, unless the classes are too small for that.
    """
    given = np.array([e.split == "val" for e in examples], bool)
    if given.any() and not given.all():
        few = int(given.sum()) < FEWEST_TO_JUDGE
        said = (
            f"The {int(given.sum())} validation images are too few to calibrate by; give "
            f"{FEWEST_TO_JUDGE} or more."
        )
        return np.flatnonzero(~given), np.flatnonzero(given), [said] if few else []
    held = _a_tenth(examples, seed)
    labels = {e.label for e in examples}
    left = {e.label for e, out in zip(examples, held, strict=True) if not out}
    if held.sum() < FEWEST_TO_JUDGE or left < labels:
        return (
            np.arange(len(examples)),
            np.arange(0),
            [
                "There are too few images to hold any back for validation, so training takes all "
                "its epochs and nothing was calibrated; give more images a class."
            ],
        )
    return (
        np.flatnonzero(~held),
        np.flatnonzero(held),
        [
            f"There is no validation split, so {int(held.sum())} of the images to fit on were held "
            "back to say when to stop."
        ],
    )


def _a_tenth(examples: Sequence[Example], seed: int) -> np.ndarray:
    """About a tenth of each class that has five images or more, by hash."""
    groups: dict[str, set[bytes]] = {}
    for e in examples:
        groups.setdefault(e.label, set()).add(e.group)
    held: set[bytes] = set()
    for found in groups.values():
        drawn = sorted(found, key=lambda g: hashlib.sha256(b"%d held back " % seed + g).digest())
        held.update(drawn[: int(len(drawn) / _HELD_BACK + 0.5)])
    return np.array([e.group in held for e in examples], bool)


def constant_features(features: Features, source: FeatureSource) -> list[str]:
    """Taps of which nothing varies are named; where no tap is left, nothing can be learned.

    Raises:
        TltoolError: all features are constant.
    """
    varies = np.ptp(features.values, axis=0) > 0
    ends = np.cumsum(features.widths)[:-1]
    dead = [
        str(part)
        for part, columns in zip(source.backbone.parts, np.split(varies, ends), strict=True)
        if not columns.any()
    ]
    if not varies.any():
        raise TltoolError(
            f"The features {', '.join(dead)} of {source.backbone.preset.name} are the same for "
            f"all {len(features.values)} images, so nothing can be told apart by them; look at the "
            "images, or choose another --tap."
        )
    if dead:
        return [f"Features that are the same for all images say nothing: {', '.join(dead)}."]
    return []
