"""What a network in training is told by another model, beside the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from tltool._presets import Views, views
from tltool._progress import progress
from tltool.data import Example
from tltool.features import DrawnPictures
from tltool.linear.linear_head import softmax
from tltool.training import Taught, TrainingPlan

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
    on its own canvas: a teacher that has learned its images by heart knows what to say of a whole
    image, but not of a part of it. Where there are so many views and no more, it is asked about
    each once, beforehand. With "images" it is asked about whole images, once.

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
    warm = plan.teacher_temperature
    if pictures.n_views:
        return _beforehand(teacher, pictures, len(examples), warm)
    same = of_pixels and teacher.canvas_size == size

    def said(rows: np.ndarray, views: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        return _softened(teacher(inputs if same else pictures.take(rows, views)), warm)

    return said


def _beforehand(teacher: Teacher, pictures: DrawnPictures, n: int, warm: float) -> Taught:
    """Of all views of `n` images."""
    count = pictures.n_views
    images, numbers = (found.ravel() for found in np.divmod(np.arange(n * count), count))
    parts = []
    with progress("asking the teacher", n * count) as advance:
        for start in range(0, n * count, _AT_A_TIME):
            part = slice(start, start + _AT_A_TIME)
            parts.append(_softened(teacher(pictures.take(images[part], numbers[part])), warm))
            advance(len(parts[-1]))
    known = np.concatenate(parts).reshape(n, count, -1)

    def said(rows: np.ndarray, views: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        return np.asarray(known[rows, views % count])

    return said


def _softened(probabilities: np.ndarray, warm: float) -> np.ndarray:
    """At a temperature, `(m, k)`, float32."""
    scores = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST))
    return softmax(scores / warm).astype(np.float32)
