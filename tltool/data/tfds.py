"""Image classification sets of tensorflow-datasets, written out as files once."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from tltool._files import cache_folder, natural_key, printable, write_atomically
from tltool._progress import progress
from tltool._validation import TltoolError
from tltool.data.folder import split_name
from tltool.data.listing import SPLITS, Entry, Listing

__all__ = ["list_tfds"]

_DONE = "complete"
_KINDS = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG", ".png"), (b"GIF8", ".gif"), (b"BM", ".bmp"))


def list_tfds(data: str) -> Listing:
    """List a TensorFlow data set: its encoded images, as they are, in tltool's cache folder.

    Args:
        data: `tfds:NAME[/CONFIG][:VERSION]`.

    Raises:
        TltoolError: the set is unknown, cannot be had, or does not classify images.
    """
    match = re.fullmatch(r"tfds:([\w/]+)(?::([\w.*]+))?", data)
    if not match:
        raise TltoolError(f"{data!r} is not tfds:NAME or tfds:NAME:VERSION, such as tfds:beans.")
    name, version = match.groups()
    builder = _prepared(data, f"{name}:{version}" if version else name)
    features = builder.info.features
    if not hasattr(features, "keys") or not {"image", "label"} <= set(features):
        raise TltoolError(
            f"{data} has no features 'image' and 'label'; only sets that classify images can be "
            "used."
        )
    label_feature = features["label"]
    splits = {s: n for s in builder.info.splits if (n := split_name(s)) is not None}
    if "train" not in splits.values():
        raise TltoolError(f"{data} has no train split, only {', '.join(builder.info.splits)}.")
    folder = cache_folder() / "tfds" / builder.info.full_name
    if not (folder / _DONE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        _write_out(builder, splits, folder)
    entries = []
    for path in folder.rglob("*.*"):
        split, number = path.relative_to(folder).parts[:2]
        label = label_feature.int2str(int(number)) if hasattr(label_feature, "int2str") else number
        entries.append(Entry(path, path.relative_to(folder).as_posix(), printable(label), split))
    entries.sort(key=lambda e: (SPLITS.index(e.split), natural_key(e.name)))
    others = Counter({s: builder.info.splits[s].num_examples for s in builder.info.splits})
    notes = tuple(
        f"Split {s!r} of {n} images was not used." for s, n in others.items() if s not in splits
    )
    return Listing(data, tuple(entries), notes=notes)


def _prepared(data: str, name: str) -> Any:
    """The data set's builder, downloaded and prepared if it was not yet."""
    import tensorflow_datasets as tfds

    try:
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
    """Every image's encoded bytes as `split/label number/index.ext`."""
    import tensorflow_datasets as tfds

    undecoded = {"image": tfds.decode.SkipDecoding()}
    for tfds_split, split in splits.items():
        source = builder.as_dataset(split=tfds_split, decoders=undecoded, shuffle_files=False)
        count = builder.info.splits[tfds_split].num_examples
        with progress(f"writing {split}", count) as advance:
            for index, example in enumerate(tfds.as_numpy(source)):
                data = bytes(example["image"])
                suffix = next((s for magic, s in _KINDS if data.startswith(magic)), ".webp")
                target = folder / split / str(int(example["label"]))
                target.mkdir(parents=True, exist_ok=True)
                (target / f"{index:07d}{suffix}").write_bytes(data)
                advance(1)
    write_atomically(folder / _DONE, "")
