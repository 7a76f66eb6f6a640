"""One progress bar for all long work: rate and time left, on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

__all__ = ["open_progress", "progress", "show_progress"]

_shown = True


def show_progress(shown: bool) -> None:
    """Turn the bars on or off for this process; they only show where standard error is a screen."""
    global _shown
    _shown = shown


@contextmanager
def open_progress() -> Iterator[TextIO]:
    """Where another library's progress may be written: standard error, or nowhere."""
    if _shown and sys.stderr.isatty():
        yield sys.stderr
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        yield nowhere


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar over `total` steps; the block calls what it is given with each number done.

    Example:
        >>> with progress("decoding", 3) as advance:
        ...     for _ in range(3):
        ...         advance(1)
    """
    if not (_shown and total and sys.stderr.isatty()):
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class RateColumn(ProgressColumn):
        """Finished steps a second."""

        def render(self, task: Task) -> Text:
            rate = task.finished_speed or task.speed
            return Text("" if rate is None else f"{rate:,.0f}/s", style="progress.data.speed")

    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(description, total=total)
        yield lambda done: bars.advance(task, done)
