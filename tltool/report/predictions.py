"""What a run said of its test images: by class, by pair of classes, and image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tltool.metrics import wilson_interval
from tltool.report.sprites import sprites_of
from tltool.report.thumbnails import known_bytes

__all__ = ["ClassRow", "Tested", "class_rows", "largest_confusions", "pictured"]

_MOST_CONFUSIONS = 15

# Bytes of thumbnails of test images, and the most of them.
_SPRITE_BYTES = 2_200_000
_MOST_PICTURED = 4000


@dataclass(frozen=True)
class Tested:
    """What was said of test images.

    Args:
        names: of their files.
        paths: where they are; None where that is not known.
        hashes: their SHA-256.
        targets: `(n,)`, true classes.
        probabilities: `(n, k)`.
        labels: of the classes.
    """

    names: Sequence[str]
    paths: Sequence[Path | None]
    hashes: Sequence[bytes]
    targets: np.ndarray
    probabilities: np.ndarray
    labels: Sequence[str]

    def image(self, row: int) -> bytes | None:
        """An image's file; None where it is gone or has changed."""
        return known_bytes(self.paths[row], self.hashes[row])

    @property
    def predicted(self) -> np.ndarray:
        """The likeliest classes, `(n,)`."""
        return self.probabilities.argmax(axis=1)

    @property
    def confusion(self) -> np.ndarray:
        """`(k, k)`, true classes in rows, predicted ones in columns."""
        k = len(self.labels)
        counts = np.zeros((k, k), np.int64)
        np.add.at(counts, (self.targets, self.predicted), 1)
        return counts

    @property
    def mistakes(self) -> np.ndarray:
        """Rows of images that were named wrong, the surest first."""
        wrong = np.flatnonzero(self.predicted != self.targets)
        return wrong[np.argsort(-self.probabilities.max(axis=1)[wrong], kind="stable")]


@dataclass(frozen=True)
class ClassRow:
    """How one class fared.

    Args:
        label: its name.
        images: in the data.
        n: of them tested.
        recall: share of these that were named right, with the ends of its 95 % interval; None
            where none was tested.
        low, high: of recall.
        precision: share right of what was named so; None where nothing was.
    """

    label: str
    images: int
    n: int
    recall: float | None
    low: float
    high: float
    precision: float | None


def class_rows(tested: Tested, images: dict[str, int]) -> list[ClassRow]:
    """Each class, the worst first."""
    confusion = tested.confusion
    rows = []
    for i, label in enumerate(tested.labels):
        n, hits, named = int(confusion[i].sum()), int(confusion[i, i]), int(confusion[:, i].sum())
        low, high = wilson_interval(hits, n) if n else (0.0, 1.0)
        rows.append(
            ClassRow(
                label,
                images.get(label, 0),
                n,
                hits / n if n else None,
                low,
                high,
                hits / named if named else None,
            )
        )
    return sorted(rows, key=lambda row: (row.recall is None, row.recall, row.label))


def largest_confusions(tested: Tested) -> list[tuple[int, int, int, int]]:
    """(true, predicted, times, test images of the true class), the most frequent first."""
    confusion = tested.confusion
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSIONS]
    pairs = [divmod(int(i), len(confusion)) for i in order]
    return [(t, p, int(wrong[t, p]), int(confusion[t].sum())) for t, p in pairs if wrong[t, p]]


def pictured(tested: Tested) -> dict[str, Any]:
    """The matrix and its images, as a script shows them.

    Mistakes come first: where there are too many images, those named right go without a picture.
    """
    predicted, sure = tested.predicted, tested.probabilities.max(axis=1)
    right = np.flatnonzero(predicted == tested.targets)
    order = np.concatenate([tested.mistakes, right])
    shown = order[:_MOST_PICTURED]
    sprites = sprites_of(
        [tested.paths[i] for i in shown], _SPRITE_BYTES, [tested.hashes[i] for i in shown]
    )
    confusion = tested.confusion
    cells = [[int(t), int(p), int(confusion[t, p])] for t, p in np.argwhere(confusion)]
    images = [
        [tested.names[i], int(tested.targets[i]), int(predicted[i]), round(float(sure[i]), 3)]
        for i in order
    ]
    return {
        "labels": list(tested.labels),
        "cells": cells,
        "images": images,
        "missing": sorted(sprites.missing),
        "pictured": len(shown),
        "sprites": sprites.as_json(),
    }
