"""Features in files that NumPy and pandas read alone: `.npz`, `.parquet`, `.csv`."""

from __future__ import annotations

import csv
import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tltool._files import atomic_path
from tltool._validation import TltoolError, storage_error
from tltool.features import Space

__all__ = [
    "FORMATS",
    "FeatureTable",
    "check_table_name",
    "read_features",
    "space_digest",
    "write_features",
]

FORMATS = (".parquet", ".npz", ".csv")

_COLUMNS = ("file", "label", "split", "hash")
_SPACE = "space"

# What readers raise at a file that is cut short or something else.
_DAMAGED = (ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError)

_NOTES = "tltool"


@dataclass(frozen=True)
class FeatureTable:
    """Features of images, and what they follow from.

    Args:
        files: printable paths relative to the data.
        labels: classes.
        splits: "train", "val", "test", or "" where none was given.
        hashes: SHA-256 of the files, hexadecimal.
        arrays: by tap and pooling, `(n, d)`, float32.
        space: tells backbone, weights, views, canvas and precision from all others.
        spaces: all of that by tap; empty where it was read from a `.csv`.
    """

    files: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    hashes: tuple[str, ...]
    arrays: Mapping[str, np.ndarray]
    space: str
    spaces: Mapping[str, Mapping[str, str]]

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """The columns of text, by name."""
        values = (self.files, self.labels, self.splits, self.hashes)
        return dict(zip(_COLUMNS, values, strict=True))


def space_digest(spaces: Mapping[str, Space]) -> str:
    """Tells the spaces of some taps from all others: 16 hexadecimal digits."""
    text = json.dumps({name: asdict(space) for name, space in spaces.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_table_name(path: Path) -> None:
    """Refuse a file name that says no format, or lies nowhere.

    Raises:
        TltoolError: it ends in none of `FORMATS`, or its folder is not there.
    """
    if path.suffix.lower() not in FORMATS:
        raise TltoolError(
            f"--out {path}: the name's ending says the format; expected one of "
            f"{', '.join(FORMATS)}."
        )
    if not path.parent.is_dir():
        raise TltoolError(f"--out {path}: the folder {path.parent} does not exist; make it first.")
    if path.is_dir():
        raise TltoolError(f"--out {path} is a folder; name a file.")


def write_features(table: FeatureTable, path: Path) -> None:
    """Write a table whole, in the format that the name's ending says.

    `.npz` holds an array for each column and tap (texts as unicode arrays, nothing pickled);
    `.parquet` a column for each tap, of lists; `.csv` a column for each number, `tap[0]`,
    `tap[1]` and so on.

    Raises:
        TltoolError: it cannot be written.
    """
    write = {".npz": _write_npz, ".parquet": _write_parquet, ".csv": _write_csv}
    try:
        with atomic_path(path) as temporary:
            write[path.suffix.lower()](table, temporary)
    except OSError as error:
        raise storage_error(
            "write", path, error, "make room or name another file with --out"
        ) from error


def read_features(path: Path) -> FeatureTable:
    """What `write_features` wrote.

    Raises:
        TltoolError: it cannot be read, or tltool did not write it.
    """
    read = {".npz": _read_npz, ".parquet": _read_parquet, ".csv": _read_csv}
    if path.suffix.lower() not in read:
        raise TltoolError(f"{path} is no table of features; expected one of {', '.join(FORMATS)}.")
    if not path.is_file():
        raise TltoolError(f"{path} does not exist; expected a file that tltool extract wrote.")
    try:
        table = read[path.suffix.lower()](path)
    except OSError as error:
        raise storage_error(
            "read", path, error, "expected a file that tltool extract wrote"
        ) from error
    except (*_DAMAGED, zipfile.BadZipFile, csv.Error) as error:
        raise TltoolError(
            f"{path} is no table of features that tltool extract wrote ({error}); extract it again."
        ) from error
    for name, values in table.arrays.items():
        if not np.isfinite(values).all():
            raise TltoolError(
                f"{path} holds features {name} that are no finite numbers; extract it again."
            )
    return table


def _write_npz(table: FeatureTable, path: Path) -> None:
    # not np.savez, which cannot name an array "file"
    texts = {name: np.array(values, dtype=str) for name, values in table.columns.items()}
    notes = {_SPACE: np.array(table.space), _NOTES: np.array(json.dumps(dict(table.spaces)))}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, values in {**texts, **table.arrays, **notes}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def _read_npz(path: Path) -> FeatureTable:
    with np.load(path, allow_pickle=False) as found:
        files, labels, splits, hashes = (tuple(found[name].tolist()) for name in _COLUMNS)
        taps = [name for name in found.files if name not in (*_COLUMNS, _SPACE, _NOTES)]
        arrays = {name: found[name] for name in taps}
        return FeatureTable(
            files,
            labels,
            splits,
            hashes,
            arrays,
            str(found[_SPACE]),
            json.loads(str(found[_NOTES])),
        )


def _write_parquet(table: FeatureTable, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        name: pa.array(values, pa.string()) for name, values in table.columns.items()
    }
    for name, values in table.arrays.items():
        flat = pa.array(np.ascontiguousarray(values).ravel(), pa.float32())
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    notes = {_SPACE: table.space, _NOTES: json.dumps(dict(table.spaces))}
    pq.write_table(pa.table(columns).replace_schema_metadata(notes), path)


def _read_parquet(path: Path) -> FeatureTable:
    import pyarrow.parquet as pq

    found = pq.read_table(path)
    notes = {key.decode(): value.decode() for key, value in (found.schema.metadata or {}).items()}
    files, labels, splits, hashes = (tuple(found[name].to_pylist()) for name in _COLUMNS)
    arrays = {
        name: np.stack(found[name].to_numpy()).astype(np.float32)
        for name in found.column_names
        if name not in _COLUMNS
    }
    return FeatureTable(
        files, labels, splits, hashes, arrays, notes[_SPACE], json.loads(notes[_NOTES])
    )


def _write_csv(table: FeatureTable, path: Path) -> None:
    header = [*_COLUMNS, _SPACE]
    for name, values in table.arrays.items():
        header += [f"{name}[{i}]" for i in range(values.shape[1])]
    numbers = np.hstack(list(table.arrays.values()))
    texts = zip(*table.columns.values(), strict=True)
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for text, row in zip(texts, numbers, strict=True):
            writer.writerow([*text, table.space, *(f"{value:.9g}" for value in row)])


def _read_csv(path: Path) -> FeatureTable:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        texts = len(_COLUMNS) + 1
        if header[:texts] != [*_COLUMNS, _SPACE]:
            raise ValueError(f"its first columns are {header[:texts]}")
        body = list(rows)
    if not body:
        raise ValueError("it has no rows")
    numbers = np.array([row[texts:] for row in body], np.float32)
    names = [name.rpartition("[")[0] for name in header[texts:]]
    taps = list(dict.fromkeys(names))
    arrays = {tap: numbers[:, [name == tap for name in names]] for tap in taps}
    files, labels, splits, hashes = (tuple(row[i] for row in body) for i in range(len(_COLUMNS)))
    return FeatureTable(files, labels, splits, hashes, arrays, body[0][len(_COLUMNS)], {})
