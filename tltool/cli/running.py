"""How a command runs: messages, progress, errors as one sentence, Ctrl-C."""

from __future__ import annotations

import _thread
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import typer

__all__ = ["explained"]

_INTERRUPTED = 130


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
        except KeyboardInterrupt:
            _say("Interrupted; what was stored is kept, and the same command goes on from there.")
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
    """Ctrl-C again, where it fell into a callback whose exceptions Python drops."""
    sys.unraisablehook = _interrupt_again


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
