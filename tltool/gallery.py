"""Features handed out: to a file, and to find images that look alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tltool._files import printable
from tltool._validation import TltoolError, check_int
from tltool.data import (
    BadFile,
    canvas_of_file,
    read_listing,
    readable_images,
)
from tltool.feature_tables import FeatureTable, check_table_name, space_digest, write_features
from tltool.features import FeatureSource, FeatureStore, Space, feature_space
from tltool.report import Picture, check_sheet_name, thumbnail, write_contact_sheet
from tltool.run_features import RunImages, run_features
from tltool.runs import Run
from tltool.settings import AdaptSettings

__all__ = ["Extraction", "Neighbour", "Neighbours", "extract", "similar"]


# Settings that features follow from.
_OF_FEATURES = (
    "backbone",
    "weights",
    "tap",
    "input_size",
    "views",
    "recipe",
    "seed",
    "engine",
    "precision",
    "bad_images",
    "image_column",
    "label_column",
    "split_column",
)


@dataclass(frozen=True)
class Extraction:
    """What `extract` wrote.

    Args:
        out: the file.
        backbone: the network.
        views: pictures of an image that features are averaged over.
        taps: number of features by tap and pooling.
        n_images: rows.
        computed: images that went through the network; the others were stored.
        bad_files: files that were left out, and why.
    """

    out: Path
    backbone: str
    views: str
    taps: dict[str, int]
    n_images: int
    computed: int
    bad_files: tuple[BadFile, ...]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self) | {"out": printable(str(self.out))}


def extract(
    data: str | Path,
    out: str | Path,
    *,
    store: str | Path | None = None,
    **settings: Any,
) -> Extraction:
    """Write a backbone's features of every image to a file.

    Args:
        data: a folder of class folders; one of `train/`, `val/`, `test/` of class folders; a
            `.csv` or `.tsv` file; or `tfds:NAME[:VERSION]`.
        out: a `.parquet`, `.npz` or `.csv` file, replaced whole.
        store: folder of the feature store; None for the user's.
        **settings: `backbone`, `weights`, `tap`, `input_size`, `views`, `recipe`, `seed`,
            `engine`, `precision`, `bad_images` and a table's columns, as in `AdaptSettings`.

    Returns:
        What was written: one row a readable file, copies included, in the data's order.

    Raises:
        TltoolError: in one sentence, what is wrong and what to do.

    Example:
        >>> tltool.extract("photos", "photos.npz", backbone="resnet50").taps
        {'conv5_block3_out:avg': 2048}
    """
    chosen = AdaptSettings.checked("extract", settings, _OF_FEATURES)
    path = Path(out).expanduser()
    check_table_name(path)
    listing = read_listing(data, chosen.columns)
    with FeatureStore(store) as kept:
        source = chosen.make_source(kept)
        examples, bad = readable_images(listing, bad_images=chosen.bad_images, cache=kept)
        features = source.features(examples)
        parts = source.backbone.parts
        arrays = np.split(features.values, np.cumsum(features.widths)[:-1], axis=1)
        spaces = {str(part): feature_space(source, part) for part in parts}
        table = FeatureTable(
            tuple(e.name for e in examples),
            tuple(e.label for e in examples),
            tuple(e.split for e in examples),
            tuple(e.hash.hex() for e in examples),
            dict(zip(spaces, arrays, strict=True)),
            space_digest(spaces),
            {name: asdict(space) for name, space in spaces.items()},
        )
        write_features(table, path)
        kept.trim()
    return Extraction(
        path,
        source.backbone.preset.name,
        source.views.name,
        dict(zip(spaces, features.widths, strict=True)),
        len(examples),
        features.computed,
        bad,
    )


@dataclass(frozen=True)
class Neighbour:
    """An image that looks like another one.

    Args:
        file: its printable name; its hash where no name is known.
        label: its class, "" where none is known.
        split: "train", "val", "test" or "".
        distance: cosine distance of the features, 0 for the same direction, 1 for a right angle.
    """

    file: str
    label: str
    split: str
    distance: float


@dataclass(frozen=True)
class Neighbours:
    """What `similar` found: the nearest first, by which features, and the sheet that shows them."""

    image: str
    features: str
    searched: int
    neighbours: tuple[Neighbour, ...]
    sheet: Path

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self) | {"sheet": printable(str(self.sheet))}


def similar(
    where: str | Path,
    image: str | Path,
    *,
    n: int = 12,
    out: str | Path | None = None,
    store: str | Path | None = None,
    engine: str = "auto",
) -> Neighbours:
    """The images of a run or of a store that look most like one image.

    Args:
        where: a run folder, or a folder of a feature store, of which the features used last are
            searched.
        image: an image file.
        n: how many to find.
        out: the contact sheet, `.png` or `.html`; None for `similar-IMAGE.html`.
        store: folder of the store that holds a run's features; None for the user's.
        engine: "auto", "keras" or "openvino".

    Raises:
        TltoolError: no run and no store, features that are stored no longer, no image.

    Example:
        >>> tltool.similar("runs/flowers", "new.jpg").neighbours[0]
        Neighbour(file='rose/12.jpg', label='rose', split='train', distance=0.08)
    """
    check_int("--n", n, low=1)
    path = Path(image).expanduser()
    sheet = Path(out).expanduser() if out else Path(f"similar-{path.stem}.html")
    check_sheet_name(sheet)
    folder = Path(where).expanduser()
    if (folder / "features.sqlite").is_file():
        known = _of_store(folder, path, engine)
    elif folder.is_dir() and not (folder / "run.json").exists():
        raise TltoolError(
            f"{folder} is neither a run nor a feature store; name the folder of a run, or of a "
            "store (tltool store info tells where yours is)."
        )
    else:
        known = _of_run(Run(folder), path, store, engine)
    order = np.argsort(known.distances, kind="stable")[:n]
    found = tuple(known.neighbour(int(i)) for i in order)
    pictures = [Picture(thumbnail(path), (printable(path.name), "", "asked for"))]
    pictures += [
        Picture(known.picture(int(i)), (one.file, one.label, f"distance {one.distance:.3f}"))
        for i, one in zip(order, found, strict=True)
    ]
    write_contact_sheet(sheet, f"Images most like {printable(path.name)}", pictures)
    searched = len(known.distances)
    return Neighbours(printable(str(path)), known.features, searched, found, sheet)


@dataclass(frozen=True)
class _Known:
    """Images that were searched, by which features; rows of file, label, split; places; hashes."""

    features: str
    rows: Sequence[tuple[str, str, str]]
    paths: Sequence[Path | None]
    contents: Sequence[bytes]
    thumbnails: Sequence[bytes]
    distances: np.ndarray

    def neighbour(self, i: int) -> Neighbour:
        return Neighbour(*self.rows[i], float(self.distances[i]))

    def picture(self, i: int) -> Image.Image | None:
        """The image itself, or the small copy that the store keeps."""
        path, small = self.paths[i], self.thumbnails[i]
        found = thumbnail(path, self.contents[i])
        if found is None and small:
            return Image.frombytes("RGB", (32, 32), small).resize((96, 96))
        return found


def _of_run(run: Run, image: Path, store: str | Path | None, engine: str) -> _Known:
    """Distances from an image to all those of a run, by the features that its head sees."""
    images = RunImages.of(run)
    features = run_features(images, store, engine)
    wanted = run.predictor(engine).features(canvas_of_file(image, run.canvas_size)[None])
    return _Known(
        f"those that the last layer of {printable(str(run.folder))} is given",
        [(row["file"], row["label"], row["split"]) for row in images.rows],
        images.paths,
        images.hashes,
        [b""] * len(images.rows),
        _cosine_distances(wanted[0], features),
    )


def _of_store(folder: Path, image: Path, engine: str) -> _Known:
    """Distances from an image to all those whose features were used last."""
    with FeatureStore(folder, create=False) as kept:
        found = kept.latest_space()
        if found is None:
            raise TltoolError(f"The feature store {folder} is empty; adapt or extract first.")
        space, number = found
        source = _source_of(space, kept, engine)
        hashes = kept.hashes(number)
        stored = kept.read_mean(number, hashes, source.views.count)
        size = source.for_prediction().canvas_size
        wanted = source.of_canvases(canvas_of_file(image, size)[None])
        small = kept.thumbnails(hashes)
    return _Known(
        f"{space.tap} of {space.backbone}, views {space.views}",
        [(content.hex(), "", "") for content in hashes],
        [None] * len(hashes),
        hashes,
        [small.get(content, b"") for content in hashes],
        _cosine_distances(wanted[0], stored),
    )


def _source_of(space: Space, store: FeatureStore, engine: str) -> FeatureSource:
    """A source of the very features that are in a space."""
    settings = AdaptSettings(
        backbone=space.backbone,
        tap=space.tap,
        views=space.views,
        engine=space.engine or engine,
        precision=space.precision,
    )
    source = settings.make_source(store)
    if feature_space(source, source.backbone.parts[0]) != space:
        raise TltoolError(
            f"The features used last in {store.path} are of {space.backbone} with other weights or "
            "another input size than there are now; name a run instead of the store."
        )
    return source


def _cosine_distances(wanted: np.ndarray, features: np.ndarray) -> np.ndarray:
    """One minus the cosine of the angle to each row, `(n,)`."""
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(wanted)
    return np.maximum(0.0, 1.0 - features @ wanted / np.maximum(lengths, 1e-12))
