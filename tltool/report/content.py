"""A run and its data -> what the report shows, and what is said of the data in words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tltool._files import counted
from tltool.data import CheckReport, Dataset, SplitReport, kinds_in_words
from tltool.features import FeatureSource
from tltool.report.confidence import confidence_charts
from tltool.report.html import Mistake, ReportContent
from tltool.results import RunResult, tried_in_words
from tltool.settings import AdaptSettings
from tltool.strategies import FittedClassifier

__all__ = ["PACKAGES", "Outcome", "findings_in_words", "report_content"]

# Those whose version may change a figure.
PACKAGES = ("tltool", "keras", "tensorflow", "numpy", "openvino", "pillow", "simplejpeg")


def findings_in_words(report: CheckReport, splits: SplitReport) -> list[str]:
    """What the checks left out or moved, a sentence each."""
    notes = list(report.notes)
    if report.ignored:
        notes.append(f"Files that are no images were left out: {kinds_in_words(report.ignored)}.")
    for what, groups in (
        ("Identical files with different labels, none of them used", report.contradictions),
        ("Identical files, kept together", report.duplicates),
        ("Near-duplicates, kept together where no split was given", report.near_duplicates),
    ):
        if groups:
            more = " ..." if len(groups[0]) > 3 else ""
            first = " = ".join(groups[0][:3]) + more
            notes.append(f"{what}: {counted(len(groups), 'group')}, the first is {first}.")
    if report.leaks:
        copies = counted(len(report.leaks), "exact copy", "exact copies")
        notes.append(f"{copies} of test or validation images left out of the earlier splits.")
    if splits.moved:
        notes.append(f"Classes given an image in a split they had none in: {_few(splits.moved)}.")
    return notes


def _few(items: Sequence[str], most: int = 5) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


@dataclass(frozen=True)
class Outcome:
    """Everything about an adaptation that its run folder tells.

    Args:
        result: what the caller gets.
        settings: what was asked for.
        dataset: with its splits.
        fitted: the classifier.
        probabilities: of the test images, `(n_test, k)`, float32.
        check: data findings.
        splits: how the splits came about.
        source: where the features came from.
    """

    result: RunResult
    settings: AdaptSettings
    dataset: Dataset
    fitted: FittedClassifier
    probabilities: np.ndarray
    check: CheckReport
    splits: SplitReport
    source: FeatureSource


def report_content(outcome: Outcome) -> ReportContent:
    """What the report of a run shows."""
    result, dataset, source = outcome.result, outcome.dataset, outcome.source
    report, splits = outcome.check, outcome.splits
    predicted = outcome.probabilities.argmax(axis=1)
    mistakes = [
        Mistake(e.path, e.name, e.label, dataset.labels[p], float(row[p]))
        for e, p, row in zip(dataset.of("test"), predicted, outcome.probabilities, strict=True)
        if dataset.labels[p] != e.label
    ]
    preset, weights = source.backbone.preset, source.backbone.weights
    origin = preset.weights
    choices = outcome.fitted.choices
    rows = [
        ("Strategy", result.strategy),
        *outcome.result.described,
        ("Backbone", f"{preset.title}, {preset.parameters:,} parameters in all"),
        ("Features", ", ".join(str(part) for part in source.backbone.parts)),
        ("Input", "{}x{} pixels".format(*source.backbone.input_size)),
        ("Views", f"{source.views.name}: {source.views.title}"),
        ("Weights", weights.source),
        *([("Weights from", f"{origin.source}; {origin.licence}")] if weights.published else []),
        ("Weights SHA-256", weights.hash),
        ("Source", preset.citation),
        ("Fitted on", f"{result.n_train:,} images, {result.n_val:,} of them validation images"),
        ("Engine", f"{source.engine}, {source.precision}"),
        *((f"Check of {f.check}", f"{f.level}: {f.text}") for f in result.findings),
        *((f"Seconds to {name}", f"{s:.1f}") for name, s in result.seconds.items()),
        *((name, version(name)) for name in PACKAGES),
    ]
    run = shlex.quote(str(result.run))
    columns = "".join(
        f" --{name}-column {shlex.quote(value)}"
        for name, value in asdict(outcome.settings.columns).items()
        if value is not None
    )
    return ReportContent(
        title=f"{Path(report.source).name or report.source}: {preset.title}, {result.strategy}",
        summary=[
            ("Data", report.source),
            ("Images", f"{report.n_images:,}"),
            ("Classes", str(len(dataset.labels))),
            ("Run", str(result.run)),
        ],
        warnings=result.warnings,
        labels=dataset.labels,
        evaluation=result.evaluation,
        check=report,
        splits=splits,
        mistakes=mistakes,
        settings=rows,
        confidence=confidence_charts(outcome.probabilities, dataset.targets(dataset.of("test"))),
        tried=tried_in_words(choices),
        history=outcome.fitted.history,
        best_epoch=choices.get("best_epoch", 0),
        commands=[
            f"tltool predict {run} PHOTO.jpg",
            f"tltool evaluate {run} {shlex.quote(report.source)} --split test{columns}",
        ],
    )
