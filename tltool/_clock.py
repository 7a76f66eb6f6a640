"""How long each phase of a run took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Clock"]


@dataclass
class Clock:
    """Seconds spent in each phase: those of every run, and any other that there was."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("check", "extract", "fit", "evaluate"), 0.0)
    )

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add what the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
