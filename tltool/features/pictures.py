"""What a network in training is shown: pixels drawn from the files, or stored activations."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from tltool._cores import cores
from tltool._presets import Views
from tltool._validation import TltoolError
from tltool.backbones.views import fixed_view, random_view
from tltool.data import (
    SCALED_DECODING_MARGIN,
    Example,
    UnreadableImageError,
    canvas,
    read_image,
)
from tltool.features.extraction import FeatureSource, checked_bytes

__all__ = ["HELD_IN_MEMORY", "DrawnPictures", "StoredActivations"]

# An image at its own size, or on the canvas of its views and at the network's own size.
_Decoded = Image.Image | tuple[np.ndarray, np.ndarray]

HELD_IN_MEMORY = 2**30
"""Bytes of decoded images, or of activations, that are held in memory."""


class DrawnPictures:
    """Pixels of images, decoded when they are asked for; see `tltool.training.Pictures`.

    Args:
        examples: the images.
        views: which.
        size: height and width of what comes out.
    """

    at_hand = False

    def __init__(self, examples: Sequence[Example], views: Views, size: tuple[int, int]) -> None:
        self._examples, self._views, self._size = examples, views, size
        self.n_views = views.drawn if views.random else views.count
        self._held: dict[int, _Decoded] = {}
        self._room = HELD_IN_MEMORY
        self._pool = ThreadPoolExecutor(cores(), thread_name_prefix="draw")

    def take(self, rows: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Pixels `(m, height, width, 3)`, uint8, RGB.

        Raises:
            TltoolError: an image cannot be read any more, or has changed.
        """
        return np.stack(list(self._pool.map(self._draw, rows.tolist(), views.tolist())))

    def _draw(self, row: int, view: int) -> np.ndarray:
        image = self._held.get(row)
        if image is None:
            image = self._read(self._examples[row])
            size = sum(part.nbytes for part in image) if isinstance(image, tuple) else _bytes(image)
            if size <= self._room:
                self._room -= size
                self._held[row] = image
        if isinstance(image, tuple):
            return fixed_view(*image, self._views, self._size, view)
        return random_view(image, self._views, self._size, self._examples[row].hash, view)

    def _read(self, example: Example) -> _Decoded:
        """The whole image at its own size; or on its canvases, where nothing is drawn."""
        try:
            data = checked_bytes(example)
            if self._views.random is None:
                larger = self._views.canvas_size(self._size)
                whole = canvas(data, self._size)
                return (whole if larger == self._size else canvas(data, larger)), whole
            return read_image(data, smallest_side=SCALED_DECODING_MARGIN * max(self._size))
        except UnreadableImageError as error:
            raise TltoolError(
                f"{example.name} {error}; mend or remove it, and run again."
            ) from error


def _bytes(image: Image.Image) -> int:
    return 3 * image.width * image.height


class StoredActivations:
    """What layers below a boundary give of images, computed once; see `tltool.training.Pictures`.

    Up to a gigabyte is held in memory; beyond it each batch is read from the store.

    Args:
        source: whose one tap is the boundary, as it is (`flatten`), with the views to show.
        examples: the images; what is not stored of them is computed now.
        shape: of the activations of an image.

    Raises:
        TltoolError: see `FeatureSource.features`.
    """

    def __init__(
        self, source: FeatureSource, examples: Sequence[Example], shape: tuple[int, ...]
    ) -> None:
        self._source, self._examples, self._shape = source, examples, shape
        self.n_views = source.views.count
        source.extract(examples)
        size = 4 * len(examples) * self.n_views * int(np.prod(shape))
        self.at_hand = size <= HELD_IN_MEMORY
        self._held = self._read(examples) if self.at_hand else None

    def take(self, rows: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Activations `(m, *shape)`, float32."""
        if self._held is not None:
            return np.asarray(self._held[rows, views])
        found = self._read([self._examples[row] for row in rows.tolist()])
        return np.asarray(found[np.arange(len(rows)), views])

    def _read(self, examples: Sequence[Example]) -> np.ndarray:
        found = self._source.each_view(examples)
        found = found.reshape(len(examples), self.n_views, *self._shape)
        if self._source.views.mirrored:  # they are stored the right way round
            turned = found[:, self.n_views // 2 :]
            found[:, self.n_views // 2 :] = turned[:, :, :, ::-1].copy()
        return found
