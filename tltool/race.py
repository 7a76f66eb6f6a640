"""A race of strategies on images held out, half of them dropped from lap to lap."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tltool._validation import TltoolError
from tltool.advice import Advice, Lap, Race
from tltool.data import Dataset, Example
from tltool.features import FeatureSource
from tltool.settings import AdaptSettings

__all__ = ["race"]

_log = logging.getLogger(__name__)

# One group of images in so many is held out to judge by.
_HELD_OUT = 4

# Shares of the others that the laps are run on.
_SHARES = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class _Judged:
    lap: Lap
    hits: np.ndarray


def race(
    advice: Advice, settings: AdaptSettings, source: FeatureSource, dataset: Dataset, budget: float
) -> Advice:
    """Successive halving: after each lap the better half goes on, with more images.

    What was advised goes on as well. Images are held out of those to learn from; no test image is
    looked at. Each strategy that trains may take its part of the time that is left; where that
    runs out, those who finished their lap are compared.

    Args:
        advice: that is put to the test.
        settings: as given, of any strategy.
        source: of the backbone.
        dataset: checked and split.
        budget: seconds.

    Returns:
        The advice, with its race, or with a note that says why there was none.

    Source: Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
    Optimization", 2016, https://arxiv.org/abs/1502.07943
    """
    ends = time.monotonic() + budget
    fitting, judging = _held_out(dataset.of("train", "val"), settings.seed)
    if len({e.label for e in judging}) < 2:
        return _without(advice, "there are too few images to hold some out")
    # what was advised is the second at the latest: without it nothing is told
    by_time = sorted(advice.forecasts, key=lambda f: f.seconds.value)
    running = [one.strategy for one in by_time]
    place = min(1, running.index(advice.strategy))
    running.remove(advice.strategy)
    running.insert(place, advice.strategy)
    done: list[_Judged] = []
    last: list[_Judged] = []
    failed: set[str] = set()
    for number, share in enumerate(_SHARES):
        part = _share(fitting, share)
        examples = (*part, *(replace(e, split="test") for e in judging))
        shown = Dataset(dataset.source, examples, dataset.labels)
        lap: list[_Judged] = []
        for place, strategy in enumerate(running):
            left = ends - time.monotonic()
            if left <= 0:
                break
            to_run = len(running) - place + 2 * (len(_SHARES) - 1 - number)
            try:
                lap.append(_lap(strategy, advice, settings, source, shown, left / to_run))
            except TltoolError as error:
                _log.warning("%s is out of the race: %s", strategy, error)
                failed.add(strategy)
        done += lap
        running = [name for name in running if name not in failed]
        if advice.strategy in failed:  # nothing more can be told of it
            break
        if len(lap) > 1 and any(one.lap.strategy == advice.strategy for one in lap):
            last = lap
        if len(lap) < len(running):
            _log.warning("The race ran out of time at %.0f %% of the images.", 100 * share)
            break
        order = sorted(lap, key=lambda one: -one.lap.accuracy)
        going_on = {one.lap.strategy for one in order[: max(2, math.ceil(len(order) / 2))]}
        running = [name for name in running if name in going_on or name == advice.strategy]
    if not last and failed:
        return _without(advice, f"{' and '.join(sorted(failed))} could not be run to the end")
    if not last:
        return _without(advice, "there was no time for the advised strategy and another one")
    return replace(advice, race=_told(advice, done, last, len(judging), len(fitting)))


def _without(advice: Advice, why: str) -> Advice:
    """The advice as it was, and why no race could tell of it."""
    return replace(advice, notes=(*advice.notes, f"The advice was not put to the test: {why}."))


def _lap(
    strategy: str,
    advice: Advice,
    settings: AdaptSettings,
    source: FeatureSource,
    dataset: Dataset,
    left: float,
) -> _Judged:
    started = time.monotonic()
    changed: dict[str, Any] = {"strategy": strategy, "views": "1"}
    if strategy != "off-the-shelf":
        changed["budget"] = f"{max(1, math.ceil(left))}s"
    if strategy == advice.strategy:
        changed["unfreeze"] = advice.settings.get("unfreeze")
        if "tap" in advice.settings:
            changed["tap"] = advice.settings["tap"]
            source = source.of_backbone(source.backbone.tapping(advice.settings["tap"]))
    scratch = strategy == "from-scratch"
    if scratch:  # it brings its own network
        changed |= dict.fromkeys(("backbone", "weights", "tap", "input_size"))
    given = replace(settings, **changed)
    seen = given.make_source(source.store, None if scratch else source.backbone)
    with _unremarked():
        fitted = given.make_strategy().fit(seen, dataset, seed=settings.seed)
    test = dataset.of("test")
    hits = fitted.predict_proba(seen, test).argmax(axis=1) == dataset.targets(test)
    images = len(dataset.of("train", "val"))
    seconds = time.monotonic() - started
    return _Judged(Lap(strategy, images, float(hits.mean()), seconds), hits)


@contextmanager
def _unremarked() -> Iterator[None]:
    """What a fit says of its images is said of a share of the user's, and of no use to them."""
    strategies = logging.getLogger("tltool.strategies")
    usual = strategies.level
    strategies.setLevel(logging.ERROR)
    try:
        yield
    finally:
        strategies.setLevel(usual)


def _told(
    advice: Advice, done: Sequence[_Judged], last: Sequence[_Judged], judged: int, most: int
) -> Race:
    """Who won, and whether chance could have made it so; of equals, what was advised."""
    laps = tuple(one.lap for one in done)
    best = max(last, key=lambda one: (one.lap.accuracy, one.lap.strategy == advice.strategy))
    name, share = best.lap.strategy, 100 * best.lap.accuracy
    ours = next(one for one in last if one.lap.strategy == advice.strategy)
    on = f"on {judged} images held out"
    if best.lap.images < most:
        on += f", after learning from {best.lap.images} of {most} others"
    if ours is best:
        return Race(laps, judged, name, True, f"The advice held: {name} won, {share:.1f} % {on}.")
    apart = best.hits.astype(float) - ours.hits
    error = float(apart.std()) / math.sqrt(max(1, len(apart) - 1))
    held = float(apart.mean()) <= 1.96 * error
    points = f"{100 * apart.mean():.1f} points ahead of {advice.strategy} ({share:.1f} % {on})"
    said = (
        f"The advice held: {name} was {points}, which is within what chance makes."
        if held
        else f"The advice did not hold: {name} was {points}, more than chance makes."
    )
    return Race(laps, judged, name, held, said)


def _held_out(
    examples: Sequence[Example], seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Images to learn from and to judge by; groups of near-duplicates stay together."""
    fitting, judging = [], []
    for label in sorted({e.label for e in examples}):
        mine = [e for e in examples if e.label == label]
        groups = sorted({e.group for e in mine}, key=lambda g: _draw(seed, g))
        held = set(groups[: len(groups) // _HELD_OUT])
        judging += [e for e in mine if e.group in held]
        fitting += [e for e in mine if e.group not in held]
    kept = {e.group for e in judging}
    return tuple(replace(e, split="train") for e in fitting if e.group not in kept), tuple(judging)


def _share(examples: Sequence[Example], share: float) -> tuple[Example, ...]:
    """That share of each class, one image at least; larger shares hold the smaller ones."""
    found: list[Example] = []
    for label in sorted({e.label for e in examples}):
        mine = sorted((e for e in examples if e.label == label), key=lambda e: _draw(0, e.hash))
        found += mine[: max(1, round(share * len(mine)))]
    return tuple(found)


def _draw(seed: int, content: bytes) -> bytes:
    return hashlib.sha256(b"race %d:" % seed + content).digest()
