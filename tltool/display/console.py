"""Tables, JSON, and figures in words, as the command line prints them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tltool.metrics import Interval

__all__ = [
    "interval_in_words",
    "print_columns",
    "print_json",
    "print_pairs",
    "print_rich",
    "size_in_words",
]


def print_json(value: dict[str, Any]) -> None:
    """One JSON object."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_rich(table: Any, *, whole: bool = False) -> None:
    """A table as wide as the terminal; with `whole` wider, rather than with figures cut off."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    if whole:
        wide = console.measure(table, options=console.options.update(max_width=1000)).maximum
        console.width = max(console.width, wide)
    console.print(table)


def print_pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, escape(value))
    print_rich(table)


def print_columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of names and figures, after an empty line."""
    table = Table(box=None, pad_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    typer.echo("")
    print_rich(table, whole=True)


def interval_in_words(found: Interval, digits: int) -> str:
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def size_in_words(n: float) -> str:
    """Bytes with a unit a person would use."""
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"
