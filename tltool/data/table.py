"""CSV and TSV files with a row an image."""

from __future__ import annotations

import csv
import io
import logging
import unicodedata
from pathlib import Path

from tltool._files import natural_key, printable
from tltool._validation import TltoolError, nearest
from tltool.data.folder import split_name
from tltool.data.listing import SPLITS, BadFile, Entry, Listing

__all__ = ["list_table"]

_log = logging.getLogger(__name__)

_IMAGE_COLUMNS = ("image", "file", "filename", "path", "filepath", "image_path")
_LABEL_COLUMNS = ("label", "class", "category", "target")


def list_table(
    table: Path, image_column: str | None, label_column: str | None, split_column: str | None
) -> Listing:
    """List the images that a table names, by paths relative to its folder.

    Args:
        table: UTF-8, with a header; separated by commas or semicolons, by tabs in a `.tsv`.
        image_column: None for the first of image, file, filename, path, filepath, image_path.
        label_column: None for the first of label, class, category, target.
        split_column: None where the table gives no splits.

    Raises:
        TltoolError: a column is missing, a split is unknown, or the file is no such table.
    """
    header, rows = _read(table)
    image = _column(table, header, "--image-column", image_column, _IMAGE_COLUMNS)
    label = _column(table, header, "--label-column", label_column, _LABEL_COLUMNS)
    split = _column(table, header, "--split-column", split_column, ()) if split_column else None
    folder = table.parent.resolve()
    entries: dict[tuple[Path, str, str], Entry] = {}
    bad = []
    repeated = 0
    for line, row in rows:
        name = (row.get(image) or "").strip()
        text = (row.get(label) or "").strip()
        if not name or not text:
            lacking = "image" if not name else "label"
            bad.append(
                BadFile(printable(name) or f"line {line}", f"has no {lacking} (line {line})")
            )
            continue
        path = table.parent / name
        try:
            inside = path.resolve().is_relative_to(folder)
        except (OSError, RuntimeError, ValueError):
            bad.append(BadFile(printable(name), f"is no path that can be followed (line {line})"))
            continue
        if not inside:
            bad.append(BadFile(printable(name), f"lies outside {table.parent} (line {line})"))
            continue
        given = _split(table, line, row, split) if split else ""
        named = printable(unicodedata.normalize("NFC", text))
        repeated += (path, named, given) in entries
        entries[path, named, given] = Entry(path, printable(name), named, given)
    if not entries and not bad:
        raise TltoolError(f"{table} has a header but no rows; expected one for each image.")
    if split and entries and not any(e.split == "train" for e in entries.values()):
        raise TltoolError(f"{table}: no row of column {split!r} says train; some images must.")
    ordered = sorted(
        entries.values(),
        key=lambda e: (SPLITS.index(e.split) if e.split else 0, natural_key(e.name)),
    )
    notes = []
    if repeated:
        notes.append(f"Rows that repeat another one, and count once: {repeated}.")
    if split is None and "split" in header:
        notes.append("The table's column 'split' was not used; name it with --split-column split.")
        _log.warning(notes[-1])  # before hours of training on other splits
    return Listing(printable(str(table)), tuple(ordered), tuple(bad), {}, tuple(notes))


def _read(table: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The column names, and each row with its line number."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TltoolError(
            f"{table} is not UTF-8 text (byte {error.start}); save it as CSV in UTF-8."
        ) from error
    separators = "\t" if table.suffix.lower() == ".tsv" else ",;"
    try:
        reader = max(
            (
                csv.DictReader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
                for mark in separators
            ),
            key=lambda candidate: len(candidate.fieldnames or []),
        )
        header = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = header
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise TltoolError(f"{table} is no well-formed CSV ({error}); save it again.") from error
    if not any(header):
        raise TltoolError(f"{table} is empty; expected a header and a row for each image.")
    return header, rows


def _column(
    table: Path, header: list[str], option: str, wanted: str | None, usual: tuple[str, ...]
) -> str:
    if wanted is not None:
        if header.count(wanted) > 1:
            raise TltoolError(f"{table} has several columns {wanted!r}; rename all but one.")
        if wanted not in header:
            raise TltoolError(
                f"{table} has no column {wanted!r} ({option}): {nearest(wanted, header)}"
            )
        return wanted
    for name in header:
        if name.lower() in usual:
            return name
    raise TltoolError(
        f"{table} has columns {', '.join(map(repr, header))} and none named like {usual[0]!r}; "
        f"name it with {option}."
    )


def _split(table: Path, line: int, row: dict[str, str], column: str) -> str:
    text = (row.get(column) or "").strip()
    split = split_name(text)
    if split is None:
        raise TltoolError(
            f"{table}, line {line}: split {text!r} is not known; expected train, val or test."
        )
    return split
