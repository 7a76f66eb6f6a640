"""Finished runs that others learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tltool._validation import TltoolError
from tltool.data import Dataset
from tltool.predictor import Predictor
from tltool.runs import Run

__all__ = ["RunTeacher", "teacher_of"]


@dataclass(frozen=True)
class RunTeacher:
    """The model of a run as a `tltool.strategies.Teacher`.

    Args:
        key: of the run.
        predictor: its model on an engine.
        order: position of each label of a data set among those of the run.
    """

    key: str
    predictor: Predictor
    order: tuple[int, ...]

    @property
    def canvas_size(self) -> tuple[int, int]:
        """See `Teacher`."""
        return self.predictor.canvas_size

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """See `Teacher`."""
        return self.predictor(pixels)[:, self.order]


def teacher_of(run: Run, dataset: Dataset, engine: str) -> RunTeacher:
    """A run to teach a network the classes of a data set.

    Args:
        run: finished.
        dataset: with its splits.
        engine: "auto", "keras" or "openvino".

    Raises:
        TltoolError: it is of other classes, or was fitted on images to test on.
    """
    for label in {*run.labels} ^ {*dataset.labels}:
        raise TltoolError(
            f"--teacher {run.folder} and {dataset.source} have not the same classes: only one of "
            f"them has {label!r}; name a run on the same classes."
        )
    splits, tests = run.splits(), dataset.of("test")
    told = sum(splits.get(e.hash.hex()) in ("train", "val") for e in tests)
    if told:
        raise TltoolError(
            f"--teacher {run.folder} was fitted on {told} of the {len(tests)} images to test on, "
            "and would tell of them; take the same splits, with --split-seed."
        )
    order = tuple(run.labels.index(label) for label in dataset.labels)
    return RunTeacher(run.key, run.predictor(engine), order)
