"""What is kept of a training, so that it goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tltool._files import atomic_path
from tltool._validation import TltoolError, storage_error

__all__ = ["Checkpoints"]


class Checkpoints:
    """One file with the last whole epoch, replaced as a whole.

    Args:
        path: of the file, `.safetensors`.
        key: tells the training from all others.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key

    @classmethod
    def of_run(cls, folder: Path, key: str = "") -> Checkpoints:
        """Those of the training of a run in that folder."""
        return cls(folder / "training.safetensors", key)

    def keep(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Replace what was kept.

        Raises:
            TltoolError: it cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        described = {"key": self._key, "facts": json.dumps(facts)}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(self._path) as temporary:
                contiguous = {name: np.asarray(v, order="C") for name, v in arrays.items()}
                save_file(contiguous, temporary, described)
        except (OSError, SafetensorError) as error:
            raise storage_error(
                "write", self._path, error, "make room, and resume the run"
            ) from error

    def last(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """What was kept; None if nothing was.

        Raises:
            TltoolError: it is damaged, or of another training.
        """
        from safetensors import SafetensorError, safe_open

        if not self._path.exists():
            return None
        try:
            with safe_open(self._path, "np") as file:
                described = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            facts = json.loads(described["facts"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise TltoolError(
                f"{self._path} is damaged ({error}); give the command that began the run again, "
                "with --force."
            ) from error
        if described.get("key") != self._key:
            raise TltoolError(
                f"{self._path} is of a training with other images or settings; give the command "
                "that began the run again, with --force."
            )
        return arrays, facts

    def remove(self) -> None:
        """Forget it: the training is over."""
        self._path.unlink(missing_ok=True)
