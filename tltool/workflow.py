"""From a folder of photos to a run folder: check, split, extract, fit, evaluate, report."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tltool._files import printable
from tltool._progress import progress
from tltool._validation import TltoolError, check_int, check_option, nearest
from tltool.backbones import Backbone
from tltool.data import (
    BadFile,
    CheckReport,
    Dataset,
    Example,
    TableColumns,
    UnreadableImageError,
    check_listing,
    image_files,
    read_listing,
    split_dataset,
)
from tltool.doctor import Finding, examine, examine_probabilities
from tltool.evaluation import Evaluation, evaluate_predictions, majority_class
from tltool.feature_tables import FORMATS, read_features, space_digest
from tltool.features import FeatureSource, FeatureStore, canvas_batches, feature_space
from tltool.report import PACKAGES, Outcome, findings_in_words, render_report, report_content
from tltool.results import Prediction, RunResult
from tltool.runs import Predictor, Run, RunWriter
from tltool.settings import AdaptSettings
from tltool.strategies import FittedClassifier

__all__ = ["adapt", "check", "evaluate", "predict"]

_log = logging.getLogger(__name__)


@dataclass
class _Clock:
    """Seconds spent in each phase."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("check", "extract", "fit", "evaluate"), 0.0)
    )

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started


def check(
    data: str | Path,
    *,
    store: str | Path | None = None,
    bad_images: str = "skip",
    backbone: str | None = None,
    weights: str | None = None,
    input_size: str | None = None,
    **columns: str | None,
) -> CheckReport:
    """Read every file of a data set and report what is wrong with it.

    Args:
        data: a folder of class folders, a table, or `tfds:NAME`.
        store: folder of the store, where inspections are kept.
        bad_images: "skip" or "fail".
        backbone: a network to check on these images too: is it trained, do the pixels reach it as
            those it was trained on did?
        weights: its weights, as for `adapt`.
        input_size: of the network, as for `adapt`.
        **columns: `image_column`, `label_column` and `split_column` of a table.

    Raises:
        TltoolError: no usable data; or unreadable files under "fail" or beyond one in ten.

    Example:
        >>> tltool.check("photos").near_duplicates
        (('cat/1.jpg', 'cat/1 copy.jpg'),)
    """
    for option, value in (("--weights", weights), ("--input-size", input_size)):
        if backbone is None and value is not None:
            raise TltoolError(f"{option} {value} needs --backbone to say of which network.")
    network = None if backbone is None else Backbone(backbone, weights, input_size=input_size)
    with FeatureStore(store) as cache:
        listing = read_listing(data, _columns(columns))
        dataset, report = check_listing(listing, bad_images=bad_images, cache=cache)
        notes = [] if network is None else _findings_of(network, cache, dataset)
    try:
        split_dataset(dataset, seed=0, test=AdaptSettings.test, val=AdaptSettings.val)
    except TltoolError as error:
        notes.append(f"tltool adapt would refuse this: {error}")
    return replace(report, notes=(*report.notes, *notes))


def _findings_of(backbone: Backbone, store: FeatureStore, dataset: Dataset) -> list[str]:
    """What can be said of a backbone on a data set, a sentence each."""
    if backbone.weights.seed is not None:
        return ["The weights are random: there is nothing to check of them."]
    findings = examine(FeatureSource(backbone, store), dataset.examples)
    return [f"{finding.check} ({finding.level}): {finding.text}" for finding in findings]


def adapt(
    data: str | Path,
    *,
    out: str | Path | None = None,
    store: str | Path | None = None,
    force: bool = False,
    **settings: Any,
) -> RunResult:
    """Adapt a pretrained network to a set of images, evaluate it, and save it all.

    Args:
        data: a folder of class folders; one of `train/`, `val/`, `test/` of class folders; a
            `.csv` or `.tsv` file; or `tfds:NAME[:VERSION]`.
        out: the run folder; None for a new one under `runs/`.
        store: folder of the feature store; None for the user's.
        force: replace a finished run.
        **settings: see `AdaptSettings`.

    Returns:
        The figures on the test split, and where the run is.

    Raises:
        TltoolError: in one sentence, what is wrong and what to do.

    Example:
        >>> result = tltool.adapt("photos", backbone="resnet50")
        >>> result.evaluation.metrics["accuracy"]
        Interval(value=0.93, low=0.9, high=0.95)
    """
    chosen = AdaptSettings.checked("adapt", settings)
    clock = _Clock()
    with clock.phase("check"):
        listing = read_listing(data, chosen.columns)
    warnings: list[str] = []
    backbone = chosen.make_backbone(warnings)
    for warning in warnings:
        _log.warning(warning)
    with FeatureStore(store) as kept:
        source = chosen.make_source(kept, backbone)
        facts = _settings_facts(data, chosen, source)
        folder = Path(out).expanduser() if out else _free_folder(data, backbone, facts)
        RunWriter.refuse_existing(folder, facts, force=force)
        with clock.phase("check"):
            checked, report = check_listing(listing, bad_images=chosen.bad_images, cache=kept)
            dataset, splits = split_dataset(
                checked, seed=chosen.seed, test=chosen.test, val=chosen.val
            )
            findings = examine(source, dataset.of("train", "val"))
        _warn(findings, warnings)
        writer = RunWriter(folder, facts, force=force)
        with clock.phase("extract"):
            source.for_prediction().features(dataset.examples)
            if source.views.random:
                source.features(dataset.of("train", "val"))
        with clock.phase("fit"):
            fitted = chosen.make_strategy().fit(source, dataset, seed=chosen.seed)
            warnings.extend(fitted.notes)
        with clock.phase("evaluate"):
            probabilities, evaluation = _test(fitted, source, dataset, chosen.seed)
        sums = examine_probabilities(probabilities)
        _warn([sums], warnings)
        result = RunResult(
            run=folder,
            strategy=chosen.strategy,
            backbone=backbone.preset.name,
            taps=tuple(tap.name for tap in backbone.taps),
            input_size=backbone.input_size,
            views=source.views.name,
            choices=fitted.choices,
            labels=dataset.labels,
            n_train=len(dataset.of("train", "val")),
            n_val=len(dataset.of("val")),
            n_test=evaluation.n,
            n_images=report.n_images,
            evaluation=evaluation,
            seconds=clock.seconds,
            bad_files=report.bad_files,
            warnings=tuple(warnings),
            notes=tuple(findings_in_words(report, splits)),
            findings=(*findings, sums),
        )
        outcome = Outcome(result, chosen, dataset, fitted, probabilities, report, splits, source)
        _write_run(writer, outcome)
        kept.trim()
    return result


def evaluate(
    run: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    engine: str = "auto",
    store: str | Path | None = None,
    bad_images: str = "skip",
    **columns: str | None,
) -> RunResult:
    """Figures of a run on labelled images.

    Args:
        run: a finished run folder.
        data: as for `adapt`; its classes must be among the run's.
        split: "train", "val", "test" or "all"; None for test where the data has splits, else all.
            Of images that came without a split, or as train, the one that the run gave them
            counts.
        engine: "auto", "keras" or "openvino".
        store: folder of the store, where inspections are kept.
        bad_images: "skip" or "fail".
        **columns: `image_column`, `label_column` and `split_column` of a table.

    Raises:
        TltoolError: no run, no such split, or classes that the run does not know.
    """
    loaded = Run(run)
    if split is not None:
        check_option("--split", split, ("all", "train", "val", "test"))
    clock = _Clock()
    with clock.phase("check"), FeatureStore(store) as cache:
        listing = read_listing(data, _columns(columns))
        dataset, report = check_listing(
            listing, bad_images=bad_images, cache=cache, for_training=False
        )
    examples, warnings = _examples_to_score(loaded, dataset, split)
    for warning in warnings:
        _log.warning(warning)
    with clock.phase("extract"):
        predictor = loaded.predictor(engine)
        probabilities = _probabilities(predictor, loaded, examples)
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
        views=str(loaded.facts.get("views", "1")),
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
    engine: str = "auto",
) -> tuple[list[Prediction], list[BadFile]]:
    """The likeliest classes of new images.

    Args:
        run: a finished run folder.
        paths: one or several files, folders (searched in full) and patterns such as `*.jpg`; or
            one table of features that `extract` wrote with the run's settings.
        top_k: classes an image, at most as many as there are.
        engine: "auto", "keras" or "openvino".

    Returns:
        A prediction for each image that can be read, in the order given, and the others with
        the reason.

    Raises:
        TltoolError: no run, no such path, no image.
    """
    check_int("--top-k", top_k, low=1)
    loaded = Run(run)
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    if len(given) == 1 and Path(given[0]).suffix.lower() in FORMATS:
        return _predict_features(loaded, Path(given[0]).expanduser(), top_k), []
    files, bad = image_files(paths)
    predictor = loaded.predictor(engine)
    names = [printable(str(file)) for file in files]
    predictions = []
    readers = [lambda f=file: _bytes_of(f) for file in files]
    with progress("predicting", len(files)) as advance:
        for batch in canvas_batches(readers, loaded.canvas_size, views=loaded.n_views):
            bad.extend(BadFile(names[row], why) for row, why in batch.unreadable.items())
            kept = [i for i, row in enumerate(batch.rows) if row not in batch.unreadable]
            if kept:
                rows = [batch.rows[i] for i in kept]
                for row, probabilities in zip(rows, predictor(batch.pixels[kept]), strict=True):
                    predictions.append(_prediction(names[row], probabilities, loaded.labels, top_k))
            advance(len(batch.rows))
    for file in bad:
        _log.warning("%s: %s", file.file, file.reason)
    return predictions, bad


def _predict_features(run: Run, path: Path, top_k: int) -> list[Prediction]:
    """Predictions for features that `extract` wrote, if they are the run's."""
    table = read_features(path)
    spaces = run.spaces
    if table.space != space_digest(spaces):
        theirs = next(iter(table.spaces.values()), {"backbone": "another backbone"})
        raise TltoolError(
            f"{path} holds features of {theirs['backbone']} ({', '.join(table.arrays)}), and "
            f"{run.folder} was made with those of {run.facts['backbone']} ({', '.join(spaces)}) "
            f"and its own weights; extract them with: tltool extract DATA --out FILE "
            f"{run.extraction}"
        )
    features = run.head_features([table.arrays[name] for name in spaces])
    probabilities = run.head().predict_proba(features)
    return [
        _prediction(name, row, run.labels, top_k)
        for name, row in zip(table.files, probabilities, strict=True)
    ]


def _prediction(
    name: str, probabilities: np.ndarray, labels: Sequence[str], top_k: int
) -> Prediction:
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    return Prediction(name, tuple((labels[i], float(probabilities[i])) for i in best))


def _columns(given: dict[str, str | None]) -> TableColumns:
    """The columns of a table, from arguments named as in `AdaptSettings`."""
    known = [f"{f.name}_column" for f in fields(TableColumns)]
    for name in given:
        if name not in known:
            raise TltoolError(f"Unknown argument {name!r}: {nearest(name, known)}")
    return TableColumns(**{name.removesuffix("_column"): value for name, value in given.items()})


def _warn(findings: Iterable[Finding], warnings: list[str]) -> None:
    """Say what is wrong, at once and in the report."""
    for finding in findings:
        if finding.level == "warning":
            _log.warning(finding.text)
            warnings.append(finding.text)


def _settings_facts(
    data: str | Path, settings: AdaptSettings, source: FeatureSource
) -> dict[str, Any]:
    """All that the outcome follows from; two runs with equal facts are the same run."""
    return asdict(settings) | {
        "data": printable(str(data)),
        "backbone": source.backbone.preset.name,
        "weights": source.backbone.weights.hash,
        "tap": [str(part) for part in source.backbone.parts],
        "input_size": list(source.backbone.input_size),
        "engine": source.engine,
    }


def _free_folder(data: str | Path, backbone: Backbone, facts: dict[str, Any]) -> Path:
    """`runs/DATA-BACKBONE`, numbered where that holds something other than this run unfinished."""
    name = str(data).removeprefix("tfds:").rstrip("/")
    stem = Path(name).expanduser().resolve().stem if "tfds:" not in str(data) else name
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in stem) or "data"
    number = 1
    while True:
        folder = Path("runs") / f"{safe}-{backbone.preset.name}{f'-{number}' if number > 1 else ''}"
        if not folder.exists() or RunWriter.can_continue(folder, facts):
            return folder
        number += 1


def _test(
    fitted: FittedClassifier, source: FeatureSource, dataset: Dataset, seed: int
) -> tuple[np.ndarray, Evaluation]:
    examples = dataset.of("test")
    probabilities = fitted.predict_proba(source, examples)
    majority = majority_class(dataset.targets(dataset.of("train", "val")), len(dataset.labels))
    evaluation = evaluate_predictions(
        probabilities, dataset.targets(examples), majority=majority, seed=seed
    )
    return probabilities, evaluation


def _write_run(writer: RunWriter, outcome: Outcome) -> None:
    """Every file of the run; the last one says that it is whole."""
    dataset, backbone = outcome.dataset, outcome.source.backbone
    shown = outcome.source.for_prediction()
    height, width = shown.canvas_size
    examples = dataset.of("test")
    writer.write_labels(dataset.labels)
    writer.write_dataset((e.name, e.label, e.split, e.hash.hex()) for e in dataset.examples)
    writer.write_predictions(
        [(e.name, e.label) for e in examples], outcome.probabilities, dataset.labels
    )
    writer.write_model(outcome.fitted.build_model(outcome.source))
    writer.update(
        outcome.result.as_json()
        | {
            "classes": len(dataset.labels),
            "majority": outcome.result.evaluation.majority,
            "canvas": {"height": height, "width": width, "views": shown.views.count},
            "features": {str(part): asdict(feature_space(shown, part)) for part in backbone.parts},
            "weights": {"source": backbone.weights.source, "sha256": backbone.weights.hash},
            "check": asdict(outcome.check),
            "splits": asdict(outcome.splits),
            "versions": {name: version(name) for name in PACKAGES}
            | {"python": platform.python_version()},
        }
    )
    writer.write_report(render_report(report_content(outcome)))
    writer.finish()


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


def _probabilities(predictor: Predictor, run: Run, examples: Sequence[Example]) -> np.ndarray:
    readers = [lambda e=e: _bytes_of(e.path) for e in examples]
    parts = []
    with progress("predicting", len(examples)) as advance:
        for batch in canvas_batches(readers, run.canvas_size, views=run.n_views):
            batch.refuse_unreadable(examples)
            parts.append(predictor(batch.pixels))
            advance(len(batch.rows))
    return np.concatenate(parts)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"cannot be opened ({error.strerror})") from error
