"""A map of images: their features laid out in the plane, on one page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from tltool._clock import Clock
from tltool._files import counted, natural_key, printable, write_atomically
from tltool._progress import progress
from tltool._validation import TltoolError, check_int, storage_error
from tltool.data import BadFile, Example, read_listing, readable_images
from tltool.features import Features, FeatureStore
from tltool.label_errors import suspected_labels
from tltool.layout import check_layout, lay_out, neighbours
from tltool.linear import Problem, choose, out_of_fold_scores
from tltool.linear.calibration import fit_temperature
from tltool.linear.linear_head import softmax
from tltool.report.map_page import MapContent, MapImage, map_page
from tltool.report.pages import check_page_name, default_page, name_of
from tltool.report.sprites import sprites_of
from tltool.run_features import RunImages, run_features
from tltool.runs import Run
from tltool.settings import AdaptSettings
from tltool.strategies.folds import stratified_folds

__all__ = ["FeatureMap", "map_features"]

# Nearest neighbours that the page shows of an image.
_NEIGHBOURS = 8

# Bytes of all thumbnails together.
_BUDGET = 3_500_000

_TITLES = {"tsne": "t-SNE", "umap": "UMAP"}

# What doubts the labels of data that no run was made of: the quickest of the classifiers.
_FOLDS = 5
_CLASSIFIERS = ("lda",)
_CHAINS = (("sqrt", "l2"),)
_FEWEST_OF_CLASS = 2


@dataclass(frozen=True)
class FeatureMap:
    """What `map_features` wrote.

    Args:
        page: the HTML file.
        n_images: images on it.
        classes: theirs, in natural order.
        layout: "tsne" or "umap".
        mistakes: test images of a run that it named wrong.
        suspects: images whose label is doubted, the most doubtful first.
        bad_files: files that were left out, and why.
        notes: what the page says of itself, a sentence each.
        seconds: of each phase.
    """

    page: Path
    n_images: int
    classes: tuple[str, ...]
    layout: str
    mistakes: tuple[MapImage, ...]
    suspects: tuple[MapImage, ...]
    bad_files: tuple[BadFile, ...]
    notes: tuple[str, ...]
    seconds: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self) | {"page": printable(str(self.page))}


@dataclass(frozen=True)
class _Known:
    """Images, their features `(n, d)`, where they may lie and their hashes, and what is to be
    said of them."""

    labels: tuple[str, ...]
    images: tuple[MapImage, ...]
    features: np.ndarray
    paths: Sequence[Path | None]
    contents: Sequence[bytes]
    notes: tuple[str, ...]
    bad_files: tuple[BadFile, ...] = ()


def map_features(
    where: str | Path,
    *,
    out: str | Path | None = None,
    force: bool = False,
    store: str | Path | None = None,
    layout: str = "tsne",
    seed: int = 0,
    backbone: str | None = None,
    weights: str | None = None,
    tap: str | None = None,
    engine: str = "auto",
    bad_images: str = "skip",
    image_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
) -> FeatureMap:
    """Write a page on which images lie near those that look like them.

    Test images that a run named wrong are marked, and so are images whose label is doubted: by
    what a run said of images that it was not fitted on, or, of data, by a linear classifier that is
    cross-validated on the features.

    Args:
        where: the folder of a run, whose head's features are laid out; or data: a folder of class
            folders; one of `train/`, `val/`, `test/` of class folders; a `.csv` or `.tsv` file; or
            `tfds:NAME[:VERSION]`.
        out: the `.html` file; None for `map-NAME.html` in the current folder.
        force: replace a file that is there.
        store: folder of the feature store; None for the user's.
        layout: "tsne", or "umap", which needs the package umap-learn.
        seed: of the layout and, of data, of folds and of random weights.
        backbone: of data: the network, as in `AdaptSettings`; so are `weights` and `tap`.
        weights: of data.
        tap: of data.
        engine: "auto", "keras" or "openvino".
        bad_images: of data: "skip" unreadable files, or "fail" at the first look.
        image_column: of a table.
        label_column: of a table.
        split_column: of a table.

    Returns:
        What was written.

    Raises:
        TltoolError: in one sentence, what is wrong and what to do: no run and no data, an ensemble,
            fewer than two images, options that a run has no use for, an unknown layout or one that
            is not installed, a file that is there.

    Example:
        >>> tltool.map_features("runs/flowers").page
        PosixPath('map-flowers.html')
    """
    check_layout(layout)
    seed = check_int("--seed", seed, low=0, high=2**32 - 1)
    page = Path(out).expanduser() if out else default_page("map", where)
    check_page_name(page, force=force)
    clock = Clock({})
    of_data: dict[str, Any] = {
        "backbone": backbone,
        "weights": weights,
        "tap": tap,
        "image_column": image_column,
        "label_column": label_column,
        "split_column": split_column,
        "bad_images": bad_images,
    }
    if (Path(where).expanduser() / "run.json").is_file():
        _refuse_options(where, of_data)
        known = _of_run(Run(where), store, engine, clock)
    else:
        settings = AdaptSettings(**of_data, engine=engine, seed=seed)
        known = _of_data(where, settings, store, clock)
    n = len(known.images)
    with clock.phase("layout"), progress("laying out", n) as advance:
        points = lay_out(known.features, layout, seed)
        advance(n)
    with clock.phase("neighbours"):
        near = neighbours(known.features, _NEIGHBOURS)
    with clock.phase("thumbnails"):
        sprites = sprites_of(known.paths, _BUDGET, known.contents)
    notes = (
        f"{counted(n, 'image')} of {counted(len(known.labels), 'class', 'classes')}, laid out by "
        f"{_TITLES[layout]}: images that are close together look alike to the network; how far "
        "groups lie apart and how large they are means little.",
        *known.notes,
        *_note_of_missing(sprites.missing, n),
    )
    with clock.phase("page"):
        title = f"Map of {name_of(where)}"
        content = MapContent(title, notes, known.labels, known.images, points, near, sprites)
        try:
            write_atomically(page, map_page(content))
        except OSError as error:
            raise storage_error("write", page, error, "name another file with --out") from error
    return FeatureMap(
        page,
        n,
        known.labels,
        layout,
        tuple(image for image in known.images if image.mistake),
        tuple(sorted((i for i in known.images if i.suggested), key=lambda image: -image.margin)),
        known.bad_files,
        notes,
        clock.seconds,
    )


def _of_run(run: Run, store: str | Path | None, engine: str, clock: Clock) -> _Known:
    """Images of a run, the features that its head sees, and what it said of them."""
    images = RunImages.of(run)
    with clock.phase("features"):
        features = run_features(images, store, engine)
    with clock.phase("labels"):
        tested = run.tested() if run.was_tested else None
        said = [one for one in (tested, run.held_out()) if one is not None and one.hashes]
        rows = {content: i for i, content in enumerate(h for one in said for h in one.hashes)}
        told = _Told(run.labels)
        if said:
            targets = np.concatenate([one.targets for one in said])
            told = _Told.of(np.vstack([one.probabilities for one in said]), targets, run.labels)
        known = tuple(
            told.image(rows.get(row["sha256"], -1), row["file"], row["label"], row["split"])
            for row in images.rows
        )
    notes = (
        f"Features are those that the last layer of {printable(str(run.folder))} is given. "
        "Predictions, by which labels are doubted, too, are that run's: of test images, and of "
        "others by fits that were made without them.",
    )
    return _Known(run.labels, known, features, images.paths, images.hashes, notes)


def _of_data(
    where: str | Path, settings: AdaptSettings, store: str | Path | None, clock: Clock
) -> _Known:
    """Images of a data set, a network's features, and what a classifier on them says."""
    listing = read_listing(where, settings.columns)
    with FeatureStore(store) as kept:
        with clock.phase("check"):
            examples, bad = readable_images(listing, bad_images=settings.bad_images, cache=kept)
        if len(examples) < 2:
            raise TltoolError(
                f"{listing.source} has one image that can be read; a map needs two at least."
            )
        with clock.phase("features"):
            source = settings.make_source(kept)
            features = source.features(examples)
            kept.trim()
    labels = tuple(sorted({e.label for e in examples}, key=natural_key))
    with clock.phase("labels"):
        told = _cross_validated(examples, features, labels, settings.seed)
    taps = ", ".join(str(part) for part in source.backbone.parts)
    notes = [f"Features are those of {source.backbone.preset.name}, {taps}."]
    notes.append(
        "Predictions, by which labels are doubted, too, are those of a linear classifier on these "
        "features that was fitted without the image."
        if told.predicted is not None
        else "No label could be doubted: that takes two classes, and two images of each."
    )
    if bad:
        notes.append(f"{counted(len(bad), 'file')} could not be read and were left out.")
    known = tuple(told.image(i, e.name, e.label, e.split) for i, e in enumerate(examples))
    paths, contents = [e.path for e in examples], [e.hash for e in examples]
    return _Known(labels, known, features.values, paths, contents, tuple(notes), bad)


@dataclass(frozen=True)
class _Told:
    """What was said of images by what was not fitted on them.

    Args:
        labels: the classes.
        predicted: the likeliest class of each, `(m,)`; None where nothing was said.
        doubts: of a row number, the class that it seems to be of, and the margin.
    """

    labels: Sequence[str]
    predicted: np.ndarray | None = None
    doubts: dict[int, tuple[str, float]] | None = None

    @classmethod
    def of(cls, probabilities: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> _Told:
        """From probabilities `(m, k)` and classes `(m,)`."""
        suspects = suspected_labels(probabilities, targets)
        doubts = {one.row: (labels[one.suggested], one.margin) for one in suspects}
        return cls(labels, probabilities.argmax(axis=1), doubts)

    def image(self, row: int, file: str, label: str, split: str) -> MapImage:
        """What is known of an image; its row is -1 where nothing was said of it."""
        if self.predicted is None or self.doubts is None or row < 0:
            return MapImage(file, label, split)
        predicted = self.labels[self.predicted[row]]
        mistake = split == "test" and predicted != label
        return MapImage(file, label, split, predicted, mistake, *self.doubts.get(row, ("", 0.0)))


def _cross_validated(
    examples: Sequence[Example], features: Features, labels: tuple[str, ...], seed: int
) -> _Told:
    """What a linear classifier says of each image when it is fitted without it."""
    told = _Told(labels)
    distinct = Counter(label for label, _ in {(e.label, e.hash) for e in examples})
    if len(labels) < 2 or min(distinct.values()) < _FEWEST_OF_CLASS:
        return told
    folds = stratified_folds(examples, _FOLDS, seed)
    if folds is None:
        return told
    number = {label: i for i, label in enumerate(labels)}
    targets = np.array([number[e.label] for e in examples], np.int64)
    problem = Problem(features.values, targets, len(labels), features.widths)
    # matrices as small as these are not worth waiting for threads of BLAS, which spin
    with threadpool_limits(1):
        chosen = choose(problem, folds, _CLASSIFIERS, _CHAINS, nested=False).chosen.candidate
        scores = out_of_fold_scores(problem, chosen, folds)
    temperature = fit_temperature(scores, targets, problem.row_weights)
    return _Told.of(softmax(scores / temperature), targets, labels)


def _refuse_options(where: str | Path, given: dict[str, Any]) -> None:
    """Options of data would do nothing for a run."""
    usual = {"bad_images": "skip"}
    for name, value in given.items():
        if value != usual.get(name):
            raise TltoolError(
                f"--{name.replace('_', '-')} is for DATA; {where} is a run, whose own features are "
                "laid out, so leave it out."
            )


def _note_of_missing(missing: frozenset[int], n: int) -> list[str]:
    """Why there are no thumbnails, if there are none."""
    if not missing:
        return []
    which = "Of all images" if len(missing) == n else f"Of {counted(len(missing), 'image')}"
    return [f"{which} no thumbnail could be made, as they no longer are where they were."]
