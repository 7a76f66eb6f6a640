"""A run and its data -> what the report shows, and what is said of the data in words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tltool._files import counted
from tltool.data import CheckReport, Dataset, SplitReport, TableColumns, kinds_in_words
from tltool.features import FeatureSource
from tltool.report.confidence import confidence_charts
from tltool.report.html import Mistake, ReportContent, ReportTable
from tltool.results import TRIED, RunResult, tried_in_words
from tltool.strategies import FittedClassifier

__all__ = ["PACKAGES", "Outcome", "findings_in_words", "report_content", "run_page"]

# Those whose version may change a figure.
PACKAGES = ("tltool", "keras", "tensorflow", "numpy", "openvino", "pillow", "simplejpeg")

_OF_TRIED = (
    "choice",
    "How the classifier was chosen",
    "By cross-validation on training and validation images, never on test ones; of each classifier "
    "and transforms the best penalty. The figure of the first row is the one that it was chosen "
    "by, and flatters it: what the choice is worth stands below as the estimated accuracy, from "
    "nested cross-validation.",
)


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
        columns: of a table of images.
        dataset: with its splits.
        fitted: the classifier.
        probabilities: of the test images, `(n_test, k)`, float32.
        check: data findings.
        splits: how the splits came about.
        source: where the features came from.
    """

    result: RunResult
    columns: TableColumns
    dataset: Dataset
    fitted: FittedClassifier
    probabilities: np.ndarray
    check: CheckReport
    splits: SplitReport
    source: FeatureSource


def report_content(outcome: Outcome) -> ReportContent:
    """What the report of a run shows."""
    result, source = outcome.result, outcome.source
    preset, weights = source.backbone.preset, source.backbone.weights
    origin = preset.weights
    choices = outcome.fitted.choices
    tried = tried_in_words(choices)
    page = run_page(
        result,
        outcome.dataset,
        outcome.check,
        outcome.splits,
        outcome.probabilities,
        name=preset.title,
        columns=outcome.columns,
        settings=[
            ("Backbone", f"{preset.title}, {preset.parameters:,} parameters in all"),
            ("Features", ", ".join(str(part) for part in source.backbone.parts)),
            ("Input", "{}x{} pixels".format(*source.backbone.input_size)),
            ("Views", f"{source.views.name}: {source.views.title}"),
            ("Weights", weights.source),
            *([("Weights from", f"{origin.source}; {origin.licence}")] * weights.published),
            ("Weights SHA-256", weights.hash),
            ("Source", preset.citation),
            ("Engine", f"{source.engine}, {source.precision}"),
        ],
    )
    return replace(
        page,
        tables=[ReportTable(*_OF_TRIED, TRIED, tried, figures=2)] if len(tried) > 1 else [],
        history=outcome.fitted.history,
        best_epoch=choices.get("best_epoch", 0),
    )


def run_page(
    result: RunResult,
    dataset: Dataset,
    check: CheckReport,
    splits: SplitReport,
    probabilities: np.ndarray,
    *,
    name: str,
    settings: Sequence[tuple[str, str]],
    columns: TableColumns | None = None,
    tables: Sequence[ReportTable] = (),
) -> ReportContent:
    """What the report of any run shows.

    Args:
        result: what the caller gets.
        dataset: with its splits.
        check: data findings.
        splits: how the splits came about.
        probabilities: of the test images, `(n_test, k)`.
        name: what was adapted, as a person would say it.
        settings: pairs of name and value, beside those that every run has.
        columns: of a table of images, if they are not the usual ones.
        tables: what else there is to show.
    """
    predicted = probabilities.argmax(axis=1)
    mistakes = [
        Mistake(e.path, e.name, e.label, dataset.labels[p], float(row[p]))
        for e, p, row in zip(dataset.of("test"), predicted, probabilities, strict=True)
        if dataset.labels[p] != e.label
    ]
    run = shlex.quote(str(result.run))
    options = "".join(
        f" --{name}-column {shlex.quote(value)}"
        for name, value in asdict(columns or TableColumns()).items()
        if value is not None
    )
    return ReportContent(
        title=f"{Path(check.source).name or check.source}: {name}, {result.strategy}",
        summary=[
            ("Data", check.source),
            ("Images", f"{check.n_images:,}"),
            ("Classes", str(len(dataset.labels))),
            ("Run", str(result.run)),
        ],
        warnings=result.warnings,
        labels=dataset.labels,
        evaluation=result.evaluation,
        check=check,
        splits=splits,
        mistakes=mistakes,
        settings=[
            ("Strategy", result.strategy),
            *result.described,
            *settings,
            ("Fitted on", f"{result.n_train:,} images, {result.n_val:,} of them validation images"),
            *((f"Check of {f.check}", f"{f.level}: {f.text}") for f in result.findings),
            *((f"Seconds to {name}", f"{s:.1f}") for name, s in result.seconds.items()),
            *((name, version(name)) for name in PACKAGES),
        ],
        confidence=confidence_charts(probabilities, dataset.targets(dataset.of("test"))),
        tables=tables,
        commands=[
            f"tltool predict {run} PHOTO.jpg",
            f"tltool evaluate {run} {shlex.quote(check.source)} --split test{options}",
        ],
    )
