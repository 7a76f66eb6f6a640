"""What the command line prints: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tltool._files import counted
from tltool.data import CheckReport, kinds_in_words
from tltool.features import StoreInfo
from tltool.metrics import METRIC_NAMES
from tltool.results import Prediction, RunResult

__all__ = [
    "print_check",
    "print_csv",
    "print_json",
    "print_predictions",
    "print_result",
    "print_store",
    "size_in_words",
]


def print_json(value: dict[str, Any]) -> None:
    """One JSON object."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def _print_rich(table: Any) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def print_result(result: RunResult) -> None:
    """Figures of a run as a table."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    bad = f", {len(result.bad_files)} unreadable" if result.bad_files else ""
    table.add_row("Found", f"{result.n_images:,} images of {len(result.labels)} classes{bad}")
    table.add_row("Backbone", result.backbone)
    table.add_row("Strategy", result.strategy)
    table.add_row("Fitted on", f"{result.n_train:,} images ({result.n_val:,} for validation)")
    table.add_row("Tested on", f"{result.n_test:,} images")
    for name, interval in result.evaluation.metrics.items():
        table.add_row(
            METRIC_NAMES[name].title,
            f"{interval.value:.3f}   95 % interval {interval.low:.3f} to {interval.high:.3f}",
        )
    baselines = result.evaluation.baselines
    table.add_row(
        "To compare",
        f"most frequent class {baselines['majority_class']:.3f}, chance {baselines['chance']:.3f}",
    )
    table.add_row("Seconds", ", ".join(f"{name} {s:.1f}" for name, s in result.seconds.items()))
    for note in result.notes:
        table.add_row("Note", escape(note))
    table.add_row("Run", escape(result.as_json()["run"]))
    _print_rich(table)


def print_check(report: CheckReport) -> None:
    """Findings as a table; long lists are cut."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("Images", f"{report.n_images:,} of {report.n_files:,} files can be used")
    counts = sorted(report.classes.values())
    table.add_row("Classes", f"{len(counts)}, {counts[0]:,} to {counts[-1]:,} images each")
    if report.splits:
        table.add_row("Splits", ", ".join(f"{s} {n:,}" for s, n in report.splits.items()))
    table.add_row("Sizes", "{}x{} to {}x{} pixels".format(*report.smallest, *report.largest))
    if report.ignored:
        table.add_row("Other files", escape(kinds_in_words(report.ignored)))
    table.add_row("Unreadable", str(len(report.bad_files)))
    for heading, groups in (
        ("Identical", report.duplicates),
        ("Contradictory", report.contradictions),
        ("Near-duplicates", report.near_duplicates),
    ):
        table.add_row(heading, counted(len(groups), "group"))
        for group in groups[:10]:
            table.add_row("", escape(" = ".join(group)))
        if len(groups) > 10:
            table.add_row("", f"and {len(groups) - 10} more (--json shows all)")
    if report.leaks:
        table.add_row("Copies across splits", f"{len(report.leaks)} left out of the earlier splits")
    for note in report.notes:
        table.add_row("Note", escape(note))
    _print_rich(table)


def print_predictions(predictions: Sequence[Prediction]) -> None:
    """A row an image."""
    table = Table(box=None, pad_edge=False)
    table.add_column("File", overflow="fold")
    for rank in range(len(predictions[0].top)):
        table.add_column("Predicted" if rank == 0 else f"{rank + 1}.", overflow="fold")
    for prediction in predictions:
        named = (f"{escape(label)} {p:.3f}" for label, p in prediction.top)
        table.add_row(escape(prediction.file), *named)
    _print_rich(table)


def print_csv(predictions: Sequence[Prediction]) -> None:
    """A line an image: file, then label and probability of each class shown."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    ranks = range(1, len(predictions[0].top) + 1) if predictions else range(1, 2)
    writer.writerow(["file", *(f"{what}_{r}" for r in ranks for what in ("label", "probability"))])
    for prediction in predictions:
        pairs = (value for label, p in prediction.top for value in (label, f"{p:.7g}"))
        writer.writerow([prediction.file, *pairs])


def size_in_words(n: float) -> str:
    """Bytes with a unit a person would use."""
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"


def print_store(info: StoreInfo) -> None:
    """What a store holds, a row a space."""
    table = Table("Backbone", "Tap", "Precision", "Images", "Size", "Last used", box=None)
    for space in info.spaces:
        table.add_row(
            f"{space['backbone']} ({space['weights'][:8]})",
            space["tap"],
            f"{space['precision']} {space['engine']}",
            f"{space['images']:,}",
            size_in_words(space["bytes"]),
            space["last_used"],
        )
    used, most = size_in_words(info.bytes), size_in_words(info.max_bytes)
    typer.echo(f"{info.path}: {used} of {most}, {info.inspections:,} images checked")
    _print_rich(table)
