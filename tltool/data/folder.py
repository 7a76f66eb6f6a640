"""Folders of class folders, with or without train, val and test above them."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tltool._files import counted, natural_key, printable
from tltool._validation import TltoolError
from tltool.data.listing import IMAGE_SUFFIXES, SPLITS, BadFile, Entry, Listing, kinds_in_words

__all__ = ["Found", "list_class_folders", "split_name", "walk"]

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass
class Found:
    """What a walk met: files to look at, what was refused, and which of that are folders."""

    files: list[Path] = field(default_factory=list)
    bad: list[BadFile] = field(default_factory=list)
    hidden: int = 0
    closed: list[tuple[Path, str]] = field(default_factory=list)


def split_name(text: str) -> str | None:
    """ "train", "val" or "test" for their usual names, in any case; else None."""
    return _SPLIT_NAMES.get(text.strip().lower())


def list_class_folders(root: Path) -> Listing:
    """List the images of a folder whose subfolders are classes, or splits of classes.

    A folder counts as split when it has `train` and nothing but folders named like splits, and
    `train` holds folders itself. Images in deeper folders belong to the class at the top.

    Raises:
        TltoolError: it has no class folders; the sentence says what was found instead.
    """
    found = walk(root)
    tops = [p for p in _visible(root) if p.is_dir()]
    splits = _split_folders(root, found.files)
    is_split = bool(splits)
    depth = 2 if is_split else 1
    _refuse_closed_folders(root, found, depth)
    entries, loose = [], []
    ignored: Counter[str] = Counter()
    for path in found.files:
        parts = path.relative_to(root).parts
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            ignored[path.suffix.lower()] += 1
        elif len(parts) <= depth:
            loose.append(path)
        else:
            split = splits.get(parts[0], "")
            label = printable(unicodedata.normalize("NFC", parts[depth - 1]))
            entries.append(Entry(path, _name(path, root), label, split))
    if found.hidden:
        ignored["hidden"] += found.hidden
    if not entries and not found.bad:
        raise TltoolError(_nothing_found(root, loose, ignored))
    _refuse_outer_folder(root, entries)
    entries.sort(key=lambda e: (SPLITS.index(e.split) if e.split else 0, natural_key(e.name)))
    notes = [*_empty_folders(root, tops, entries, found.bad, is_split)]
    if loose:
        notes.append(
            f"Outside any class folder, and left out: {counted(len(loose), 'image')}, such as "
            f"{_name(loose[0], root)!r}."
        )
    return Listing(printable(str(root)), tuple(entries), tuple(found.bad), ignored, tuple(notes))


def walk(root: Path) -> Found:
    """All visible files below a folder, links followed only where they stay inside and end."""
    found = Found()
    _walk(root, root, root.resolve(), (root.resolve(),), found)
    return found


def _walk(
    folder: Path, root: Path, inside: Path, ancestors: tuple[Path, ...], found: Found
) -> None:
    with os.scandir(folder) as scan:
        items = sorted(scan, key=lambda item: item.name)
    for item in items:
        path = Path(item.path)
        if item.name.startswith("."):
            found.hidden += 1
        elif item.is_symlink() and (reason := _refusal(path, inside, ancestors)):
            found.bad.append(BadFile(_name(path, root), reason))
            if "leads out" in reason and path.is_dir():
                found.closed.append((path, reason))
        elif item.is_dir():
            try:
                _walk(path, root, inside, (*ancestors, path.resolve()), found)
            except PermissionError:
                reason = "cannot be opened (Permission denied)"
                found.bad.append(BadFile(_name(path, root), reason))
                found.closed.append((path, reason))
        elif item.is_file():
            found.files.append(path)
        else:
            found.bad.append(BadFile(_name(path, root), "is neither a file nor a folder"))


def _refusal(link: Path, inside: Path, ancestors: tuple[Path, ...]) -> str:
    """Why a symbolic link is not followed; empty if it may be."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return "is a symbolic link that leads nowhere or round in a circle"
    if not target.is_relative_to(inside):
        return "is a symbolic link that leads out of the data folder"
    if target in ancestors:
        return "is a symbolic link back to a folder that holds it (a loop)"
    return ""


def _split_folders(root: Path, files: list[Path]) -> dict[str, str]:
    """Split by folder name, if the subfolders that hold images are splits rather than classes.

    Raises:
        TltoolError: some are splits and some are not.
    """
    parts = [f.relative_to(root).parts for f in files if f.suffix.lower() in IMAGE_SUFFIXES]
    tops = {p[0] for p in parts if len(p) > 1}
    splits = {top: split for top in sorted(tops) if (split := split_name(top))}
    classes_inside = any(splits.get(p[0]) == "train" and len(p) > 2 for p in parts)
    if not classes_inside:
        return {}
    for split in set(splits.values()):
        if len(same := [top for top, found in splits.items() if found == split]) > 1:
            raise TltoolError(
                f"{root} has the folders {' and '.join(same)}, which both name the {split} split; "
                "put their images into one of them."
            )
    others = sorted(tops - set(splits))
    inside: dict[str, set[str]] = {}
    for top, *below in parts:
        if len(below) > 1:
            inside.setdefault(splits.get(top, top), set()).add(below[0])
    for other in others:
        if inside.get(other, set()) & inside["train"]:
            raise TltoolError(
                f"{root} has a train folder and beside it {other!r} with the same classes; call "
                "that val or test, or move it away."
            )
    if others and len(splits) > 1:
        raise TltoolError(
            f"{root} has the splits {', '.join(splits)} and beside them the folder {others[0]!r} "
            "with images; move it away."
        )
    return {} if others else splits


def _refuse_closed_folders(root: Path, found: Found, depth: int) -> None:
    """A class or a split that cannot be entered is no detail to skip."""
    for path, reason in found.closed:
        if len(path.relative_to(root).parts) <= depth:
            raise TltoolError(
                f"{_name(path, root)} in {root} {reason}; copy its files here, or remove it."
            )


def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _name(path: Path, root: Path) -> str:
    return printable(path.relative_to(root).as_posix())


def _nothing_found(root: Path, loose: list[Path], ignored: Counter[str]) -> str:
    expected = "expected a folder for each class with its images inside"
    if loose:
        return f"{root} has {len(loose)} images but no class folders; {expected}."
    if ignored:
        return f"{root} holds no image files, only others ({kinds_in_words(ignored)}); {expected}."
    return f"{root} is empty; {expected}."


def _refuse_outer_folder(root: Path, entries: list[Entry]) -> None:
    """One class whose images all lie in folders of its own: the user means that class's folder."""
    if len({e.label for e in entries}) != 1:
        return
    inner = {e.path.relative_to(root).parts[1:-1] for e in entries}
    classes = {parts[0] for parts in inner if parts}
    if () not in inner and len(classes) > 1:
        folder = root / entries[0].path.relative_to(root).parts[0]
        raise TltoolError(
            f"{root} holds one folder, {folder.name!r}, with {len(classes)} folders of images; "
            f"give that one instead: {folder}."
        )


def _empty_folders(
    root: Path, tops: list[Path], entries: list[Entry], bad: list[BadFile], is_split: bool
) -> Iterator[str]:
    """A note on class folders without any image."""
    classes = tops
    if is_split:  # of a split without any class, the split itself
        classes = [p for top in tops for p in [c for c in _visible(top) if c.is_dir()] or [top]]
    depth = 2 if is_split else 1
    used = {e.path.relative_to(root).parts[:depth] for e in entries}
    used |= {Path(b.file).parts[:depth] for b in bad}
    empty = [_name(p, root) for p in classes if p.relative_to(root).parts not in used]
    if empty:
        names = ", ".join(empty[:5])
        yield f"Without images, and left out: {counted(len(empty), 'folder')}, {names}."
