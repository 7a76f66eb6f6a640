"""A training in a run folder: kept so that it goes on, and told while it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tltool.training.checkpoints import Checkpoints

__all__ = ["Told", "TrainingRecord"]


Told = Callable[[Sequence[Mapping[str, Any]]], None]
"""Is given all epochs so far, a mapping each."""


@dataclass(frozen=True)
class TrainingRecord:
    """Where a training is kept, and who hears of it.

    Args:
        folder: of the run.
        told: whenever an epoch is finished, and at the start where it goes on.
    """

    folder: Path
    told: Told

    def checkpoints(self, key: str) -> Checkpoints:
        """What is kept of it; the key tells it from all other trainings."""
        return Checkpoints.of_run(self.folder, key)
