"""What each layer of a network knows of some images, as figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tltool._files import printable
from tltool.metrics import Interval

__all__ = ["Atlas", "ChangeCurve", "LayerFacts"]


@dataclass(frozen=True)
class LayerFacts:
    """What one layer's features are worth.

    Args:
        tap: the layer.
        features: how many there are.
        accuracy: of a cross-validated linear probe, with a 95 % interval.
        parameters: of the network up to it, as a share of the whole.
        multiply_adds: the same of its multiply-adds.
        behind: by how much it is less accurate than the most useful layer.
        as_good: whether nothing tells it from that one: a one-sided paired t-test at 95 %.
        invariance: 1 where images that were moved, scaled or turned give the same activations in
            the same places, 0 where they give others as different as those of another image; of
            what the classifier is given, places pooled away.
        robustness: the same of images that were spoiled.
        pooled_invariance: the same as `invariance` of features as the probe sees them, averaged
            over places, so that all layers can be compared.
        moved, spoiled: mean probability of the right class of such images.
    """

    tap: str
    features: int
    accuracy: Interval
    parameters: float
    multiply_adds: float
    behind: float
    as_good: bool
    invariance: float
    robustness: float
    pooled_invariance: float
    moved: float
    spoiled: float


@dataclass(frozen=True)
class ChangeCurve:
    """What becomes of features as images change more and more.

    Args:
        name: of the change.
        unit: of its amounts.
        amounts: the first leaves an image as it is.
        distance: by tap, mean distance of activations from those of the image itself, in units of
            the mean distance between different images.
        probability: by tap, mean probability of the right class.
    """

    name: str
    unit: str
    amounts: tuple[float, ...]
    distance: dict[str, tuple[float, ...]]
    probability: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Atlas:
    """A network's layers on some images.

    Args:
        backbone: the network.
        images: that the probes were fitted on and judged by.
        changed: of them changed.
        classes: how many.
        layers: from the input up.
        best: the most useful: the most accurate probe.
        turns: the last layer before features serve the source's classes more than these: beyond it
            the probe is clearly less accurate; None where that is nowhere.
        changes: what was done to images.
        page: where it is drawn.
        seconds: that it took.
        weights: "pretrained"; "trained", if on these very images, on which the network then does
            better than it would on others; or "random".
        left_out: classification layers that the weights at hand do not hold.
    """

    backbone: str
    images: int
    changed: int
    classes: int
    layers: tuple[LayerFacts, ...]
    best: str
    turns: str | None
    changes: tuple[ChangeCurve, ...]
    page: Path
    seconds: float
    weights: str = "pretrained"
    left_out: tuple[str, ...] = ()

    @property
    def in_words(self) -> tuple[str, ...]:
        """Sentences: the most useful layer, where features turn task-specific, what flatters, and
        what was left out."""
        best = next(layer for layer in self.layers if layer.tap == self.best)
        others = [x.tap for x in self.layers if x.as_good and x.tap != self.best]
        level = f"; nothing tells it from {', '.join(others)}" if others else ""
        useful = f"The most useful layer is {self.best}: {best.accuracy.value:.1%}{level}."
        turning = "Up to the last layer features gain or stay as good for these classes."
        if self.turns is not None:
            last = self.layers[-1]
            why = "features tell less"
            if self.weights == "pretrained":
                why = "features turn to the classes that the network was trained on"
            turning = (
                f"Beyond {self.turns} {why}: at {last.tap} the probe is "
                f"{last.behind:.1%} less accurate, beyond chance."
            )
        said = [useful, turning]
        if self.weights == "trained":
            said.append(
                "This network was trained on these very images, which flatters its upper layers."
            )
        if self.left_out:
            said.append(
                "Left out, as these weights hold no classification layers: "
                f"{', '.join(self.left_out)}."
            )
        return tuple(said)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self) | {
            "page": printable(str(self.page)),
            "seconds": round(self.seconds, 2),
            "in_words": list(self.in_words),
        }
