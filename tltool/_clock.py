"""How long each phase of a run took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Clock"]


@dataclass
class Clock:
    """Seconds spent in each phase."""

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
            self.seconds[name] += time.perf_counter() - started
