"""From a folder of photos to a run folder: check, split, extract, fit, evaluate, report."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tltool._clock import Clock
from tltool._files import counted, printable, sha256_of
from tltool._validation import TltoolError
from tltool.advising import settle
from tltool.backbones import Backbone
from tltool.data import (
    BadFile,
    CheckReport,
    Dataset,
    SplitReport,
    TableColumns,
    check_listing,
    read_corrections,
    read_listing,
    split_dataset,
)
from tltool.doctor import Finding, examine, examine_probabilities
from tltool.evaluation import Interval, Judged, evaluate_predictions, judge, majority_class
from tltool.features import FeatureSource, FeatureStore, feature_space
from tltool.linear.linear_head import softmax
from tltool.report import PACKAGES, findings_in_words
from tltool.reporting import finish_report
from tltool.results import RunResult
from tltool.runs import RUNS, Run, RunWriter, free_folder, refuse_unwritable
from tltool.settings import AUTO, AdaptSettings
from tltool.strategies import FittedClassifier
from tltool.teachers import teacher_of
from tltool.training import Checkpoints, TrainingRecord
from tltool.training.tensorboard import TensorBoardLog

__all__ = [
    "Settled",
    "absolute",
    "adapt",
    "check",
    "finish_run",
    "images_in",
    "result_of",
    "resume",
    "versions",
]

_log = logging.getLogger(__name__)


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
        listing = read_listing(data, TableColumns.named(columns))
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
        **settings: see `AdaptSettings`. Where no strategy and no recipe that has one is named, or
            with the backbone "auto", what `advise` tells of the images decides, test images left
            out.

    Returns:
        The figures on the test split, and where the run is.

    Raises:
        TltoolError: in one sentence, what is wrong and what to do.

    Example:
        >>> result = tltool.adapt("photos", backbone="resnet50")
        >>> result.evaluation.metrics["accuracy"]
        Interval(value=0.93, low=0.9, high=0.95)
    """
    any_backbone = settings.get("backbone") == AUTO
    if any_backbone:
        settings["backbone"] = None
    if settings.get("strategy") is None:
        settings["strategy"] = AUTO
    chosen = AdaptSettings.checked("adapt", settings)
    if any_backbone and chosen.backbone is not None:
        brings = f"--recipe {chosen.recipe}" if chosen.recipe else f"--strategy {chosen.strategy}"
        raise TltoolError(
            f"{brings} brings its own network, {chosen.backbone}; leave --backbone auto out."
        )
    place = _Place(data, None if out is None else Path(out).expanduser(), store, force)
    return _adapted(place, chosen, any_backbone=any_backbone)


@dataclass(frozen=True)
class _Place:
    """Where a run's images are, and where they were when it was begun; where it is written."""

    data: str | Path
    out: Path | None
    store: str | Path | None
    force: bool = False
    moved_from: str | None = None

    @property
    def named(self) -> str:
        """The data set as the run's settings name it, wherever its images are by now."""
        return printable(self.moved_from or absolute(self.data))


def _adapted(
    place: _Place,
    chosen: AdaptSettings,
    *,
    any_backbone: bool = False,
    advice: Mapping[str, Any] | None = None,
) -> RunResult:
    """A run; with the advice that its settings follow from, where there was some before."""
    clock = Clock()
    if place.out is None:
        refuse_unwritable(RUNS)
    else:
        RunWriter.check_folder(place.out, None, force=place.force)
    with clock.phase("check"):
        listing = chosen.listing(place.data)
    warnings: list[str] = []
    if not any_backbone:
        backbone = chosen.make_backbone(warnings)  # what is wrong with it is told first
    with FeatureStore(place.store) as kept:
        with clock.phase("check"):
            dataset, report, splits = chosen.checked_images(listing, kept)
        if any_backbone or chosen.strategy == AUTO:
            with clock.phase("advise"):
                chosen, told = settle(chosen, kept, dataset, any_backbone=any_backbone)
            advice = None if told is None else told.as_json()
            backbone = chosen.make_backbone(warnings)
            warnings = list(dict.fromkeys(warnings))
        warnings += _of_corrections(chosen, dataset)
        for warning in warnings:
            _log.warning(warning)
        source = chosen.make_source(kept, backbone)
        facts = _settings_facts(place.named, chosen, source)
        folder = place.out or free_folder(place.data, backbone.preset.name, facts)
        RunWriter.check_folder(folder, facts, force=place.force)
        if chosen.teacher is not None and folder.resolve() == Path(chosen.teacher).resolve():
            raise TltoolError(f"--out {folder} is the teacher; name a new folder.")
        teacher = (
            None
            if chosen.teacher is None
            else teacher_of(Run(chosen.teacher), dataset, chosen.engine)
        )
        writer = RunWriter(folder, facts, force=place.force)  # nobody else takes the folder now
        if place.force:  # what was trained before has no part in it
            Checkpoints.of_run(folder).remove()
        writer.update({"begun": _begun(place, chosen), "advice": advice})
        try:
            with clock.phase("check"):
                findings = examine(source, dataset.of("train", "val"))
            _warn(findings, warnings)
            with clock.phase("extract"):
                strategy = chosen.make_strategy(teacher)
                strategy.extract(source, dataset)
            with clock.phase("fit"):
                record = _record(writer, tensorboard=chosen.tensorboard)
                fitted = strategy.fit(source, dataset, seed=chosen.seed, record=record)
        except TltoolError:
            writer.take_back()
            raise
        warnings.extend(fitted.notes)
        result = finish_run(
            writer,
            Settled(str(chosen.strategy), chosen.seed, chosen.columns, source, advice),
            dataset,
            report,
            splits,
            fitted,
            findings,
            warnings,
            clock,
        )
        kept.trim()
    return result


@dataclass(frozen=True)
class Settled:
    """What a run follows from, once that is settled.

    Args:
        strategy: how it was adapted.
        seed: of the intervals.
        columns: of a table of images.
        source: where features came from.
        advice: that it follows, if any.
    """

    strategy: str
    seed: int
    columns: TableColumns
    source: FeatureSource
    advice: Mapping[str, Any] | None = None


def finish_run(
    writer: RunWriter,
    settled: Settled,
    dataset: Dataset,
    report: CheckReport,
    splits: SplitReport,
    fitted: FittedClassifier,
    findings: Sequence[Finding],
    warnings: list[str],
    clock: Clock,
) -> RunResult:
    """Evaluate what was fitted, and write all files of its run.

    Args:
        writer: of the run folder.
        settled: what it follows from.
        dataset: with its splits.
        report: data findings.
        splits: how the splits came about.
        fitted: the classifier.
        findings: what was found of the backbone.
        warnings: what puts the figures in doubt; more may be added.
        clock: of the phases so far.
    """
    source = settled.source
    backbone = source.backbone
    with clock.phase("evaluate"):
        fitted.features_from(source).extract(dataset.examples)
        judged = _test(fitted, source, dataset, settled.seed)
    sums = examine_probabilities(judged.probabilities)
    _warn([sums], warnings)
    result = RunResult(
        run=writer.folder,
        strategy=settled.strategy,
        backbone=backbone.preset.name,
        taps=tuple(tap.name for tap in backbone.taps),
        input_size=backbone.input_size,
        views=source.views.name,
        choices=fitted.choices,
        labels=dataset.labels,
        n_train=len(dataset.of("train", "val")),
        n_val=len(dataset.of("val")),
        n_test=judged.evaluation.n,
        n_images=report.n_images,
        evaluation=judged.evaluation,
        seconds=clock.seconds,
        bad_files=report.bad_files,
        warnings=tuple(warnings),
        notes=tuple(findings_in_words(report, splits)),
        findings=(*findings, sums),
        described=(
            *_advice_in_words(settled.advice),
            *fitted.described(),
            *judged.calibration_in_words(),
        ),
        calibration=judged.calibration_facts(),
        advice=settled.advice,
    )
    _write_run(writer, result, settled, dataset, fitted, judged.probabilities, report, splits)
    return result


def result_of(run: Run) -> RunResult:
    """What `adapt` found when it made a run.

    Raises:
        TltoolError: tables of the run are damaged.
    """
    facts, tested = run.facts, run.tested()
    evaluation = evaluate_predictions(
        tested.probabilities, tested.targets, majority=int(facts["majority"])
    )
    metrics = {name: Interval(**values) for name, values in facts["metrics"].items()}
    return RunResult(
        run=run.folder,
        strategy=facts["strategy"],
        backbone=facts["backbone"],
        taps=tuple(facts["taps"]),
        input_size=run.input_size,
        views=facts["views"],
        labels=run.labels,
        n_train=facts["n_train"],
        n_val=facts["n_val"],
        n_test=facts["n_test"],
        n_images=facts["check"]["n_images"],
        evaluation=replace(evaluation, metrics=metrics),
        seconds=facts["seconds"],
        bad_files=tuple(BadFile(**one) for one in facts["bad_files"]),
        warnings=tuple(facts["warnings"]),
        notes=tuple(facts["notes"]),
        findings=tuple(Finding(**one) for one in facts["findings"]),
        choices=facts["choices"],
        described=tuple((name, said) for name, said in facts["described"]),
        calibration=facts["calibration"],
        advice=facts["advice"],
    )


def resume(run: str | Path, *, data: str | Path | None = None) -> RunResult:
    """Go on with a run that was interrupted: its outcome is that of an unbroken one.

    Args:
        run: its folder.
        data: its images, where they are no longer where they were.

    Returns:
        The same as `adapt`.

    Raises:
        TltoolError: it is no run, is finished, or its data cannot be read any more.

    Example:
        >>> result = tltool.resume("runs/photos-resnet50")
    """
    folder = Path(run).expanduser()
    begun = RunWriter.begun(folder)
    try:
        began, store, settings = str(begun["data"]), begun["store"], dict(begun["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise TltoolError(
            f"{folder} is a damaged run ({error}); give the command that began it again."
        ) from error
    place = _Place(data or began, folder, store, moved_from=str(begun.get("named") or began))
    chosen = AdaptSettings.checked("resume", settings)
    if data is None and not began.startswith("tfds:") and not Path(began).exists():
        raise TltoolError(
            f"The images of {folder} are no longer at {began}; say where they are now with --data."
        )
    return _adapted(place, chosen, advice=RunWriter.advised(folder))


def _of_corrections(settings: AdaptSettings, dataset: Dataset) -> list[str]:
    """What corrected labels put in doubt."""
    if settings.relabel is None:
        return []
    corrected = read_corrections(settings.relabel)
    n = sum(e.name in corrected for e in dataset.of("test"))
    if not n:
        return []
    return [
        f"Labels of {counted(n, 'test image')} were corrected; if a model suggested that, the "
        "figures flatter models like it."
    ]


def images_in(dataset: Dataset) -> str | None:
    """The folder that names of images start from; None where that cannot be told."""
    first = dataset.examples[0]
    place = str(first.path.absolute())
    return place.removesuffix(first.name) if place.endswith("/" + first.name) else None


def _begun(place: _Place, settings: AdaptSettings) -> dict[str, Any]:
    """What `adapt` was asked to do, wherever it is asked again."""
    given = asdict(settings)
    if settings.weights and Path(settings.weights).expanduser().is_file():
        given["weights"] = str(Path(settings.weights).expanduser().resolve())
    for name in ("teacher", "relabel"):
        if given[name]:
            given[name] = str(Path(given[name]).expanduser().resolve())
    return {
        "data": absolute(place.data),
        "named": place.named,
        "store": None if place.store is None else str(Path(place.store).expanduser().resolve()),
        "settings": given,
    }


def _record(writer: RunWriter, *, tensorboard: bool) -> TrainingRecord:
    """Where a training is kept; `history.csv` grows with it, and what TensorBoard reads."""
    board = TensorBoardLog(writer.folder / "tensorboard") if tensorboard else None

    def told(history: Sequence[Mapping[str, Any]]) -> None:
        writer.write_history(history)
        if board is not None:
            board.tell(history)

    return TrainingRecord(writer.folder, told)


def absolute(data: str | Path) -> str:
    """A data set's name or path, the same from any folder."""
    return str(data) if str(data).startswith("tfds:") else str(Path(data).expanduser().resolve())


def _advice_in_words(advice: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    return [] if advice is None else [("Advised because", " ".join(advice["reasons"]))]


def _warn(findings: Iterable[Finding], warnings: list[str]) -> None:
    """Say what is wrong, at once and in the report."""
    for finding in findings:
        if finding.level == "warning":
            _log.warning(finding.text)
            warnings.append(finding.text)


def _settings_facts(named: str, settings: AdaptSettings, source: FeatureSource) -> dict[str, Any]:
    """All that the outcome follows from; two runs with equal facts are the same run."""
    teacher = None if settings.teacher is None else Run(settings.teacher).key
    relabel = settings.relabel and sha256_of(Path(settings.relabel).expanduser()).hex()
    return asdict(settings) | {
        "teacher": teacher,
        "relabel": relabel,
        "data": named,
        "backbone": source.backbone.preset.name,
        "weights": source.backbone.weights.hash,
        "tap": [str(part) for part in source.backbone.parts],
        "input_size": list(source.backbone.input_size),
        "engine": source.engine,
    }


def _test(fitted: FittedClassifier, source: FeatureSource, dataset: Dataset, seed: int) -> Judged:
    """What is said of the test images, and its figures."""
    examples = dataset.of("test")
    majority = majority_class(dataset.targets(dataset.of("train", "val")), len(dataset.labels))
    return judge(
        fitted.scores(source, examples),
        dataset.targets(examples),
        fitted.calibration,
        majority=majority,
        seed=seed,
    )


def versions() -> dict[str, str]:
    """What a figure may depend on, and which it is."""
    return {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}


def _write_run(
    writer: RunWriter,
    result: RunResult,
    settled: Settled,
    dataset: Dataset,
    fitted: FittedClassifier,
    probabilities: np.ndarray,
    report: CheckReport,
    splits: SplitReport,
) -> None:
    """Every file of the run; the last one says that it is whole."""
    source = settled.source
    backbone = source.backbone
    shown = fitted.features_from(source)
    height, width = shown.canvas_size
    held_out = fitted.held_out
    told = None if held_out is None else (held_out.examples, softmax(held_out.scores))
    writer.write_images(dataset, probabilities, told)
    model = fitted.build_model(source)
    writer.write_model(model)
    writer.write_history(fitted.history)
    writer.update(
        result.as_json()
        | {
            "classes": len(dataset.labels),
            "majority": result.evaluation.majority,
            "canvas": {"height": height, "width": width, "views": shown.views.count},
            "features": {str(part): asdict(feature_space(shown, part)) for part in backbone.parts},
            "weights": {"source": backbone.weights.source, "sha256": backbone.weights.hash},
            "check": asdict(report),
            "splits": asdict(splits),
            "versions": versions(),
            "images_in": images_in(dataset),
        }
    )
    writer.update(finish_report(Run(writer.folder, unfinished=True), model))
    writer.finish()
    Checkpoints.of_run(writer.folder).remove()
