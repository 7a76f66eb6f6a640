"""The images that excite each channel of a layer most, found in one pass with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from tltool._files import printable
from tltool._keras import import_keras
from tltool._progress import progress
from tltool._validation import TltoolError
from tltool.data import Example
from tltool.features import Engine, canvas_batches, checked_bytes

if TYPE_CHECKING:
    import keras

__all__ = [
    "ExcitedChannel",
    "ExcitingImage",
    "Maxima",
    "RunningMaxima",
    "excited_channels",
    "is_cut",
    "maxima_model",
    "most_exciting",
    "most_varied",
]


@dataclass(frozen=True)
class Maxima:
    """Of each channel, the images in which it becomes largest.

    Args:
        values: `(channels, k)`, float32, the largest first; an image counts once, with its
            largest value.
        rows: `(channels, k)`, int64, numbers of the images.
        places: `(channels, k)`, int64, the output position of the value, row by row from 0.
        spread: `(channels,)`, float64, standard deviation over all images of the largest value.
    """

    values: np.ndarray
    rows: np.ndarray
    places: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class ExcitingImage:
    """An image that excites a channel.

    Args:
        file: its printable name.
        label: its class.
        value: the channel's largest activation on it.
        position: row and column of that value in the layer's output, from 0.
        box: left, top, right and bottom edge of its receptive field, cut off at the edges of the
            image, in pixels of the network's input.
        example: the image itself.
    """

    file: str
    label: str
    value: float
    position: tuple[int, int]
    box: tuple[float, float, float, float]
    example: Example = field(repr=False, compare=False)


@dataclass(frozen=True)
class ExcitedChannel:
    """A channel and the images that excite it most, the strongest first.

    Args:
        channel: its number, from 0.
        spread: standard deviation over all images of its largest activation.
        images: those; none in which it is 0 everywhere.
    """

    channel: int
    spread: float
    images: tuple[ExcitingImage, ...]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        names = [f.name for f in fields(ExcitingImage) if f.name != "example"]
        images = [{name: getattr(one, name) for name in names} for one in self.images]
        return {"channel": self.channel, "spread": self.spread, "images": images}


class RunningMaxima:
    """The largest values seen so far, and where; what it holds does not grow with the images.

    Args:
        channels: how many there are.
        top: how many images of each are kept.
    """

    def __init__(self, channels: int, top: int) -> None:
        self._values = np.full((channels, top), -np.inf, np.float32)
        self._rows = np.full((channels, top), -1, np.int64)
        self._places = np.zeros((channels, top), np.int64)
        self._count = 0
        self._mean = np.zeros(channels)
        self._squares = np.zeros(channels)

    def add(self, values: np.ndarray, places: np.ndarray) -> None:
        """Take the next images.

        Args:
            values: `(n, channels)`, the largest of each image.
            places: `(n, channels)`, where it is.
        """
        n, channels = values.shape
        rows = np.broadcast_to(np.arange(self._count, self._count + n), (channels, n))
        every = np.hstack([self._values, values.T])
        # stable: of equal values that of the earlier image stays
        order = np.argsort(-every, axis=1, kind="stable")[:, : self._values.shape[1]]
        self._values = np.take_along_axis(every, order, 1)
        self._rows = np.take_along_axis(np.hstack([self._rows, rows]), order, 1)
        self._places = np.take_along_axis(np.hstack([self._places, places.T]), order, 1)
        # Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
        # Variances", 1979
        mean = values.mean(axis=0, dtype=np.float64)
        apart, total = mean - self._mean, self._count + n
        self._squares += ((values - mean) ** 2).sum(axis=0) + apart**2 * self._count * n / total
        self._mean += apart * n / total
        self._count = total

    def result(self) -> Maxima:
        """What was found; fewer a channel than `top` where there were fewer images."""
        k = min(self._count, self._values.shape[1])
        spread = np.sqrt(self._squares / max(1, self._count))
        return Maxima(self._values[:, :k], self._rows[:, :k], self._places[:, :k], spread)


def maxima_model(network: keras.Model, layer: str) -> keras.Model:
    """From pixels to each channel's largest value and where it is.

    Args:
        network: a functional model of pixels.
        layer: name of one whose output is `(n, height, width, channels)`. A rectifier that cuts
            its values off above (ReLU6) counts without that: many places reach the cut.

    Returns:
        To `(n, 2 * channels)`, float32: the values, then the positions, row by row from 0 (exact
        up to 4,096 x 4,096 of them).
    """
    keras = import_keras()
    ops = keras.ops

    operation = _operation(network, layer)
    maps = ops.relu(operation.input) if is_cut(network, layer) else operation.output
    height, width, channels = maps.shape[1:]
    flat = ops.reshape(maps, (-1, height * width, channels))
    largest = ops.max(flat, axis=1, keepdims=True)
    # the first place of the largest value; OpenVINO does not convert what argmax becomes
    numbers = np.arange(height * width, dtype=np.float32)[None, :, None]
    places = ops.min(ops.where(flat >= largest, numbers, float(height * width)), axis=1)
    values = ops.cast(ops.squeeze(largest, axis=1), "float32")
    found = ops.concatenate([values, places], axis=1)
    return keras.Model(network.input, found, name="maxima")


def is_cut(network: keras.Model, layer: str) -> bool:
    """Whether a layer is a rectifier that cuts its values off above."""
    operation = _operation(network, layer)
    relu = isinstance(operation, import_keras().layers.ReLU)
    return relu and operation.max_value is not None and not operation.negative_slope


def most_exciting(
    run: Engine, examples: Sequence[Example], size: tuple[int, int], channels: int, top: int
) -> Maxima:
    """One pass over images.

    Memory is that of a few batches of canvases, and of `top` numbers a channel.

    Args:
        run: what `maxima_model` describes, on an engine.
        examples: the images.
        size: height and width in pixels of the network's input.
        channels: of the layer.
        top: how many images of each channel to keep.

    Raises:
        TltoolError: a file that changed or went, a network that gives no finite numbers.

    Source: Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", 2014 (section
    4: the nine images that excite a feature map most), https://arxiv.org/abs/1311.2901
    """
    readers = [lambda e=e: checked_bytes(e) for e in examples]
    found = RunningMaxima(channels, top)
    with progress("looking", len(examples)) as advance:
        for batch in canvas_batches(readers, size):
            batch.refuse_unreadable(examples)
            given = run(batch.pixels)
            if not np.isfinite(given).all():
                raise TltoolError(
                    f"The network gives values that are no finite numbers, first for "
                    f"{examples[batch.rows[0]].name}; its weights are damaged, fetch them again."
                )
            found.add(given[:, :channels], given[:, channels:].astype(np.int64))
            advance(len(batch.rows))
    return found.result()


def most_varied(maxima: Maxima, n: int) -> list[int]:
    """The channels whose largest activation varies most between images, the most varied first."""
    return [int(c) for c in np.argsort(-maxima.spread, kind="stable")[:n]]


def excited_channels(
    maxima: Maxima,
    channels: Sequence[int],
    examples: Sequence[Example],
    width: int,
    box: Callable[[int], tuple[float, float, float, float]],
) -> tuple[ExcitedChannel, ...]:
    """What was found of some channels, with names and receptive fields.

    Args:
        maxima: of all channels.
        channels: which.
        examples: the images.
        width: of the layer's output, in positions.
        box: gives the receptive field of a position.
    """
    return tuple(
        ExcitedChannel(
            channel,
            float(maxima.spread[channel]),
            tuple(
                ExcitingImage(
                    file=examples[row].name,
                    label=printable(examples[row].label),
                    value=float(value),
                    position=divmod(int(place), width),
                    box=box(int(place)),
                    example=examples[row],
                )
                for value, row, place in zip(
                    maxima.values[channel],
                    maxima.rows[channel],
                    maxima.places[channel],
                    strict=True,
                )
                if value != 0  # a rectified channel that is silent has no place to show
            ),
        )
        for channel in channels
    )


def _operation(network: keras.Model, layer: str) -> Any:
    (found,) = (o for o in network.operations if o.name == layer)
    return found
