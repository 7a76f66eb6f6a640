"""Image classification sets of tensorflow-datasets, written out as files once."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path
from typing import Any

from tltool._files import cache_folder, natural_key, printable
from tltool._keras import import_keras
from tltool._progress import open_progress, progress
from tltool._validation import TltoolError, storage_error
from tltool.data.folder import split_name
from tltool.data.listing import SPLITS, Entry, Listing

__all__ = ["list_tfds"]

_KINDS = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG", ".png"), (b"GIF8", ".gif"), (b"BM", ".bmp"))


def list_tfds(data: str) -> Listing:
    """List a TensorFlow data set: its encoded images, as they are, in tltool's cache folder.

    Args:
        data: `tfds:NAME[/CONFIG][:VERSION]`.

    Raises:
        TltoolError: the set is unknown, cannot be had, or does not classify images.
    """
    match = re.fullmatch(r"tfds:(\w+(?:/[\w.+-]+)?)(?::([\w.*]+))?", data)
    if not match:
        raise TltoolError(f"{data!r} is not tfds:NAME or tfds:NAME:VERSION, such as tfds:beans.")
    name, version = match.groups()
    builder = _prepared(data, f"{name}:{version}" if version else name)
    features = builder.info.features
    names = set(features) if hasattr(features, "keys") else set()
    if not {"image", "label"} <= names or not hasattr(features["label"], "int2str"):
        raise TltoolError(
            f"{data} has no feature 'image' with a class 'label'; only sets that classify images "
            "can be used."
        )
    splits = {s: n for s in builder.info.splits if (n := split_name(s)) is not None}
    if "train" not in splits.values():
        raise TltoolError(f"{data} has no train split, only {', '.join(builder.info.splits)}.")
    folder = cache_folder() / "tfds" / builder.info.full_name
    if not folder.exists():
        _write_out(builder, splits, folder)
    entries, unlabelled = [], 0
    for path in folder.glob("*/*/*"):
        split, number = path.relative_to(folder).parts[:2]
        if int(number) < 0:  # how these sets mark images without a label
            unlabelled += 1
            continue
        label = printable(features["label"].int2str(int(number)))
        entries.append(Entry(path, path.relative_to(folder).as_posix(), label, split))
    entries.sort(key=lambda e: (SPLITS.index(e.split), natural_key(e.name)))
    notes = [
        f"Split {s!r} of {builder.info.splits[s].num_examples} images was not used."
        for s in builder.info.splits
        if s not in splits
    ]
    if unlabelled:
        notes.append(f"{unlabelled} images without a label were not used.")
    return Listing(data, tuple(entries), notes=tuple(notes))


def _prepared(data: str, name: str) -> Any:
    """The data set's builder, downloaded and prepared if it was not yet."""
    import_keras()
    import tensorflow_datasets as tfds

    try:
        with open_progress() as screen, contextlib.redirect_stdout(screen):
            builder = tfds.builder(name)
            builder.download_and_prepare()
    except Exception as error:  # tfds, its file systems and its downloader raise many kinds
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise TltoolError(
            f"{data} could not be loaded: {reason}; see tfds.list_builders() for the names, and "
            "prepare it on a machine with network if this one has none (TFDS_DATA_DIR names its "
            "folder)."
        ) from error
    return builder


def _write_out(builder: Any, splits: dict[str, str], folder: Path) -> None:
    """Every image's encoded bytes as `split/label number/index.ext`, all of them or none."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tmp-") as temporary:
            made = Path(temporary) / "made"
            for tfds_split, split in splits.items():
                _write_split(builder, tfds_split, made / split)
            made.rename(folder)
    except OSError as error:
        if folder.exists():  # another process was first
            return
        raise storage_error(
            "write to", folder, error, "make room, or name another cache folder with TLTOOL_CACHE"
        ) from error


def _write_split(builder: Any, tfds_split: str, folder: Path) -> None:
    import tensorflow_datasets as tfds

    undecoded = {"image": tfds.decode.SkipDecoding()}
    source = builder.as_dataset(split=tfds_split, decoders=undecoded, shuffle_files=False)
    with progress(
        f"writing {folder.name}", builder.info.splits[tfds_split].num_examples
    ) as advance:
        for index, example in enumerate(tfds.as_numpy(source)):
            data = bytes(example["image"])
            suffix = next((s for magic, s in _KINDS if data.startswith(magic)), ".webp")
            target = folder / str(int(example["label"]))
            target.mkdir(parents=True, exist_ok=True)
            (target / f"{index:07d}{suffix}").write_bytes(data)
            advance(1)
