"""The immutable table of images that everything else works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

__all__ = ["Dataset", "Example"]


@dataclass(frozen=True, slots=True)
class Example:
    """One image file.

    Args:
        path: where it lies.
        name: printable path relative to the data.
        label: its class.
        hash: SHA-256 of the file, 32 bytes.
        group: smallest hash among its near-duplicates; they share a split.
        split: "train", "val", "test", or "" as long as none is given.
        pixels: `(height, width, 3)`, uint8, RGB, of an image that lies in no file.
    """

    path: Path
    name: str
    label: str
    hash: bytes
    group: bytes
    split: str = ""
    pixels: np.ndarray | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Dataset:
    """Checked images and their classes.

    Args:
        source: the data as the user named it.
        examples: one row an image file, in the reader's order.
        labels: the classes in natural order ("2" before "10"); a model's outputs follow it.
        given_splits: the splits that came with the data and are never drawn again.
    """

    source: str
    examples: tuple[Example, ...]
    labels: tuple[str, ...]
    given_splits: frozenset[str] = frozenset()

    def of(self, *splits: str) -> tuple[Example, ...]:
        """The examples of these splits."""
        return tuple(e for e in self.examples if e.split in splits)

    def targets(self, examples: Sequence[Example]) -> np.ndarray:
        """Class numbers of examples, `(n,)`, int64."""
        number = {label: i for i, label in enumerate(self.labels)}
        return np.array([number[e.label] for e in examples], dtype=np.int64)
