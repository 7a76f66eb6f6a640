"""One progress bar for all long work: rate and time left, on standard error; its interruption."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

__all__ = ["Advance", "interrupt_next_step", "open_progress", "progress", "show_progress"]

_shown = True
_interrupted = False


def show_progress(shown: bool) -> None:
    """Turn the bars on or off for this process; they only show where standard error is a screen."""
    global _shown
    _shown = shown


def interrupt_next_step(wanted: bool) -> None:
    """Raise KeyboardInterrupt with the next step of any progress, or no longer do."""
    global _interrupted
    _interrupted = wanted


@contextmanager
def open_progress() -> Iterator[TextIO]:
    """Where another library's progress may be written: standard error, or nowhere."""
    if _shown and sys.stderr.isatty():
        yield sys.stderr
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        yield nowhere


class Advance(Protocol):
    """Called with the number of steps done, and what is to be said of them."""

    def __call__(self, done: int, said: str | None = None) -> None: ...


@contextmanager
def progress(description: str, total: int, *, talks: bool = False) -> Iterator[Advance]:
    """Steps of long work, `total` of them, with a bar where there is a screen to see it.

    The block calls what it is given with each number of steps done.

    Args:
        description: what is going on, a word.
        total: number of steps.
        talks: the block has something to say of the steps, for which the bar makes room.

    Example:
        >>> with progress("decoding", 3) as advance:
        ...     for _ in range(3):
        ...         advance(1)
    """
    with _bar(description, total, talks=talks) as show:

        def advance(done: int, said: str | None = None) -> None:
            if _interrupted:
                raise KeyboardInterrupt
            show(done, said)

        yield advance


@contextmanager
def _bar(description: str, total: int, *, talks: bool) -> Iterator[Advance]:
    """What draws it; where there is no screen, or nothing to do, nothing."""
    if not (_shown and total and sys.stderr.isatty()):
        yield lambda done, said=None: None
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
        BarColumn(14 if talks else 40),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(description, total=total, said="")

        def advance(done: int, said: str | None = None) -> None:
            bars.advance(task, done)
            if said is not None:
                bars.update(task, said=said)

        yield advance
