"""What a reader found before any file is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["IMAGE_SUFFIXES", "SPLITS", "BadFile", "Entry", "Listing", "kinds_in_words"]

SPLITS = ("train", "val", "test")

IMAGE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".gif",
        ".bmp",
        ".dib",
        ".webp",
        ".tif",
        ".tiff",
        ".heic",
        ".heif",
    ]
)


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file that cannot be used, by its printable name, and why in a few words."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that ought to be an image: its path, printable name, label, and split or ""."""

    path: Path
    name: str
    label: str
    split: str = ""


@dataclass(frozen=True)
class Listing:
    """All that a reader found.

    Args:
        source: the data as the user named it.
        entries: the images, sorted by split and name.
        bad: what was refused without opening it: links that lead out, rows without a label.
        ignored: number of files by extension that are no images; "" for none, "hidden" for
            those whose name starts with a dot.
        notes: other findings, a sentence each.
    """

    source: str
    entries: tuple[Entry, ...]
    bad: tuple[BadFile, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()


def kinds_in_words(ignored: Mapping[str, int]) -> str:
    """Numbers of files by extension: "2 .txt, 1 without extension"."""
    return ", ".join(f"{n} {kind or 'without extension'}" for kind, n in ignored.items())
