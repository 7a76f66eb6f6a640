"""What the user calls DATA -> a listing of images."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from tltool._files import printable
from tltool._validation import TltoolError, nearest
from tltool.data.corrections import read_corrections, relabelled
from tltool.data.folder import Found, list_class_folders, walk
from tltool.data.listing import IMAGE_SUFFIXES, BadFile, Listing
from tltool.data.table import list_table

__all__ = ["TableColumns", "image_files", "read_listing"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableColumns:
    """Names of a table's columns; None for the usual ones.

    Args:
        image: of the path relative to the table's folder.
        label: of the class.
        split: of "train", "val" or "test"; None to draw the splits.
    """

    image: str | None = None
    label: str | None = None
    split: str | None = None

    @classmethod
    def named(cls, given: Mapping[str, str | None]) -> TableColumns:
        """From arguments `image_column`, `label_column` and `split_column`.

        Raises:
            TltoolError: another one.
        """
        known = [f"{f.name}_column" for f in fields(cls)]
        for name in given:
            if name not in known:
                raise TltoolError(f"Unknown argument {name!r}: {nearest(name, known)}")
        return cls(**{name.removesuffix("_column"): value for name, value in given.items()})


def read_listing(
    data: str | Path, columns: TableColumns | None = None, relabel: str | Path | None = None
) -> Listing:
    """List the images of a folder, a CSV or TSV file, or a TensorFlow data set.

    Args:
        data: a folder of class folders; one of `train/`, `val/`, `test/` of class folders; a
            `.csv` or `.tsv` file; or `tfds:NAME[:VERSION]`.
        columns: for a table.
        relabel: a CSV file of corrected labels; None for none.

    Raises:
        TltoolError: it is none of these; the sentence says what was expected.
    """
    listing = _read_any(data, columns)
    return listing if relabel is None else relabelled(listing, read_corrections(relabel))


def _read_any(data: str | Path, columns: TableColumns | None) -> Listing:
    text = str(data)
    if text.startswith("tfds:"):
        from tltool.data.tfds import list_tfds

        return list_tfds(text)
    with _explained(data):
        return _read_path(Path(data).expanduser(), columns or TableColumns())


def _read_path(path: Path, columns: TableColumns) -> Listing:
    if path.is_dir():
        return list_class_folders(path)
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv"):
        return list_table(path, columns.image, columns.label, columns.split)
    if path.is_file():
        raise TltoolError(
            f"{path} is a file; expected a folder of class folders, a .csv or .tsv file, or "
            "tfds:NAME."
        )
    raise TltoolError(f"{path} does not exist{_similar(path)}")


def image_files(paths: str | Path | Sequence[str | Path]) -> tuple[list[Path], list[BadFile]]:
    """The image files among files, folders (searched in full) and patterns such as `*.jpg`.

    Returns:
        The files, in the order given and by name within a folder, and what was refused.

    Raises:
        TltoolError: a path does not exist, or none holds an image.
    """
    paths = [paths] if isinstance(paths, str | Path) else paths
    files: list[Path] = []
    bad: list[BadFile] = []
    for given in paths:
        with _explained(given):
            found = _find(Path(given).expanduser())
        files.extend(found.files)
        bad.extend(found.bad)
    if not files and not bad:
        raise TltoolError(f"{', '.join(str(p) for p in paths)}: no image file there.")
    return files, bad


def _find(path: Path) -> Found:
    """The images that one path or pattern stands for."""
    if path.is_dir():
        found = walk(path)
        images = [f for f in found.files if f.suffix.lower() in IMAGE_SUFFIXES]
        if others := len(found.files) - len(images) + found.hidden:
            _log.warning("%s: %d files that are no images were left out", path, others)
        bad = [BadFile(printable(str(path / b.file)), b.reason) for b in found.bad]
        return Found(images, bad)
    if path.exists() and not path.is_file():
        return Found([], [BadFile(printable(str(path)), "is neither a file nor a folder")])
    if path.exists():
        return Found([path])
    if matches := sorted(_expand(path)):
        return Found([m for m in matches if m.is_file()])
    raise TltoolError(f"{path} does not exist{_similar(path)}")


@contextmanager
def _explained(data: str | Path) -> Iterator[None]:
    """What the system says of a path that it cannot follow, as one sentence."""
    if not str(data):
        raise TltoolError("The path is empty; name a file or a folder.")
    try:
        yield
    except TltoolError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TltoolError(
            f"{printable(str(data))} cannot be read ({reason}); check the name and its permissions."
        ) from error


def _expand(path: Path) -> Iterator[Path]:
    """Files that match a pattern the shell has left alone."""
    if any(c in str(path) for c in "*?["):
        yield from Path(path.anchor or ".").glob(str(path.relative_to(path.anchor)))


def _similar(path: Path) -> str:
    """The nearest names in the folder where a path was expected, to end a sentence."""
    try:
        siblings = [p.name for p in path.parent.iterdir()]
    except OSError:
        return "; check the spelling."
    hint = nearest(path.name, siblings)
    return f"; {hint}" if hint.startswith("did") else "; check the spelling."
