"""Which images a step is given, drawn anew each epoch and the same again by seed."""

from __future__ import annotations

import copy
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from tltool.training.plan import TrainingPlan

_T = TypeVar("_T")

__all__ = ["Augment", "Batch", "Batches", "Change", "HeldPictures", "Pictures", "Taught", "ahead"]

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Inputs `(m, ...)`, targets `(m, k)` that sum to 1, those of a teacher beside them if there is
one, weights `(m,)`."""

Augment = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""From inputs and targets of a batch to those that are learned from; what it draws is drawn
with the generator."""

Change = Callable[[np.ndarray], np.ndarray]
"""From other pictures of a batch's images, `(m, ...)`, to these as the batch's own were changed."""

# Views that are drawn anew are numbered up to here.
_MOST_VIEWS = 2**31

# Batches that are made while the network learns from others.
_AHEAD = 2


class Taught(Protocol):
    """What a teacher says of what a network is shown."""

    @property
    def of_changed(self) -> bool:
        """Whether it is asked about pictures as the augmentation left them; otherwise about those
        before, and its answers are mixed as these are."""

    def __call__(
        self, rows: np.ndarray, views: np.ndarray, inputs: np.ndarray, change: Change | None
    ) -> np.ndarray:
        """What it says, `(m, k)`, float32.

        Args:
            rows: positions of the images, `(m,)`.
            views: numbers of their views, `(m,)`.
            inputs: that show them, changed if it is asked about such.
            change: what was done to them; None for nothing.
        """


class Pictures(Protocol):
    """What a network is shown of images: pixels, activations or features."""

    @property
    def n_views(self) -> int:
        """How many views there are of each; 0 if as many as there are numbers."""

    @property
    def at_hand(self) -> bool:
        """Whether to take some is quick."""

    def take(self, rows: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Views of these numbers of images at these positions, `(m, ...)`."""


@dataclass(frozen=True)
class HeldPictures:
    """Those in memory.

    Args:
        values: `(n, n_views, ...)`.
    """

    values: np.ndarray
    at_hand = True

    @property
    def n_views(self) -> int:
        """See `Pictures`."""
        return int(self.values.shape[1])

    def take(self, rows: np.ndarray, views: np.ndarray) -> np.ndarray:
        """See `Pictures`."""
        return np.asarray(self.values[rows, views])


class _Remembered:
    """A teacher whose answers in one epoch are kept; where they are known it is not asked.

    Args:
        taught: what it says.
        answers: of whole epochs, `(n, k)`, by their numbers.
        number: of this epoch.
    """

    def __init__(self, taught: Taught, answers: dict[int, np.ndarray], number: int) -> None:
        self._taught, self._answers, self._number = taught, answers, number
        self._known = answers.get(number)
        self._parts: list[np.ndarray] = []
        self.of_changed = taught.of_changed

    def __call__(
        self, rows: np.ndarray, views: np.ndarray, inputs: np.ndarray, change: Change | None
    ) -> np.ndarray:
        """See `Taught`."""
        if self._known is None:
            said = self._taught(rows, views, inputs, change)
        else:
            told = sum(map(len, self._parts))
            said = self._known[told : told + len(rows)]
        self._parts.append(said)
        return said

    def keep(self) -> None:
        """The epoch is over."""
        self._answers[self._number] = np.concatenate(self._parts)


@dataclass(frozen=True)
class Batches:
    """Batches of images, each epoch one of several views of each image.

    Args:
        pictures: what is shown of the images.
        targets: `(n,)`, class numbers.
        n_classes: number of outputs.
        weights: of the images, 1 in the mean.
        plan: batch size and balance.
        seed: of all that is drawn.
        augment: what is done to a batch after that.
        taught: what a teacher says of what is shown; it stands beside the targets, `(m, 2 k)` in
            all. None for no teacher.
        answers: what it has said, `(n, k)` by the number of an epoch whose pictures come again.
    """

    pictures: Pictures
    targets: np.ndarray
    n_classes: int
    weights: np.ndarray
    plan: TrainingPlan
    seed: int
    augment: Augment | None = None
    taught: Taught | None = None
    answers: dict[int, np.ndarray] = field(default_factory=dict, compare=False)

    @property
    def steps(self) -> int:
        """Batches an epoch; their sizes differ by one at most, so that none is tiny."""
        return max(1, -(-len(self.targets) // self.plan.batch_size))

    @property
    def distinct_epochs(self) -> int | None:
        """After so many the first one comes again; None where none does."""
        found = -(-self.plan.distinct_pictures // len(self.targets))
        return found if 0 < found < self.plan.epochs else None

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, from 0; they follow from its number and the seed alone."""
        again = self.distinct_epochs
        made = self._made(number % again if again else number)
        quick = self.pictures.at_hand and self.augment is None
        return made if quick else ahead(made, _AHEAD)

    def _made(self, number: int) -> Iterator[Batch]:
        random = np.random.default_rng([self.seed, number])
        weights = self._image_weights().astype(np.float32)
        rows = self._rows(random)
        shown = random.integers(0, self.pictures.n_views or _MOST_VIEWS, len(rows))
        taught = self.taught
        if taught is not None and self.distinct_epochs:
            taught = _Remembered(taught, self.answers, number)
        for places in np.array_split(np.arange(len(rows)), self.steps):
            chosen = rows[places]
            inputs = self.pictures.take(chosen, shown[places])
            learned = self._learned(chosen, shown[places], inputs, taught, random)
            yield *learned, weights[chosen]
        if isinstance(taught, _Remembered):
            taught.keep()

    def _learned(
        self,
        rows: np.ndarray,
        views: np.ndarray,
        inputs: np.ndarray,
        taught: Taught | None,
        random: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets, augmented, those of a teacher among them."""
        targets = np.eye(self.n_classes, dtype=np.float32)[self.targets[rows]]
        augment = self.augment
        if augment is None or taught is None or not taught.of_changed:
            if taught is not None:
                targets = np.concatenate([targets, taught(rows, views, inputs, None)], axis=1)
            return (inputs, targets) if augment is None else augment(inputs, targets, random)
        drawn = copy.deepcopy(random)
        inputs, mixed = augment(inputs, targets, random)

        def change(others: np.ndarray) -> np.ndarray:
            return augment(others, targets, copy.deepcopy(drawn))[0]

        return inputs, np.concatenate([mixed, taught(rows, views, inputs, change)], axis=1)

    def _rows(self, random: np.random.Generator) -> np.ndarray:
        """The images of an epoch in the order in which they come."""
        n = len(self.targets)
        if self.plan.balance != "sampling":
            return random.permutation(n)
        counts = np.bincount(self.targets, minlength=self.n_classes)
        chances = 1.0 / counts[self.targets]
        return random.choice(n, n, p=chances / chances.sum())

    def _image_weights(self) -> np.ndarray:
        if self.plan.balance != "weights":
            return self.weights
        of_classes = np.bincount(self.targets, self.weights, self.n_classes)
        balanced = self.weights / np.maximum(of_classes[self.targets], 1e-30)
        return np.asarray(balanced / balanced.mean())


def ahead(items: Iterable[_T], depth: int) -> Iterator[_T]:
    """Items in their order, made by a thread up to so many ahead of whoever takes them."""
    waiting: queue.Queue[tuple[_T | None, BaseException | None, bool]] = queue.Queue(depth)
    given_up = threading.Event()

    def put(entry: tuple[_T | None, BaseException | None, bool]) -> bool:
        while not given_up.is_set():
            try:
                waiting.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put((item, None, False)):
                    return
            put((None, None, True))
        except BaseException as error:
            put((None, error, True))

    maker = threading.Thread(target=make, name="batches", daemon=True)
    maker.start()
    try:
        while True:
            item, error, last = waiting.get()
            if error is not None:
                raise error
            if last:
                return
            yield item  # type: ignore[misc]
    finally:
        given_up.set()
        maker.join()
