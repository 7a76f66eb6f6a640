"""What the checks found, in words and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tltool._files import counted
from tltool.data import CheckReport, SplitReport, kinds_in_words
from tltool.report.thumbnails import data_address, thumbnail

__all__ = ["Finding", "findings_in_words", "findings_of"]

# Kinds of findings; whether each is a group of files that belong together.
_KINDS = (
    ("bad_files", "Files that could not be used"),
    ("contradictions", "Identical files with different labels (none of them is used)"),
    ("leaks", "Exact copies of test or validation images (left out of training)"),
    ("duplicates", "Identical files"),
    ("near_duplicates", "Near-duplicates (kept together in one split)"),
)

_MOST_LISTED = 50
_MOST_SHOWN = 6


def findings_in_words(report: CheckReport, splits: SplitReport) -> list[str]:
    """What the checks left out or moved, a sentence each."""
    notes = list(report.notes)
    if report.ignored:
        notes.append(f"Files that are no images were left out: {kinds_in_words(report.ignored)}.")
    drawn = set(splits.sizes) - set(splits.given)
    kept = ", kept together where no split was given" if drawn else ""
    for what, groups in (
        ("Identical files with different labels, none of them used", report.contradictions),
        ("Identical files, kept together", report.duplicates),
        (f"Near-duplicates{kept}", report.near_duplicates),
    ):
        if groups:
            more = " ..." if len(groups[0]) > 3 else ""
            first = " = ".join(groups[0][:3]) + more
            notes.append(f"{what}: {counted(len(groups), 'group')}, the first is {first}.")
    if report.leaks:
        copies = counted(len(report.leaks), "exact copy", "exact copies")
        notes.append(f"{copies} of test or validation images left out of the earlier splits.")
    if splits.moved:
        notes.append(f"Classes given an image in a split they had none in: {_few(splits.moved)}.")
    return notes


def _few(items: Sequence[str], most: int = 5) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


@dataclass(frozen=True)
class Finding:
    """Files of which one thing was found.

    Args:
        text: what.
        n: how many there are.
        items: a line each, of the first ones.
        pictures: groups of an address and a name, of the first ones that can be shown.
    """

    text: str
    n: int
    items: tuple[str, ...]
    pictures: tuple[tuple[tuple[str, str], ...], ...]


def findings_of(check: Mapping[str, Any], data: Path) -> list[Finding]:
    """What there is to tell of the checks.

    Args:
        check: a `CheckReport` as JSON values.
        data: the folder that names of files are in.
    """
    found = []
    for name, text in _KINDS:
        items = check.get(name) or ()
        if not items:
            continue
        groups = [[item] if isinstance(item, str) else item for item in items[:_MOST_SHOWN]]
        pictures = [] if name == "bad_files" else [_pictures(group, data) for group in groups]
        listed = tuple(_in_words(item) for item in items[:_MOST_LISTED])
        found.append(Finding(text, len(items), listed, tuple(p for p in pictures if p)))
    return found


def _pictures(names: Sequence[str], data: Path) -> tuple[tuple[str, str], ...]:
    shown = ((data_address(thumbnail(data / name)), name) for name in names[:3])
    return tuple((address, name) for address, name in shown if address)


def _in_words(item: Mapping[str, str] | Sequence[str] | str) -> str:
    if isinstance(item, Mapping):
        return f"{item['file']}: {item['reason']}"
    return item if isinstance(item, str) else " = ".join(item)
