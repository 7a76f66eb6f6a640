"""The report of a run: one HTML file that fetches nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from tltool.data import (
    BadFile,
    CheckReport,
    SplitReport,
    kinds_in_words,
)
from tltool.evaluation import Evaluation
from tltool.metrics import METRIC_NAMES, wilson_interval
from tltool.report.confidence import ConfidenceCharts
from tltool.report.curves import training_charts
from tltool.report.thumbnails import data_address, thumbnail

__all__ = ["Mistake", "ReportContent", "ReportTable", "render_report"]

_MOST_MISTAKES = 24
_MOST_CONFUSIONS = 15
_MOST_LISTED = 50


@dataclass(frozen=True)
class Mistake:
    """A test image that was named wrong."""

    path: Path
    name: str
    true: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class ReportTable:
    """A table of its own.

    Args:
        anchor: a name for links to it.
        title: above it.
        note: what is to be known of it; plain text.
        headings: of its columns.
        rows: texts.
        figures: how many of the last columns hold figures.
    """

    anchor: str
    title: str
    note: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: int = 0


@dataclass(frozen=True)
class ReportContent:
    """What a report shows.

    Args:
        title: of the page.
        summary: pairs of a heading and a value, both plain text.
        warnings: sentences to put on top.
        labels: the classes.
        evaluation: figures on the test split.
        check: data findings.
        splits: how the splits came about.
        mistakes: all of them; the most confident ones are shown.
        settings: pairs of name and value.
        commands: what to type next.
        history: of a training, a mapping an epoch.
        best_epoch: the one that was kept, from 1.
        confidence: probabilities against what is right; None where they are not known.
        tables: what else there is to show.
    """

    title: str
    summary: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    labels: Sequence[str]
    evaluation: Evaluation
    check: CheckReport
    splits: SplitReport
    mistakes: Sequence[Mistake]
    settings: Sequence[tuple[str, str]]
    commands: Sequence[str]
    confidence: ConfidenceCharts | None = None
    tables: Sequence[ReportTable] = ()
    history: Sequence[Mapping[str, Any]] = ()
    best_epoch: int = 0


def render_report(content: ReportContent) -> str:
    """The page. Everything that comes from file or class names is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tltool.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    worst = sorted(content.mistakes, key=lambda m: -m.probability)[:_MOST_MISTAKES]
    return environment.get_template("report.html.j2").render(
        content=content,
        metrics=[
            (METRIC_NAMES[name], interval) for name, interval in content.evaluation.metrics.items()
        ],
        classes=_class_rows(content),
        confusions=_largest_confusions(content),
        cells=_confusion_cells(content),
        mistakes=[(m, data_address(thumbnail(m.path))) for m in worst],
        findings=_findings(content.check),
        curves=training_charts(content.history, content.best_epoch),
        most_listed=_MOST_LISTED,
        ignored=kinds_in_words(content.check.ignored),
    )


def _class_rows(content: ReportContent) -> list[dict[str, Any]]:
    """Per class: images, recall with its interval, precision; the worst class first."""
    confusion = content.evaluation.confusion
    rows = []
    for i, label in enumerate(content.labels):
        n, hits, named = int(confusion[i].sum()), int(confusion[i, i]), int(confusion[:, i].sum())
        low, high = wilson_interval(hits, n) if n else (0.0, 1.0)
        rows.append(
            {
                "label": label,
                "images": content.check.classes.get(label, 0),
                "n": n,
                "recall": hits / n if n else None,
                "low": low,
                "high": high,
                "precision": hits / named if named else None,
            }
        )
    return sorted(rows, key=lambda row: (row["recall"] is None, row["recall"], row["label"]))


def _largest_confusions(content: ReportContent) -> list[tuple[str, str, int, int]]:
    """(true, predicted, times, test images of the true class), the most frequent first."""
    confusion = content.evaluation.confusion
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSIONS]
    pairs = [divmod(int(i), len(confusion)) for i in order]
    return [
        (content.labels[t], content.labels[p], int(wrong[t, p]), int(confusion[t].sum()))
        for t, p in pairs
        if wrong[t, p]
    ]


def _confusion_cells(content: ReportContent) -> list[dict[str, Any]]:
    """The matrix's cells that are not zero, with the share of their row."""
    confusion = content.evaluation.confusion
    totals = np.maximum(confusion.sum(axis=1), 1)
    return [
        {
            "row": int(t),
            "column": int(p),
            "count": int(confusion[t, p]),
            "share": float(confusion[t, p] / totals[t]),
            "right": bool(t == p),
        }
        for t, p in np.argwhere(confusion)
    ]


def _findings(check: CheckReport) -> list[tuple[str, int, list[str]]]:
    """(what was found, how many, the first of them)."""
    kinds: list[tuple[str, Sequence[Any]]] = [
        ("Files that could not be used", check.bad_files),
        ("Identical files with different labels (none of them is used)", check.contradictions),
        ("Exact copies of test or validation images (left out of training)", check.leaks),
        ("Identical files", check.duplicates),
        ("Near-duplicates (kept together in one split)", check.near_duplicates),
    ]
    return [
        (text, len(found), [_in_words(item) for item in found[:_MOST_LISTED]])
        for text, found in kinds
        if found
    ]


def _in_words(item: BadFile | tuple[str, ...] | str) -> str:
    if isinstance(item, BadFile):
        return f"{item.file}: {item.reason}"
    return item if isinstance(item, str) else " = ".join(item)
