"""What advice is made of: what was measured of a data set, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tltool.learning_curve import LearningCurve
from tltool.metrics import Interval

__all__ = [
    "Advice",
    "Evidence",
    "Forecast",
    "Lap",
    "Race",
    "RankedBackbone",
    "Similarity",
    "Size",
    "TapEvidence",
]


@dataclass(frozen=True)
class Size:
    """How much there is to learn from.

    Args:
        images: usable ones to learn from, test images left out.
        classes: how many.
        smallest_class: images of the class that has the fewest.
        effective: images, near-duplicates of each other counted once.
    """

    images: int
    classes: int
    smallest_class: int
    effective: int

    @property
    def of_each_class(self) -> float:
        """Images of a class, in the mean, near-duplicates counted once."""
        return self.effective / max(self.classes, 1)


@dataclass(frozen=True)
class Similarity:
    """How near the images are to those that the network was trained on.

    Args:
        distance: mean squared Hellinger distance, with a 95 % interval.
        by_block: of each block of the network, from the input up.
        measured_with: the network that tells; another one where the backbone itself cannot.
        source: what that network was trained on, "ImageNet" or "CIFAR-10".
    """

    distance: Interval
    by_block: Mapping[str, float]
    measured_with: str
    source: str = "ImageNet"


@dataclass(frozen=True)
class TapEvidence:
    """What the features of one layer are worth, no network trained.

    Args:
        tap: the layer.
        accuracy: of a cross-validated linear probe, with a 95 % interval.
        neighbours: share of images whose nearest ones tell their class.
        log_evidence: LogME.
        h_score: H-score.
        leep: LEEP; None where the network has no classes of its own.
        nce: NCE; None likewise.
    """

    tap: str
    accuracy: Interval
    neighbours: float
    log_evidence: float
    h_score: float
    leep: float | None = None
    nce: float | None = None


@dataclass(frozen=True)
class Evidence:
    """All that is measured of a data set and a backbone.

    Args:
        backbone: the network.
        size: how much there is.
        similarity: how near it is; None where nothing remembers the source.
        taps: what the features are worth, the backbone's own tap first.
        curve: what more images would bring; None where the images are too few for one.
        forward: seconds that an image takes through the network on this machine.
        scratch_forward: the same of the network that would be trained from scratch.
        multiply_adds: of an image through the network.
        views: how many views of an image features are averaged over, at most.
        pixels: what can be told without a network, from averages of the pixels over a grid of 8x8
            cells; None where that was not measured.
    """

    backbone: str
    size: Size
    similarity: Similarity | None
    taps: tuple[TapEvidence, ...]
    curve: LearningCurve | None
    forward: float
    scratch_forward: float
    multiply_adds: float
    views: int = 1
    pixels: TapEvidence | None = None

    @property
    def probe(self) -> TapEvidence:
        """That of the backbone's own tap."""
        return self.taps[0]


@dataclass(frozen=True)
class Forecast:
    """What a strategy is expected to reach.

    Args:
        strategy: which.
        accuracy: with a 90 % interval.
        seconds: on this machine, with a 90 % interval.
    """

    strategy: str
    accuracy: Interval
    seconds: Interval


@dataclass(frozen=True)
class RankedBackbone:
    """A backbone beside others, told from its features alone.

    Args:
        backbone: its name.
        probe: what the features of its own tap are worth.
        seconds: that an image takes through it on this machine.
        distance: of the images from its source; None where nothing remembers that.
    """

    backbone: str
    probe: TapEvidence
    seconds: float
    distance: float | None


@dataclass(frozen=True)
class Lap:
    """One strategy on some of the images, in a race.

    Args:
        strategy: which.
        images: that it was fitted on.
        accuracy: on the images held out.
        seconds: that it took.
    """

    strategy: str
    images: int
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Race:
    """Strategies against each other, half of them dropped from lap to lap.

    Args:
        laps: in the order in which they were run.
        judged: images held out, by which they were judged.
        winner: the most accurate of the last lap.
        held: whether the advice held: nothing tells the winner apart from what was advised.
        said: the same in a sentence.
    """

    laps: tuple[Lap, ...]
    judged: int
    winner: str
    held: bool
    said: str


@dataclass(frozen=True)
class Advice:
    """What to do, and all that it follows from.

    Args:
        evidence: what was measured.
        cell: of the table of size against similarity.
        table: the strategy that the table alone would name.
        strategy: the one that is recommended.
        settings: with it, as `adapt` takes them.
        recipe: the one that it follows; None where it has none.
        forecasts: of each strategy, the best expected first.
        more: expected accuracy with so many times the images, with 90 % intervals.
        needed: images of each class, near-duplicates counted once, that a wished-for accuracy
            takes, with a 90 % interval, an end of which may be infinite; None where none was wished
            for or the curve never reaches it.
        target: that accuracy.
        nearest: the reference point that the distance is nearest to.
        references: names and distances of all of them, as networks of the same source see them.
        far: distance from which on images are not similar to it.
        parts_at: the lowest block from which on the images differ from the source, of the network
            that this was measured with; None where they do not.
        learning_rate: of a fine-tuning by SGD with a momentum of 0.9 the lowest and highest that
            are worth trying; None where another strategy is advised.
        reasons: three sentences.
        notes: what puts the advice in doubt, a sentence each.
        ranking: the backbones that were compared, the best first.
        skipped: those that could not be, and why.
        race: what a race of the strategies told of the advice; None where there was none.
    """

    evidence: Evidence
    cell: tuple[str, str]
    table: str
    strategy: str
    settings: Mapping[str, Any]
    recipe: str | None
    forecasts: tuple[Forecast, ...]
    more: Mapping[int, Interval]
    needed: Interval | None
    target: float | None
    nearest: str | None
    references: Mapping[str, float]
    far: float
    parts_at: str | None
    learning_rate: tuple[float, float] | None
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    ranking: tuple[RankedBackbone, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    race: Race | None = None

    @property
    def table_in_words(self) -> str | None:
        """What the table alone would have said, where that differs."""
        if self.table == self.strategy:
            return None
        return f"The table alone ({self.cell[0]}, {self.cell[1]}) would have said: {self.table}."

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values; what `--json` prints."""
        found, similarity = self.evidence, self.evidence.similarity
        told = None
        if similarity is not None:
            told = {
                "distance": asdict(similarity.distance),
                "nearest": self.nearest,
                "references": [
                    {"name": name, "distance": value} for name, value in self.references.items()
                ],
                "far": self.far,
                "source": similarity.source,
                "by_block": dict(similarity.by_block),
                "parts_at": self.parts_at,
                "measured_with": similarity.measured_with,
            }
        curve = found.curve
        return {
            "backbone": found.backbone,
            "size": asdict(found.size) | {"level": self.cell[0]},
            "similarity": told,
            "evidence": [asdict(tap) for tap in found.taps],
            "pixels": None if found.pixels is None else asdict(found.pixels),
            "learning_curve": None
            if curve is None
            else {
                "images": list(curve.sizes),
                "accuracy": list(curve.accuracies),
                "floor": curve.floor,
                "scale": curve.scale,
                "slope": curve.slope,
            },
            "expected_with_more": {str(times): asdict(one) for times, one in self.more.items()},
            "target": self.target,
            "images_of_each_class_for_target": None
            if self.needed is None
            else {k: v if math.isfinite(v) else None for k, v in asdict(self.needed).items()},
            "cell": {"size": self.cell[0], "similarity": self.cell[1]},
            "table": self.table,
            "strategy": self.strategy,
            "settings": dict(self.settings),
            "recipe": self.recipe,
            "tap": self.settings.get("tap", found.probe.tap),
            "learning_rate": None if self.learning_rate is None else list(self.learning_rate),
            "expected": [asdict(one) for one in self.forecasts],
            "reasons": list(self.reasons),
            "notes": list(self.notes),
            "ranking": [asdict(one) for one in self.ranking],
            "skipped": dict(self.skipped),
            "race": None if self.race is None else asdict(self.race),
        }
