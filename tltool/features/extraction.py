"""From image files to stored features, on all cores, with flat memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tltool._cores import cores
from tltool._keras import import_keras
from tltool._presets import Views, views
from tltool._progress import progress
from tltool._validation import TltoolError, check_option, storage_error
from tltool.backbones import Backbone, TapPart
from tltool.backbones.views import RANDOM_VERSION, random_views, views_model
from tltool.data import (
    CANVAS_VERSION,
    SCALED_DECODING_MARGIN,
    Example,
    ImageData,
    UnreadableImageError,
    canvas,
    read_image,
)
from tltool.features.engine import PRECISIONS, Engine, choose_engine, make_engine
from tltool.features.store import FeatureStore, Space

if TYPE_CHECKING:
    import keras

__all__ = [
    "CanvasBatch",
    "FeatureSource",
    "Features",
    "canvas_batches",
    "checked_bytes",
    "feature_space",
]

_T = TypeVar("_T")

# Views a batch, and pixels: 32 images of Inception's size.
_BATCH = 32
_BATCH_PIXELS = 32 * 299 * 299

# Images decoded by one task, and batches decoded ahead of the engine.
_TASK = 8
_AHEAD = 3

# Batches of several views that are computed at the same time: where decoding takes a core from one
# of them, the other does not wait for it.
_LANES = 2


@dataclass(frozen=True)
class Features:
    """Features of images, and how they were had.

    Args:
        values: `(n, d)`, float32, in the order of the examples; those of several taps stand side
            by side, in the order of the backbone's parts.
        widths: how many of the columns each part has.
        computed: number of images that went through the network.
    """

    values: np.ndarray
    widths: tuple[int, ...]
    computed: int


def feature_space(source: FeatureSource, part: TapPart) -> Space:
    """Where features are kept; the engine counts only where engines differ."""
    backbone, shown = source.backbone, source.views
    height, width = source.canvas_size
    canvases = f"{CANVAS_VERSION}-{height}x{width}"
    return Space(
        backbone=backbone.preset.name,
        network=backbone.definition,
        weights=backbone.weights.hash,
        tap=str(part),
        views=shown.name,
        precision=source.precision,
        canvas=f"{canvases}-random{RANDOM_VERSION}" if shown.random else canvases,
        engine="" if source.precision == "float32" else source.engine,
    )


@dataclass(frozen=True)
class FeatureSource:
    """Where features come from: a backbone, the store before it, and how it is run.

    Args:
        backbone: gives the features.
        store: where they are kept.
        engine: "auto", "keras" or "openvino".
        precision: "float32", or "bfloat16": faster on processors that have it, and features are
            up to a tenth off.
        views: which pictures of an image the backbone is shown; the whole image alone where
            nothing else is said.

    `engine` then holds the one that was chosen, and `falls_back` whether it was left to tltool.

    Raises:
        TltoolError: unknown engine or precision.
    """

    backbone: Backbone
    store: FeatureStore
    engine: str = "auto"
    precision: str = "float32"
    views: Views = field(default_factory=lambda: views("1"))
    falls_back: bool = field(init=False, default=False)
    _engines: dict[tuple[TapPart, ...], Engine] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        check_option("--precision", self.precision, PRECISIONS)
        object.__setattr__(self, "falls_back", self.engine == "auto")
        object.__setattr__(self, "engine", choose_engine(self.engine))

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Height and width in pixels of the canvas that views are cut out of."""
        return self.views.canvas_size(self.backbone.input_size)

    @property
    def widths(self) -> tuple[int, ...]:
        """How many features each part of the taps gives."""
        return tuple(self.backbone.widths(self.backbone.parts))

    def for_prediction(self) -> FeatureSource:
        """The same with views that follow from the image alone, where these are random."""
        return self.showing(views(self.views.predict)) if self.views.random else self

    def showing(self, shown: Views) -> FeatureSource:
        """The same with other views."""
        return self._with(views=shown)

    def of_backbone(self, backbone: Backbone) -> FeatureSource:
        """The same of another backbone."""
        return self._with(backbone=backbone)

    def _with(self, **changed: Any) -> FeatureSource:
        return replace(self, engine="auto" if self.falls_back else self.engine, **changed)

    def model(self) -> keras.Model:
        """From canvases `(n, *canvas_size, 3)`, uint8, to features `(n, d)`, float32.

        Raises:
            ValueError: the views are random.
        """
        if self.views.random:
            raise ValueError("random views are for training; take those of for_prediction()")
        if self.views.count == 1:
            return self.backbone.model
        keras = import_keras()
        model = self._network(self.backbone.parts)
        mean = keras.ops.mean(model.output, axis=1)
        return keras.Model(model.input, mean, name=self.backbone.model.name + "_views")

    def model_of_each_view(self) -> keras.Model:
        """The same to features of every view `(n, n_views, d)`; of a single one `(n, d)`.

        Raises:
            ValueError: the views are random.
        """
        return self.model() if self.views.count == 1 else self._network(self.backbone.parts)

    def features(self, examples: Sequence[Example]) -> Features:
        """Features of images, averaged over their views.

        They come from the store where it has them, through the network otherwise. Each batch is
        stored as soon as it is computed, so an interrupted extraction goes on where it stopped.
        Identical images are computed once, and the network is built only if an image needs it.

        Raises:
            TltoolError: a file that changed or went since it was checked, a store that cannot be
                written, a network that gives no finite numbers.
        """

        hashes = [e.hash for e in examples]
        found, computed = self._all_parts(
            examples, lambda space: self.store.read_mean(space, hashes, self.views.count)
        )
        return Features(np.hstack(found), tuple(part.shape[1] for part in found), computed)

    def means(
        self, examples: Sequence[Example], groups: Sequence[Sequence[int]]
    ) -> list[np.ndarray]:
        """Features `(n, d)` averaged over each group of views; otherwise as `features`."""
        hashes, views = [e.hash for e in examples], self.views.count
        found, _ = self._all_parts(
            examples, lambda space: self.store.read_means(space, hashes, views, groups)
        )
        return [np.hstack(parts) for parts in zip(*found, strict=True)]

    def each_view(self, examples: Sequence[Example]) -> np.ndarray:
        """Features of every view `(n, n_views, d)`, float32; otherwise as `features`."""
        hashes = [e.hash for e in examples]
        found, _ = self._all_parts(examples, lambda space: self.store.read(space, hashes))
        shape = (len(examples), self.views.count, -1)
        return np.concatenate([part.reshape(shape) for part in found], axis=2)

    def extract(self, examples: Sequence[Example]) -> None:
        """Store the features of images, every view apart; otherwise as `features`."""
        self._all_parts(examples, lambda space: np.empty((0, 0), np.float32))

    def of_canvases(self, pixels: np.ndarray) -> np.ndarray:
        """Features `(n, d)`, float32, of canvases `(n, *canvas_size, 3)`, uint8; none is stored."""
        source = self.for_prediction()
        vectors = source._engine_of(source.backbone.parts)(pixels)
        return vectors.reshape(len(pixels), source.views.count, -1).mean(axis=1)

    def _all_parts(
        self, examples: Sequence[Example], read: Callable[[int], _T]
    ) -> tuple[list[_T], int]:
        """What is read of each part, and how many images went through the network."""
        spaces = {part: self._space(part) for part in self.backbone.parts}
        computed = 0
        while True:  # a second time only where another process pruned the store meanwhile
            for lacking, images in self._missing(examples, spaces).items():
                self._extract(images, {part: spaces[part] for part in lacking})
                computed += len(images)
            try:
                return [read(space) for space in spaces.values()], computed
            except KeyError:
                continue

    def _space(self, part: TapPart) -> int:
        return self.store.space_id(feature_space(self, part))

    def _missing(
        self, examples: Sequence[Example], spaces: Mapping[TapPart, int]
    ) -> dict[tuple[TapPart, ...], list[Example]]:
        """Images whose features are not all stored, by the parts that they lack."""
        images = {e.hash: e for e in examples}
        lacking: dict[bytes, list[TapPart]] = {}
        for part, space in spaces.items():
            known = self.store.known(space, list(images))
            for content in images:
                if content not in known:
                    lacking.setdefault(content, []).append(part)
        groups: dict[tuple[TapPart, ...], list[Example]] = {}
        for content, parts in lacking.items():
            groups.setdefault(tuple(parts), []).append(images[content])
        return groups

    def _extract(self, examples: Sequence[Example], spaces: Mapping[TapPart, int]) -> None:
        """One forward pass for all of these parts, each of them stored apart."""
        parts = list(spaces)
        run = self._engine_of(parts)
        widths = self.backbone.widths(parts) if len(parts) > 1 else [0]
        ends = np.cumsum(widths)[:-1]
        shown, size = self.views, self.backbone.input_size
        readers = [lambda e=e: checked_bytes(e) for e in examples]
        if shown.random:
            margin = SCALED_DECODING_MARGIN * max(size)

            def draw(row: int, data: ImageData) -> np.ndarray:
                image = read_image(data, smallest_side=margin)
                return random_views(image, shown, size, examples[row].hash)

            batches = canvas_batches(readers, size, views=shown.count, draw=draw)
        else:
            batches = canvas_batches(readers, self.canvas_size, views=shown.count)
        with progress("extracting", len(examples)) as advance:
            for batch, found in _computed(run, _readable(batches, examples)):
                vectors = found.reshape(len(batch.rows), shown.count, -1)
                if not np.isfinite(vectors).all():
                    row, _, column = np.argwhere(~np.isfinite(vectors))[0]
                    part = parts[int(np.searchsorted(ends, column, side="right"))]
                    raise TltoolError(
                        f"The network gives features that are no finite numbers, first at {part} "
                        f"for {examples[batch.rows[row]].name}; its weights are damaged, fetch "
                        "them again."
                    )
                hashes = [examples[row].hash for row in batch.rows]
                for part, values in zip(parts, np.split(vectors, ends, axis=2), strict=True):
                    self.store.write(spaces[part], dict(zip(hashes, values, strict=True)))
                advance(len(batch.rows))

    def _engine_of(self, parts: Sequence[TapPart]) -> Engine:
        """What runs the network on canvases, or on random views one by one; made once."""
        if tuple(parts) in self._engines:
            return self._engines[tuple(parts)]
        taps = hashlib.sha256("+".join(map(str, parts)).encode()).hexdigest()[:12]
        plain = self.views.random or self.views.count == 1
        shown = "" if plain else f"-views{self.views.name}"
        made = make_engine(
            self.engine,
            f"{self.backbone.key}-{taps}{shown}" if self.backbone.weights.path else None,
            lambda: self.backbone.model_of(parts) if plain else self._network(parts),
            self.precision,
            fall_back=self.falls_back,
            lanes=1 if self.views.count == 1 else min(_LANES, cores()),
        )
        return self._engines.setdefault(tuple(parts), made)

    def _network(self, parts: Sequence[TapPart]) -> keras.Model:
        """From canvases to features of every view `(n, n_views, d)`."""
        backbone = self.backbone
        order = backbone.mirror_order(parts) if self.views.mirrored else None
        return views_model(backbone.model_of(parts), self.views, self.canvas_size, order)


def _readable(batches: Iterable[CanvasBatch], examples: Sequence[Example]) -> Iterator[CanvasBatch]:
    """Batches, up to one with an image that cannot be read, which is an error."""
    for batch in batches:
        batch.refuse_unreadable(examples)
        yield batch


def _computed(
    run: Engine, batches: Iterable[CanvasBatch]
) -> Iterator[tuple[CanvasBatch, np.ndarray]]:
    """Batches and what an engine makes of them, in their order, as many at a time as it can."""
    if run.lanes == 1:
        yield from ((batch, run(batch.pixels)) for batch in batches)
        return
    waiting: deque[tuple[CanvasBatch, Future[np.ndarray]]] = deque()
    pool = ThreadPoolExecutor(run.lanes, thread_name_prefix="lane")
    try:
        for batch in batches:
            waiting.append((batch, pool.submit(run, batch.pixels)))
            if len(waiting) > run.lanes:  # one is ready for whoever is done first
                done, values = waiting.popleft()
                yield done, values.result()
        while waiting:
            done, values = waiting.popleft()
            yield done, values.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class CanvasBatch:
    """Decoded images.

    Args:
        rows: their positions in the sequence that was asked for.
        pixels: `(n, height, width, 3)`, uint8, or the random views of all images one after the
            other; undefined where an image is unreadable.
        unreadable: position to reason, for those that gave no image.
    """

    rows: range
    pixels: np.ndarray
    unreadable: dict[int, str]

    def refuse_unreadable(self, examples: Sequence[Example]) -> None:
        """Stop at an image that cannot be read, or no longer.

        Raises:
            TltoolError: it names the file.
        """
        for row, reason in self.unreadable.items():
            raise TltoolError(f"{examples[row].name} {reason}; mend or remove it, and run again.")


def canvas_batches(
    read: Sequence[Callable[[], ImageData]],
    size: tuple[int, int],
    batch: int = 0,
    *,
    views: int = 1,
    draw: Callable[[int, ImageData], np.ndarray] | None = None,
) -> Iterator[CanvasBatch]:
    """Decode images on all cores, a few batches ahead of whoever takes them.

    Args:
        read: gives the bytes or pixels of each image, or raises UnreadableImageError.
        size: height and width of the canvas.
        batch: images a batch; 0 for 32 of usual size, and fewer of large ones or of many views.
        views: of each image, that the network will see at once.
        draw: makes the views `(views, *size, 3)` of the image of that position; None for one
            canvas an image.
    """
    batch = batch or max(1, min(_BATCH, _BATCH_PIXELS // (size[0] * size[1])) // views)
    starts = iter(range(0, len(read), batch))
    waiting: deque[tuple[CanvasBatch, list[Future[None]]]] = deque()
    pool = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
    pictures = 1 if draw is None else views

    def decode(batch: CanvasBatch, places: range) -> None:
        for place in places:
            row = batch.rows[place]
            try:
                data = read[row]()
                made = canvas(data, size) if draw is None else draw(row, data)
                batch.pixels[place * pictures : (place + 1) * pictures] = made
            except UnreadableImageError as error:
                batch.unreadable[row] = str(error)

    def submit(start: int) -> None:
        rows = range(start, min(start + batch, len(read)))
        empty = CanvasBatch(rows, np.empty((len(rows) * pictures, *size, 3), np.uint8), {})
        places = range(len(rows))
        tasks = [
            pool.submit(decode, empty, places[i : i + _TASK]) for i in range(0, len(rows), _TASK)
        ]
        waiting.append((empty, tasks))

    try:
        for start in islice(starts, _AHEAD):
            submit(start)
        while waiting:
            decoded, tasks = waiting.popleft()
            for task in tasks:
                task.result()
            for start in islice(starts, 1):
                submit(start)
            yield decoded
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def checked_bytes(example: Example) -> ImageData:
    """The file's bytes, once they are those that were checked: features are kept by hash.

    Returns:
        The pixels themselves, of an image that lies in no file.

    Raises:
        TltoolError: they are others now, or cannot be read.
    """
    if example.pixels is not None:
        return example.pixels
    try:
        data = example.path.read_bytes()
    except OSError as error:
        raise storage_error(
            "read", example.path, error, "it was there when it was checked; run again"
        ) from error
    if hashlib.sha256(data).digest() != example.hash:
        raise TltoolError(f"{example.path} has changed since it was checked; run again.")
    return data
