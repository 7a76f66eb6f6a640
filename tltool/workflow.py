"""From a folder of photos to a run folder: check, split, extract, fit, evaluate, report."""

from __future__ import annotations

import logging
import platform
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tltool._presets import backbone_names
from tltool._progress import progress
from tltool._validation import TltoolError, check_int, check_option, nearest
from tltool.backbones import Backbone, WeightsMissingError
from tltool.data import (
    BadFile,
    CheckReport,
    Dataset,
    Example,
    SplitReport,
    TableColumns,
    UnreadableImageError,
    check_listing,
    image_files,
    read_listing,
    split_dataset,
)
from tltool.evaluation import Evaluation, evaluate_predictions, majority_class
from tltool.features import FeatureSource, FeatureStore, canvas_batches, default_store_folder
from tltool.report import Mistake, ReportContent, render_report
from tltool.runs import Predictor, Run, RunWriter
from tltool.strategies import STRATEGIES, FittedClassifier

__all__ = [
    "AdaptSettings",
    "Prediction",
    "RunResult",
    "adapt",
    "check",
    "evaluate",
    "predict",
]

_log = logging.getLogger(__name__)

# Tried in this order where the user names no backbone; the embedded one comes last.
_PREFERRED_BACKBONES = ("resnet50", "mobilenet-0.25")
_EMBEDDED_BACKBONE = "cifar-resnet20"

_PACKAGES = ("tltool", "keras", "tensorflow", "numpy", "openvino", "pillow", "simplejpeg")


@dataclass(frozen=True)
class AdaptSettings:
    """What a run follows from, besides the data.

    Args:
        backbone: name of a preset; None for the best of resnet50 and mobilenet-0.25 whose weights
            can be had, else the embedded network.
        weights: "imagenet", "none" (random), a file, or None for the backbone's own.
        strategy: how to adapt, "off-the-shelf".
        seed: of the splits, the folds and the intervals.
        test: share of the images to test on, where the data brings no test split.
        val: share of the images to validate on, where the data brings no such split.
        engine: "auto", "keras" or "openvino".
        precision: "float32", or "bfloat16": faster on processors that have it, and features are
            up to a tenth off.
        bad_images: "skip" unreadable files, or "fail".
        image_column, label_column, split_column: of a table; None for the usual names, and no
            splits.

    Raises:
        TltoolError: an unknown option.
    """

    backbone: str | None = None
    weights: str | None = None
    strategy: str = "off-the-shelf"
    seed: int = 0
    test: float = 0.2
    val: float = 0.1
    engine: str = "auto"
    precision: str = "float32"
    bad_images: str = "skip"
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None

    def __post_init__(self) -> None:
        if self.backbone is not None:
            check_option("--backbone", self.backbone, backbone_names())
        check_option("--strategy", self.strategy, STRATEGIES)
        check_option("--bad-images", self.bad_images, ("skip", "fail"))
        check_int("--seed", self.seed, low=0)

    @property
    def columns(self) -> TableColumns:
        """The columns of a table."""
        return TableColumns(self.image_column, self.label_column, self.split_column)


@dataclass(frozen=True)
class RunResult:
    """What `adapt` and `evaluate` found.

    Args:
        run: the run folder.
        strategy: how it was adapted.
        backbone: the network.
        labels: the classes.
        n_train: images that the final classifier was fitted on, validation images included.
        n_val: how many of them are of the validation split.
        n_test: images that the figures are from.
        evaluation: the figures.
        seconds: time for check, extract, fit and evaluate.
        bad_files: files that were skipped, and why.
        notes: what the user should know, a sentence each.
    """

    run: Path
    strategy: str
    backbone: str
    labels: tuple[str, ...]
    n_train: int
    n_val: int
    n_test: int
    evaluation: Evaluation
    seconds: dict[str, float]
    bad_files: tuple[BadFile, ...]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values; what `--json` prints."""
        return {
            "run": str(self.run),
            "strategy": self.strategy,
            "backbone": self.backbone,
            "n_train": self.n_train,
            "n_val": self.n_val,
            "n_test": self.n_test,
            "metrics": {name: asdict(i) for name, i in self.evaluation.metrics.items()},
            "baselines": self.evaluation.baselines,
            "seconds": {name: round(s, 3) for name, s in self.seconds.items()},
            "bad_files": [asdict(bad) for bad in self.bad_files],
        }


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image, best first."""

    file: str
    top: tuple[tuple[str, float], ...]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        label, probability = self.top[0]
        return {
            "file": self.file,
            "predicted": label,
            "probability": probability,
            "top": [{"label": name, "probability": p} for name, p in self.top],
        }


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
    **columns: str | None,
) -> CheckReport:
    """Read every file of a data set and report what is wrong with it.

    Args:
        data: a folder of class folders, a table, or `tfds:NAME`.
        store: folder of the store, where inspections are kept.
        bad_images: "skip" or "fail".
        **columns: `image_column`, `label_column` and `split_column` of a table.

    Raises:
        TltoolError: no usable data; or unreadable files under "fail" or beyond one in ten.

    Example:
        >>> tltool.check("photos").near_duplicates
        (('cat/1.jpg', 'cat/1 copy.jpg'),)
    """
    with FeatureStore(store or default_store_folder()) as cache:
        listing = read_listing(data, _columns(columns))
        return check_listing(listing, bad_images=bad_images, cache=cache)[1]


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
    chosen = _settings(settings)
    clock = _Clock()
    notes: list[str] = []
    backbone = _choose_backbone(chosen, notes)
    for note in notes:
        _log.warning(note)
    with FeatureStore(store or default_store_folder()) as kept:
        source = FeatureSource(backbone, kept, chosen.engine, chosen.precision)
        facts = _settings_facts(data, chosen, source)
        with clock.phase("check"):
            listing = read_listing(data, chosen.columns)
        folder = Path(out).expanduser() if out else _free_folder(data, backbone, facts)
        writer = RunWriter(folder, facts, force=force)
        with clock.phase("check"):
            checked, report = check_listing(listing, bad_images=chosen.bad_images, cache=kept)
            dataset, splits = split_dataset(
                checked, seed=chosen.seed, test=chosen.test, val=chosen.val
            )
        with clock.phase("extract"):
            source.features(dataset.examples)
        with clock.phase("fit"):
            fitted = STRATEGIES[chosen.strategy]().fit(source, dataset, seed=chosen.seed)
        with clock.phase("evaluate"):
            probabilities, evaluation = _test(fitted, dataset, chosen.seed)
        result = RunResult(
            run=folder,
            strategy=chosen.strategy,
            backbone=backbone.preset.name,
            labels=dataset.labels,
            n_train=len(dataset.of("train", "val")),
            n_val=len(dataset.of("val")),
            n_test=evaluation.n,
            evaluation=evaluation,
            seconds=clock.seconds,
            bad_files=report.bad_files,
            notes=tuple(notes),
        )
        _write_run(writer, result, dataset, fitted, probabilities, report, splits, source)
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
            Where the data has none, the split that the run gave each image counts.
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
    with clock.phase("check"), FeatureStore(store or default_store_folder()) as cache:
        listing = read_listing(data, _columns(columns))
        dataset, report = check_listing(
            listing, bad_images=bad_images, cache=cache, for_training=False
        )
    examples, notes = _examples_to_score(loaded, dataset, split)
    for note in notes:
        _log.warning(note)
    with clock.phase("extract"):
        predictor = loaded.predictor(engine)
        probabilities = _probabilities(predictor, loaded.canvas_size, examples)
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
        labels=loaded.labels,
        n_train=facts["n_train"],
        n_val=facts["n_val"],
        n_test=evaluation.n,
        evaluation=evaluation,
        seconds=clock.seconds,
        bad_files=report.bad_files,
        notes=tuple(notes),
    )


def predict(
    run: str | Path,
    paths: Sequence[str | Path],
    *,
    top_k: int = 3,
    engine: str = "auto",
) -> tuple[list[Prediction], list[BadFile]]:
    """The likeliest classes of new images.

    Args:
        run: a finished run folder.
        paths: files, folders (searched in full) and patterns such as `*.jpg`.
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
    files, bad = image_files(paths)
    predictor = loaded.predictor(engine)
    predictions = []
    readers = [lambda f=file: _bytes_of(f) for file in files]
    with progress("predicting", len(files)) as advance:
        for batch in canvas_batches(readers, loaded.canvas_size):
            bad.extend(BadFile(str(files[row]), why) for row, why in batch.unreadable.items())
            kept = [i for i, row in enumerate(batch.rows) if row not in batch.unreadable]
            if kept:
                rows = [batch.rows[i] for i in kept]
                for row, probabilities in zip(rows, predictor(batch.pixels[kept]), strict=True):
                    best = np.argsort(-probabilities, kind="stable")[:top_k]
                    top = tuple((loaded.labels[i], float(probabilities[i])) for i in best)
                    predictions.append(Prediction(str(files[row]), top))
            advance(len(batch.rows))
    for file in bad:
        _log.warning("%s: %s", file.file, file.reason)
    return predictions, bad


def _columns(given: dict[str, str | None]) -> TableColumns:
    """The columns of a table, from arguments named as in `AdaptSettings`."""
    known = [f"{f.name}_column" for f in fields(TableColumns)]
    for name in given:
        if name not in known:
            raise TltoolError(f"Unknown argument {name!r}: {nearest(name, known)}")
    return TableColumns(**{name.removesuffix("_column"): value for name, value in given.items()})


def _settings(given: dict[str, Any]) -> AdaptSettings:
    known = [f.name for f in fields(AdaptSettings)]
    for name in given:
        if name not in known:
            raise TltoolError(f"adapt() has no setting {name!r}: {nearest(name, known)}")
    return AdaptSettings(**given)


def _choose_backbone(settings: AdaptSettings, notes: list[str]) -> Backbone:
    """The backbone asked for, or the best whose weights can be had; says so in `notes`."""
    if settings.backbone is not None:
        if settings.weights == "none":
            notes.append("The weights are random: figures show what the network's shape is worth.")
        return Backbone(settings.backbone, settings.weights, settings.seed)
    if settings.weights not in (None, "imagenet"):
        raise TltoolError(
            f"--weights {settings.weights} needs --backbone to say for which network: one of "
            f"{', '.join(backbone_names())}."
        )
    for name in _PREFERRED_BACKBONES:
        try:
            return Backbone(name)
        except WeightsMissingError as error:
            _log.debug("%s", error)
    notes.append(
        f"No ImageNet weights could be had, so the embedded {_EMBEDDED_BACKBONE} was taken; it "
        "suits images of about 32 pixels, and larger photos lose most of their detail. Put the "
        f"weights of {_PREFERRED_BACKBONES[0]} into a folder named by TLTOOL_WEIGHTS for better "
        "figures."
    )
    return Backbone(_EMBEDDED_BACKBONE)


def _settings_facts(
    data: str | Path, settings: AdaptSettings, source: FeatureSource
) -> dict[str, Any]:
    """All that the outcome follows from; two runs with equal facts are the same run."""
    return asdict(settings) | {
        "data": str(data),
        "backbone": source.backbone.preset.name,
        "weights": source.backbone.weights.hash,
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


def _test(fitted: FittedClassifier, dataset: Dataset, seed: int) -> tuple[np.ndarray, Evaluation]:
    examples = dataset.of("test")
    probabilities = fitted.predict_proba(examples)
    k = len(dataset.labels)
    majority = majority_class(dataset.targets(dataset.of("train", "val")), k)
    evaluation = evaluate_predictions(
        probabilities, dataset.targets(examples), majority=majority, seed=seed
    )
    return probabilities, evaluation


def _write_run(
    writer: RunWriter,
    result: RunResult,
    dataset: Dataset,
    fitted: FittedClassifier,
    probabilities: np.ndarray,
    report: CheckReport,
    splits: SplitReport,
    source: FeatureSource,
) -> None:
    """Every file of the run; the last one says that it is whole."""
    backbone = source.backbone
    height, width = backbone.canvas_size
    examples = dataset.of("test")
    writer.write_labels(dataset.labels)
    writer.write_dataset((e.name, e.label, e.split, e.hash.hex()) for e in dataset.examples)
    writer.write_predictions([(e.name, e.label) for e in examples], probabilities, dataset.labels)
    writer.write_model(fitted.build_model())
    k = len(dataset.labels)
    writer.update(
        result.as_json()
        | {
            "classes": k,
            "majority": majority_class(dataset.targets(dataset.of("train", "val")), k),
            "canvas": {"height": height, "width": width},
            "weights": {"source": backbone.weights.source, "sha256": backbone.weights.hash},
            "choices": fitted.choices,
            "check": asdict(report),
            "splits": asdict(splits),
            "versions": {name: version(name) for name in _PACKAGES}
            | {"python": platform.python_version()},
        }
    )
    writer.write_report(
        render_report(
            _report_content(result, dataset, fitted, probabilities, report, splits, source)
        )
    )
    writer.finish()


def _report_content(
    result: RunResult,
    dataset: Dataset,
    fitted: FittedClassifier,
    probabilities: np.ndarray,
    report: CheckReport,
    splits: SplitReport,
    source: FeatureSource,
) -> ReportContent:
    predicted = probabilities.argmax(axis=1)
    mistakes = [
        Mistake(e.path, e.name, e.label, dataset.labels[p], float(row[p]))
        for e, p, row in zip(dataset.of("test"), predicted, probabilities, strict=True)
        if dataset.labels[p] != e.label
    ]
    preset, weights = source.backbone.preset, source.backbone.weights
    choices = {k: v for k, v in fitted.choices.items() if k != "cross_validation"}
    settings = [
        ("Strategy", result.strategy),
        *((name[:1].upper() + name[1:], str(value)) for name, value in choices.items()),
        ("Backbone", f"{preset.title}, {preset.parameters:,} parameters, {preset.licence}"),
        ("Weights", f"{preset.weights_source if weights.path else 'random'}; {weights.source}"),
        ("Weights SHA-256", weights.hash),
        ("Source", preset.citation),
        ("Fitted on", f"{result.n_train:,} images, {result.n_val:,} of them validation images"),
        ("Engine", f"{source.engine}, {source.precision}"),
        *((f"Seconds to {name}", f"{s:.1f}") for name, s in result.seconds.items()),
        *((name, version(name)) for name in _PACKAGES),
    ]
    run = shlex.quote(str(result.run))
    return ReportContent(
        title=f"{Path(report.source).name or report.source}: {preset.title}, {result.strategy}",
        summary=[
            ("Data", report.source),
            ("Images", f"{report.n_images:,}"),
            ("Classes", str(len(dataset.labels))),
            ("Run", str(result.run)),
        ],
        warnings=result.notes,
        labels=dataset.labels,
        evaluation=result.evaluation,
        check=report,
        splits=splits,
        mistakes=mistakes,
        settings=settings,
        commands=[
            f"tltool predict {run} PHOTO.jpg",
            f"tltool evaluate {run} {shlex.quote(report.source)} --split test",
        ],
    )


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
        split = "test" if "test" in dataset.given_splits else "all"
    if split == "all":
        examples = dataset.examples
    elif dataset.given_splits:
        examples = dataset.of(split)
    else:
        examples = tuple(e for e in dataset.examples if of_run.get(e.hash.hex()) == split)
    if not examples:
        raise TltoolError(
            f"{dataset.source} has no image of split {split!r}; use --split all to score all of it."
        )
    fitted_on = sum(e.hash.hex() in seen for e in examples)
    notes = []
    if fitted_on:
        notes.append(
            f"{fitted_on} of these {len(examples)} images are among those the run was fitted on, "
            "so the figures flatter it; score the others with --split test."
        )
    return examples, notes


def _probabilities(
    predictor: Predictor, size: tuple[int, int], examples: Sequence[Example]
) -> np.ndarray:
    readers = [lambda e=e: _bytes_of(e.path) for e in examples]
    parts = []
    with progress("predicting", len(examples)) as advance:
        for batch in canvas_batches(readers, size):
            for row, reason in batch.unreadable.items():
                raise TltoolError(
                    f"{examples[row].path} {reason}, though it was checked; run again."
                )
            parts.append(predictor(batch.pixels))
            advance(len(batch.rows))
    return np.concatenate(parts)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"cannot be opened ({error.strerror})") from error
