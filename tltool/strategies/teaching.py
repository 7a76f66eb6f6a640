"""What a network in training is told by another model, beside the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tltool._presets import Views, views
from tltool._progress import progress
from tltool.data import Example
from tltool.features import DrawnPictures
from tltool.linear.linear_head import softmax
from tltool.training import Change, Taught, TrainingPlan

__all__ = ["Teacher", "teaching"]

# Below it a probability counts as that.
_SMALLEST = 1e-7

# Pictures that a teacher is asked about at a time, where it is asked beforehand.
_AT_A_TIME = 32


class Teacher(Protocol):
    """A model that others learn from."""

    @property
    def key(self) -> str:
        """Tells it from all others."""

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Height and width in pixels of what it takes."""

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities `(m, k)`, in the order of a data set's labels, of canvases
        `(m, *canvas_size, 3)`, uint8."""


def teaching(
    teacher: Teacher,
    examples: Sequence[Example],
    shown: Views,
    size: tuple[int, int],
    plan: TrainingPlan,
    *,
    of_pixels: bool,
) -> Taught:
    """What a teacher says of the pictures that a network learns from.

    With `teacher_sees = "views"` it is asked about the very views that the network is shown, each
    on its own canvas, and about what the augmentation makes of them: a teacher that has learned its
    images by heart knows what to say of a whole image, but not of a part of it, or of two that are
    mixed. Where there are so many views and no more, and they stay as they are, it is asked about
    each once, beforehand. With "images" it is asked about whole images, once. Activations are mixed
    where there are no pixels; then what it says of them is mixed with them.

    Args:
        teacher: the model.
        examples: images that are learned from.
        shown: the views of them that the network is shown.
        size: height and width of its input.
        plan: what the teacher sees, and the temperature of what it says.
        of_pixels: whether a batch's inputs are pixels, rather than activations.

    Source: Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", 2022,
    https://arxiv.org/abs/2106.05237
    """
    if plan.teacher_sees == "images":
        shown = views("1")
    pictures = DrawnPictures(examples, shown, teacher.canvas_size)
    changed = of_pixels and bool(plan.augment) and plan.teacher_sees == "views"
    if pictures.n_views and not changed:
        return _Beforehand.asked(teacher, pictures, len(examples), plan.teacher_temperature)
    same = of_pixels and teacher.canvas_size == size
    return _Asked(teacher, pictures, plan.teacher_temperature, same, changed)


@dataclass(frozen=True)
class _Asked:
    """A teacher that is asked about each batch; see `tltool.training.Taught`.

    Args:
        teacher: the model.
        pictures: the same views on its canvas.
        warm: the temperature.
        same: whether the network is shown the very pixels that it would be.
        of_changed: see `Taught`.
    """

    teacher: Teacher
    pictures: DrawnPictures
    warm: float
    same: bool
    of_changed: bool

    def __call__(
        self, rows: np.ndarray, views: np.ndarray, inputs: np.ndarray, change: Change | None
    ) -> np.ndarray:
        """See `Taught`."""
        if not self.same:
            inputs = self.pictures.take(rows, views)
            inputs = inputs if change is None else change(inputs)
        return _softened(self.teacher(_as_pixels(inputs)), self.warm)


@dataclass(frozen=True)
class _Beforehand:
    """What a teacher has said of all views; see `tltool.training.Taught`.

    Args:
        known: `(n, n_views, k)`.
    """

    known: np.ndarray
    of_changed = False

    @classmethod
    def asked(cls, teacher: Teacher, pictures: DrawnPictures, n: int, warm: float) -> _Beforehand:
        """About all views of `n` images."""
        count = pictures.n_views
        images, numbers = (found.ravel() for found in np.divmod(np.arange(n * count), count))
        parts = []
        with progress("asking the teacher", n * count) as advance:
            for start in range(0, n * count, _AT_A_TIME):
                part = slice(start, start + _AT_A_TIME)
                said = teacher(pictures.take(images[part], numbers[part]))
                parts.append(_softened(said, warm))
                advance(len(said))
        return cls(np.concatenate(parts).reshape(n, count, -1))

    def __call__(
        self, rows: np.ndarray, views: np.ndarray, inputs: np.ndarray, change: Change | None
    ) -> np.ndarray:
        """See `Taught`."""
        return np.asarray(self.known[rows, views % self.known.shape[1]])


def _as_pixels(inputs: np.ndarray) -> np.ndarray:
    """uint8, of pixels that an augmentation may have left between two of them."""
    return inputs if inputs.dtype == np.uint8 else np.rint(inputs.clip(0, 255)).astype(np.uint8)


def _softened(probabilities: np.ndarray, warm: float) -> np.ndarray:
    """At a temperature, `(m, k)`, float32."""
    scores = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST))
    return softmax(scores / warm).astype(np.float32)
