"""What is printed of data sets, stored features and labels in doubt."""

from __future__ import annotations

import re

import typer
from rich.markup import escape
from rich.table import Table

from tltool._files import counted
from tltool.data import CheckReport, kinds_in_words
from tltool.display.console import print_rich, size_in_words
from tltool.features import StoreInfo
from tltool.gallery import Extraction, Neighbours
from tltool.label_checking import LabelCheck

__all__ = [
    "print_check",
    "print_extraction",
    "print_label_check",
    "print_neighbours",
    "print_store",
]


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
    print_rich(table)


def print_label_check(found: LabelCheck) -> None:
    """The most doubtful labels."""
    shown = found.doubted[:20]
    typer.echo(
        f"{len(found.doubted)} of {found.images:,} labels are in doubt; the features of "
        f"{found.backbone} tell {found.accuracy:.1%} of them."
    )
    if shown:
        table = Table(box=None, pad_edge=False)
        table.add_column("File", overflow="fold")
        table.add_column("Labelled", overflow="fold")
        table.add_column("Looks like", overflow="fold")
        table.add_column("Probability", justify="right")
        for one in shown:
            row = (one.file, one.given, one.suggested)
            table.add_row(*(escape(text) for text in row), f"{one.probability:.3f}")
        print_rich(table)
    if len(found.doubted) > len(shown):
        typer.echo(f"and {len(found.doubted) - len(shown)} more")
    typer.echo(f"Page: {found.page}")
    typer.echo(f"Corrections: fill the column correction of {found.corrections}, or use the page.")


def print_extraction(done: Extraction) -> None:
    """What was written, and of what."""
    taps = ", ".join(f"{name} ({width:,})" for name, width in done.taps.items())
    typer.echo(f"{done.as_json()['out']}: {counted(done.n_images, 'image')}, {taps}")
    bad = f"; {len(done.bad_files)} unreadable files left out" if done.bad_files else ""
    typer.echo(
        f"{done.backbone}, views {done.views}; {done.computed:,} computed, "
        f"{done.n_images - done.computed:,} stored before or copies{bad}"
    )


def print_neighbours(found: Neighbours) -> None:
    """A row an image, the nearest first."""
    table = Table(box=None, pad_edge=False)
    for heading in ("Distance", "Label", "Split", "File"):
        table.add_column(heading, overflow="fold")
    for one in found.neighbours:
        table.add_row(f"{one.distance:.3f}", escape(one.label), one.split, escape(one.file))
    print_rich(table)
    typer.echo(
        f"\nOf {found.searched:,} images, by features: {found.features}; "
        f"{found.as_json()['sheet']} shows them."
    )


def print_store(info: StoreInfo) -> None:
    """What a store holds, a row a space."""
    headings = ("Backbone", "Tap", "Views", "Canvas", "Precision", "Images", "Size", "Last used")
    table = Table(*headings, box=None)
    for space in info.spaces:
        table.add_row(
            f"{space['backbone']} ({space['weights'][:8]})",
            space["tap"],
            space["views"],
            "".join(re.findall(r"\d+x\d+", space["canvas"])),
            f"{space['precision']} {space['engine']}",
            f"{space['images']:,}",
            size_in_words(space["bytes"]),
            space["last_used"],
        )
    used, most = size_in_words(info.bytes), size_in_words(info.max_bytes)
    typer.echo(f"{info.path}: {used} of {most}, {info.inspections:,} images checked")
    print_rich(table)
