"""What a finished run does: name what is on new images, and be scored on labelled ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tltool._clock import Clock
from tltool._files import printable
from tltool._progress import progress
from tltool._validation import TltoolError, check_int, check_option, nearest
from tltool.data import (
    BadFile,
    Dataset,
    Example,
    TableColumns,
    UnreadableImageError,
    check_listing,
    image_files,
    read_listing,
)
from tltool.evaluation import evaluate_predictions
from tltool.feature_tables import FORMATS, FeatureTable, read_features, space_digest
from tltool.features import FeatureStore, canvas_batches
from tltool.predictor import on_images
from tltool.results import Prediction, RunResult
from tltool.runs import Run

__all__ = ["evaluate", "predict"]

_log = logging.getLogger(__name__)


def evaluate(
    run: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    views: str | None = None,
    engine: str = "auto",
    store: str | Path | None = None,
    bad_images: str = "skip",
    relabel: str | Path | None = None,
    **columns: str | None,
) -> RunResult:
    """Figures of a run on labelled images.

    Args:
        run: a finished run folder.
        data: as for `adapt`; its classes must be among the run's.
        split: "train", "val", "test" or "all"; None for test where the data has splits, else all.
            Of images that came without a split, or as train, the one that the run gave them
            counts.
        views: pictures of an image whose probabilities are averaged: "1", "2", "10", "12", or
            "auto" by the size of the input; None for what the run itself makes of an image.
        engine: "auto", "keras" or "openvino".
        store: folder of the store, where inspections are kept.
        bad_images: "skip" or "fail".
        relabel: a CSV file of corrected labels, as for `adapt`.
        **columns: `image_column`, `label_column` and `split_column` of a table.

    Raises:
        TltoolError: no run, no such split, or classes that the run does not know.
    """
    loaded = Run(run)
    if split is not None:
        check_option("--split", split, ("all", "train", "val", "test"))
    clock = Clock()
    with clock.phase("check"), FeatureStore(store) as cache:
        listing = read_listing(data, TableColumns.named(columns), relabel)
        dataset, report = check_listing(
            listing, bad_images=bad_images, cache=cache, for_training=False
        )
    examples, warnings = _examples_to_score(loaded, dataset, split)
    for warning in warnings:
        _log.warning(warning)
    with clock.phase("extract"):
        predictor = loaded.predictor(engine, views)
        probabilities = on_images(predictor, predictor, examples)
    with clock.phase("evaluate"):
        number = {label: i for i, label in enumerate(loaded.labels)}
        targets = np.array([number[e.label] for e in examples])
        facts = loaded.facts
        evaluation = evaluate_predictions(
            probabilities, targets, majority=facts["majority"], seed=facts["settings"]["seed"]
        )
    return RunResult(
        run=loaded.folder,
        strategy=facts["strategy"],
        backbone=facts["backbone"],
        taps=tuple(facts.get("taps", ())),
        input_size=tuple(loaded.facts["input_size"]),
        views=predictor.views.name if predictor.views else str(facts.get("views", "1")),
        labels=loaded.labels,
        n_train=facts["n_train"],
        n_val=facts["n_val"],
        n_test=evaluation.n,
        n_images=report.n_images,
        evaluation=evaluation,
        seconds=clock.seconds,
        bad_files=report.bad_files,
        warnings=tuple(warnings),
        notes=report.notes,
    )


def predict(
    run: str | Path,
    paths: str | Path | Sequence[str | Path],
    *,
    top_k: int = 3,
    min_confidence: float = 0.0,
    views: str | None = None,
    engine: str = "auto",
) -> tuple[list[Prediction], list[BadFile]]:
    """The likeliest classes of new images.

    Args:
        run: a finished run folder.
        paths: one or several files, folders (searched in full) and patterns such as `*.jpg`; or
            one table of features that `extract` wrote with the run's settings.
        top_k: classes an image, at most as many as there are.
        min_confidence: the least probability of the likeliest class, 0 to 1, that is an answer;
            below it a prediction is unsure.
        views: as for `evaluate`.
        engine: "auto", "keras" or "openvino".

    Returns:
        A prediction for each image that can be read, in the order given, and the others with
        the reason.

    Raises:
        TltoolError: no run, no such path, no image.
    """
    check_int("--top-k", top_k, low=1)
    if not 0 <= min_confidence <= 1:
        raise TltoolError(
            f"--min-confidence must be a probability from 0 to 1, got {min_confidence!r}."
        )
    loaded = Run(run)

    def named(name: str, probabilities: np.ndarray) -> Prediction:
        best = np.argsort(-probabilities, kind="stable")[:top_k]
        top = tuple((loaded.labels[i], float(probabilities[i])) for i in best)
        return Prediction(name, top, top[0][1] < min_confidence)

    given = [paths] if isinstance(paths, str | Path) else list(paths)
    if len(given) == 1 and Path(given[0]).suffix.lower() in FORMATS:
        if views is not None:
            raise TltoolError(
                f"--views {views} is for images; {given[0]} holds features of the run's own views."
            )
        table, probabilities = _predict_features(loaded, Path(given[0]).expanduser())
        return [named(*row) for row in zip(table.files, probabilities, strict=True)], []
    files, bad = image_files(paths)
    predictor = loaded.predictor(engine, views)
    names = [printable(str(file)) for file in files]
    predictions = []
    readers = [lambda f=file: _bytes_of(f) for file in files]
    with progress("predicting", len(files)) as advance:
        for batch in canvas_batches(readers, predictor.canvas_size, views=predictor.n_views):
            bad.extend(BadFile(names[row], why) for row, why in batch.unreadable.items())
            kept = [i for i, row in enumerate(batch.rows) if row not in batch.unreadable]
            if kept:
                rows = [batch.rows[i] for i in kept]
                found = predictor(batch.pixels[kept])
                predictions += [named(names[row], p) for row, p in zip(rows, found, strict=True)]
            advance(len(batch.rows))
    for file in bad:
        _log.warning("%s: %s", file.file, file.reason)
    return predictions, bad


def _predict_features(run: Run, path: Path) -> tuple[FeatureTable, np.ndarray]:
    """Features that `extract` wrote, if they are the run's, and their probabilities."""
    table = read_features(path)
    spaces = run.spaces
    if run.is_ensemble:
        raise TltoolError(
            f"{run.folder} is an ensemble, whose members have features of their own; give it "
            "images."
        )
    if run.trained_network:
        raise TltoolError(
            f"{run.folder} trained its network, so no table holds its features; give it images."
        )
    if table.space != space_digest(spaces):
        theirs = next(iter(table.spaces.values()), {"backbone": "another backbone"})
        raise TltoolError(
            f"{path} holds features of {theirs['backbone']} ({', '.join(table.arrays)}), and "
            f"{run.folder} was made with those of {run.facts['backbone']} ({', '.join(spaces)}) "
            f"and its own weights; extract them with: tltool extract DATA --out FILE "
            f"{run.extraction}"
        )
    features = run.head_features([table.arrays[name] for name in spaces])
    return table, run.head()[-1].predict_proba(features)


def _examples_to_score(
    run: Run, dataset: Dataset, split: str | None
) -> tuple[tuple[Example, ...], list[str]]:
    """The examples of a split, and what is to be said of them."""
    unknown = [label for label in dataset.labels if label not in run.labels]
    if unknown:
        raise TltoolError(
            f"{dataset.source} has class {unknown[0]!r}, which {run.folder} does not know: "
            f"{nearest(unknown[0], run.labels)}"
        )
    of_run = run.splits()
    seen = {content for content, was in of_run.items() if was in ("train", "val")}
    if split is None:
        split = "test" if dataset.given_splits else "all"
    if split == "all":
        examples = dataset.examples
    else:  # what came as train, or as nothing, may have been drawn into another split by the run
        examples = tuple(
            e
            for e in dataset.examples
            if split == (of_run.get(e.hash.hex(), e.split) if e.split in ("", "train") else e.split)
        )
    if not examples:
        raise TltoolError(
            f"{dataset.source} has no image of split {split!r}; use --split all to score all of it."
        )
    fitted_on = sum(e.hash.hex() in seen for e in examples)
    warnings = []
    if fitted_on:
        remedy = "; score the others with --split test" if split == "all" else ""
        warnings.append(
            f"{fitted_on} of these {len(examples)} images are among those the run was fitted on, "
            f"so the figures flatter it{remedy}."
        )
    return examples, warnings


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"cannot be opened ({error.strerror})") from error
