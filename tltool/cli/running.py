"""How a command runs: messages, progress, errors as one sentence, Ctrl-C."""

from __future__ import annotations

import _thread
import contextlib
import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import typer

__all__ = ["explained"]

_INTERRUPTED = 130
_KEPT = "Interrupted; what was stored is kept, and the same command goes on from there."


def explained(command: Callable[..., None]) -> Callable[..., None]:
    """Errors as one sentence and exit status 1; tracebacks under --debug alone."""

    @functools.wraps(command)
    def run(**options: Any) -> None:
        from tltool._validation import TltoolError

        debug = options.get("debug", False)
        _set_up_logging(debug=debug)
        _keep_interrupts()
        try:
            _show_progress(not options.get("quiet", False))
            command(**options)
        except KeyboardInterrupt as error:
            _say(str(error) or _KEPT)
            _leave(_INTERRUPTED)
        except BrokenPipeError:  # the reader of a pipe has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except TltoolError as error:
            if debug:
                raise
            _say(f"Error: {error}")
            raise typer.Exit(1) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            if debug:
                raise
            text = " ".join(str(error).split())[:300]
            _say(f"Error: {type(error).__name__}: {text} (unforeseen; add --debug to see where).")
            raise typer.Exit(1) from None

    return run


def _keep_interrupts() -> None:
    """Ctrl-C again, where the exception that it raises is dropped on its way.

    Python drops those of some callbacks, and says so; a library may drop them without a word, so
    that the next step of progress raises it anew.
    """
    from tltool._progress import interrupt_next_step

    interrupt_next_step(False)
    sys.unraisablehook = _interrupt_again
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        with contextlib.suppress(ValueError):  # in a thread, which no signal reaches
            signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    from tltool._progress import interrupt_next_step

    interrupt_next_step(True)
    signal.default_int_handler(number, frame)


def _interrupt_again(dropped: Any) -> None:
    if dropped.exc_type is KeyboardInterrupt:
        threading.Timer(0.05, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(dropped)


def _set_up_logging(*, debug: bool) -> None:
    """The package's messages to standard error, a line each, never wrapped."""
    logger = logging.getLogger("tltool")
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)


def _show_progress(shown: bool) -> None:
    from tltool._progress import show_progress

    show_progress(shown)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _leave(status: int) -> None:
    """End at once: threads that still decode are not waited for."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
