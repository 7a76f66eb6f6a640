"""Labels that somebody corrected, in a CSV file beside the data."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tltool._files import counted
from tltool._validation import TltoolError, nearest, storage_error
from tltool.data.listing import Listing

__all__ = ["LEFT_OUT", "read_corrections", "relabelled"]

FILE, CORRECTION = "file", "correction"

LEFT_OUT = "!leave out"
"""In place of a class: the image is not used at all."""


def read_corrections(path: str | Path) -> dict[str, str]:
    """Files and the classes that they are of, from a CSV file with the columns file and correction.

    Rows without a correction say nothing. Columns may be separated by semicolons, as spreadsheets
    do where the comma is a decimal point.

    Raises:
        TltoolError: it cannot be read, lacks a column, or names a file twice with two classes.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = max(
            (csv.DictReader(io.StringIO(text, ""), delimiter=d, strict=True) for d in ",;"),
            key=lambda one: len(one.fieldnames or []),
        )
        columns = reader.fieldnames or []
        rows = list(reader)
    except OSError as error:
        raise storage_error("read", path, error, "expected a CSV file of corrections") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise TltoolError(
            f"--relabel {path} is no CSV file in UTF-8 ({error}); write it with tltool check DATA "
            "--labels."
        ) from error
    for name in (FILE, CORRECTION):
        if name not in columns:
            raise TltoolError(
                f"--relabel {path} has no column {name!r}, only {', '.join(columns) or 'none'}; "
                "expected the columns file and correction, as tltool check DATA --labels writes "
                "them."
            )
    found: dict[str, str] = {}
    for row in rows:
        name, correction = row[FILE] or "", row[CORRECTION] or ""
        if not correction.strip():
            continue
        if found.setdefault(name, correction) != correction:
            raise TltoolError(
                f"--relabel {path} corrects {name} twice, to {found[name]!r} and {correction!r}; "
                "keep one of them."
            )
    return found


def relabelled(listing: Listing, corrections: Mapping[str, str]) -> Listing:
    """A listing with corrected labels.

    Args:
        listing: from a reader.
        corrections: by printable name of the file: its class, or `LEFT_OUT`.

    Raises:
        TltoolError: a file that is not there, or a class that no other image is of.
    """
    known = {entry.name for entry in listing.entries}
    labels = {entry.label for entry in listing.entries}
    corrections = {n: c if c in labels else c.strip() for n, c in corrections.items()}
    for name, label in corrections.items():
        if name not in known:
            raise TltoolError(
                f"--relabel corrects {name!r}, which is not in {listing.source}: "
                f"{nearest(name, known)}"
            )
        if label not in labels and label != LEFT_OUT:
            raise TltoolError(
                f"--relabel corrects {name} to {label!r}, which is no class of {listing.source}: "
                f"{nearest(label, labels)}"
            )
    entries = tuple(
        replace(entry, label=corrections.get(entry.name, entry.label))
        for entry in listing.entries
        if corrections.get(entry.name) != LEFT_OUT
    )
    before = {entry.name: entry.label for entry in listing.entries}
    changed = sum(before[e.name] != e.label for e in entries)
    left_out = len(listing.entries) - len(entries)
    said = f"{counted(changed, 'label')} and left {counted(left_out, 'image')} out"
    notes = (f"--relabel corrected {said}.",) if changed or left_out else ()
    return replace(listing, entries=entries, notes=(*listing.notes, *notes))
