"""What is printed of runs and of what they predict."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence

import typer
from rich.markup import escape
from rich.table import Table

from tltool._files import counted
from tltool._presets import views
from tltool.comparing import Comparison
from tltool.display.console import interval_in_words, print_rich
from tltool.ensembles import EnsembleResult
from tltool.metrics import METRIC_NAMES
from tltool.results import TRIED, Prediction, RunResult, tried_in_words

__all__ = ["print_comparison", "print_csv", "print_ensemble", "print_predictions", "print_result"]


def print_result(result: RunResult) -> None:
    """Figures of a run as a table."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    bad = f", {len(result.bad_files)} unreadable" if result.bad_files else ""
    table.add_row("Found", f"{result.n_images:,} images of {len(result.labels)} classes{bad}")
    size = "{}x{} pixels".format(*result.input_size)
    table.add_row("Backbone", ", ".join((result.backbone, *result.taps, size)))
    if result.views != "1":
        table.add_row("Views", f"{result.views}: {views(result.views).title}")
    table.add_row("Strategy", result.strategy)
    for name, value in result.described:
        table.add_row(name, value)
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
    print_rich(table)
    tried = tried_in_words(result.choices)
    if len(tried) > 1:
        typer.echo("")
        _print_tried(tried)


def _print_tried(tried: Sequence[tuple[str, ...]]) -> None:
    """The best value of each classifier and transforms, the most accurate first."""
    table = Table(box=None, pad_edge=False)
    for heading in TRIED:
        table.add_column(
            heading, justify="right" if heading in TRIED[-2:] else "left", no_wrap=True
        )
    for row in tried:
        table.add_row(*row)
    print_rich(table)


def print_comparison(found: Comparison) -> None:
    """Figures of each run, and what can be said of the best one against the others."""
    table = Table(box=None, pad_edge=False)
    table.add_column("Run", overflow="fold")
    table.add_column("Strategy", no_wrap=True)
    table.add_column("Backbone", no_wrap=True)
    for heading in ("Accuracy", "95 % interval", "Log loss", "Calibration error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found.runs:
        figures = one.evaluation.metrics
        accuracy = figures["accuracy"]
        table.add_row(
            escape(one.run),
            one.strategy,
            one.backbone,
            f"{accuracy.value:.3f}",
            f"{accuracy.low:.3f} to {accuracy.high:.3f}",
            f"{figures['log_loss'].value:.3f}",
            f"{figures['expected_calibration_error'].value:.3f}",
        )
    print_rich(table, whole=True)
    corrected = " (p corrected for all pairs)" if len(found.runs) > 2 else ""
    typer.echo(f"\nOn {counted(found.n, 'test image')} that they have in common{corrected}:")
    for pair in found.pairs:
        typer.echo(f"- {pair.in_words()}")
        typer.echo(
            f"  difference in accuracy {interval_in_words(pair.accuracy, 3)}, in log loss "
            f"{interval_in_words(pair.log_loss, 3)}"
        )
    for note in found.notes:
        typer.echo(note)


def print_ensemble(found: EnsembleResult) -> None:
    """Figures as of any run, its members, and how it compares with them."""
    print_result(found.result)
    table = Table(box=None, pad_edge=False)
    table.add_column("Member", overflow="fold")
    for heading in ("Strategy", "Backbone"):
        table.add_column(heading, no_wrap=True)
    for heading in ("Weight", "Accuracy", "Log loss"):
        table.add_column(heading, justify="right", no_wrap=True)
    for m in found.members:
        figures = ("" if value is None else f"{value:.3f}" for value in (m.accuracy, m.log_loss))
        table.add_row(escape(m.run), m.strategy, m.backbone, f"{m.weight:.2f}", *figures)
    typer.echo("\nOn the images that members were weighed by:")
    print_rich(table, whole=True)
    if found.growth is not None:
        grown = found.growth
        memory = (
            ""
            if grown.peak_memory is None
            else f"; the largest took {grown.peak_memory / 1e9:.1f} GB"
        )
        typer.echo(f"{grown.trained} trained, {grown.at_a_time} at a time{memory}")
    if found.student is not None:
        typer.echo(f"Its student: {found.student.as_json()['run']}")
    typer.echo("\nAgainst its members:" if found.student is None else "\nAll of them:")
    print_comparison(found.comparison)


def print_predictions(predictions: Sequence[Prediction]) -> None:
    """A row an image."""
    table = Table(box=None, pad_edge=False)
    table.add_column("File", overflow="fold")
    for rank in range(len(predictions[0].top)):
        table.add_column("Predicted" if rank == 0 else f"{rank + 1}.", overflow="fold")
    for prediction in predictions:
        first, *others = (f"{escape(label)} {p:.3f}" for label, p in prediction.top)
        first = f"unsure ({first})" if prediction.unsure else first
        table.add_row(escape(prediction.file), first, *others)
    print_rich(table)


def print_csv(predictions: Sequence[Prediction], *, answers: bool = False) -> None:
    """A line an image: file, label and probability of each class shown; and the answer."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    ranks = range(1, len(predictions[0].top) + 1) if predictions else range(1, 2)
    shown = (f"{what}_{r}" for r in ranks for what in ("label", "probability"))
    writer.writerow(["file", *shown, *(["answer"] if answers else [])])
    for prediction in predictions:
        pairs = (value for label, p in prediction.top for value in (label, f"{p:.7g}"))
        writer.writerow([prediction.file, *pairs, *([prediction.answer] if answers else [])])
