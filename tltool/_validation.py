"""Argument checks with one wording: what was expected, what came, and what to do."""

from __future__ import annotations

import difflib
import numbers
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["TltoolError", "check_fraction", "check_int", "check_option", "nearest", "storage_error"]


class TltoolError(ValueError):
    """Something the user can put right; its text is one clear sentence with the remedy."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names closest to a mistaken one, as a phrase: "did you mean 'a' or 'b'?"."""
    known = list(known)
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    return "known: " + ", ".join(sorted(known)) + "."


def check_option(argument: str, value: str, known: Iterable[str]) -> str:
    """The value if it is one of the known names.

    Raises:
        TltoolError: it is not; the sentence offers the nearest known ones.
    """
    known = list(known)
    if value not in known:
        raise TltoolError(f"Unknown {argument} {value!r}: {nearest(str(value), known)}")
    return value


def check_fraction(argument: str, value: float, *, zero: bool) -> float:
    """The value if it is a share below 1, and above 0 unless `zero` allows that."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and (0.0 < value < 1.0 or (zero and value == 0.0))):
        wanted = "at least 0 and below 1" if zero else "above 0 and below 1"
        raise TltoolError(f"{argument} must be a fraction {wanted} (such as 0.2), got {value!r}.")
    return float(value)


def check_int(argument: str, value: int, *, low: int, high: int | None = None) -> int:
    """The value as an int, if it is a whole number from `low` to `high`."""
    whole = isinstance(value, numbers.Real) and not isinstance(value, bool) and value == value // 1
    if not whole or value < low or (high is not None and value > high):
        range_ = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise TltoolError(f"{argument} must be a whole number {range_}, got {value!r}.")
    return int(value)


def storage_error(action: str, path: Path, error: Exception, remedy: str) -> TltoolError:
    """A failed write or read (full disk, no permission) as one sentence naming the place."""
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return TltoolError(f"Could not {action} {path}: {reason}; {remedy}.")
