"""From image files to stored features, on all cores, with flat memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import numpy as np

from tltool._cores import cores
from tltool._progress import progress
from tltool._validation import TltoolError, check_option, storage_error
from tltool.backbones import Backbone
from tltool.data import CANVAS_VERSION, Example, UnreadableImageError, canvas
from tltool.features.engine import PRECISIONS, Engine, choose_engine, make_engine
from tltool.features.store import FeatureStore, Space

__all__ = ["CanvasBatch", "FeatureSource", "Features", "canvas_batches", "feature_space"]

_BATCH = 32

# Images decoded by one task, and batches decoded ahead of the engine.
_TASK = 8
_AHEAD = 3


@dataclass(frozen=True)
class Features:
    """Features of images, and how they were had.

    Args:
        values: `(n, d)`, float32, in the order of the examples.
        computed: number of images that went through the network.
    """

    values: np.ndarray
    computed: int


def feature_space(backbone: Backbone, engine: str, precision: str) -> Space:
    """Where the features of a backbone are kept; `engine` counts only where engines differ."""
    height, width = backbone.canvas_size
    return Space(
        backbone=backbone.preset.name,
        weights=backbone.weights.hash,
        tap=f"{backbone.preset.tap}:avg",
        views="1",
        precision=precision,
        canvas=f"{CANVAS_VERSION}-{height}x{width}",
        engine="" if precision == "float32" else engine,
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

    `engine` then holds the one that was chosen, and `falls_back` whether it was left to tltool.

    Raises:
        TltoolError: unknown engine or precision.
    """

    backbone: Backbone
    store: FeatureStore
    engine: str = "auto"
    precision: str = "float32"
    falls_back: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        check_option("--precision", self.precision, PRECISIONS)
        object.__setattr__(self, "falls_back", self.engine == "auto")
        object.__setattr__(self, "engine", choose_engine(self.engine))

    def features(self, examples: Sequence[Example]) -> Features:
        """Features of images: from the store where it has them, through the network otherwise.

        Each batch is stored as soon as it is computed, so an interrupted extraction goes on where
        it stopped. Identical images are computed once, and the network is built only if an image
        needs it.

        Raises:
            TltoolError: a file that changed or went since it was checked, a store that cannot be
                written, a network that gives no finite numbers.
        """
        space = self.store.space_id(feature_space(self.backbone, self.engine, self.precision))
        computed = 0
        while True:  # a second time only where another process pruned the store meanwhile
            known = self.store.known(space, list({e.hash for e in examples}))
            missing = list({e.hash: e for e in examples if e.hash not in known}.values())
            if missing:
                _extract_missing(self._engine, self.backbone, missing, self.store, space)
                computed += len(missing)
            try:
                return Features(self.store.read(space, [e.hash for e in examples]), computed)
            except KeyError:
                continue

    @cached_property
    def _engine(self) -> Engine:
        preset, weights = self.backbone.preset, self.backbone.weights
        key = f"{preset.name}-{preset.tap}-{weights.hash[:24]}"
        return make_engine(
            self.engine,
            key,
            lambda: self.backbone.model,
            self.precision,
            fall_back=self.falls_back,
        )


@dataclass(frozen=True)
class CanvasBatch:
    """Decoded images.

    Args:
        rows: their positions in the sequence that was asked for.
        pixels: `(n, height, width, 3)`, uint8; undefined where an image is unreadable.
        unreadable: position to reason, for those that gave no image.
    """

    rows: range
    pixels: np.ndarray
    unreadable: dict[int, str]

    def refuse_unreadable(self, examples: Sequence[Example]) -> None:
        """Stop at an image that was readable when it was checked, and is not now.

        Raises:
            TltoolError: it names the file.
        """
        for row, reason in self.unreadable.items():
            raise TltoolError(f"{examples[row].path} {reason}, though it was checked; run again.")


def canvas_batches(
    read: Sequence[Callable[[], bytes]], size: tuple[int, int], batch: int = _BATCH
) -> Iterator[CanvasBatch]:
    """Decode images on all cores, a few batches ahead of whoever takes them.

    Args:
        read: gives the bytes of each image file, or raises UnreadableImageError.
        size: height and width of the canvas.
        batch: images a batch.
    """
    starts = iter(range(0, len(read), batch))
    waiting: deque[tuple[CanvasBatch, list[Future[None]]]] = deque()
    pool = ThreadPoolExecutor(cores(), thread_name_prefix="decode")

    def decode(batch: CanvasBatch, places: range) -> None:
        for place in places:
            try:
                batch.pixels[place] = canvas(read[batch.rows[place]](), size)
            except UnreadableImageError as error:
                batch.unreadable[batch.rows[place]] = str(error)

    def submit(start: int) -> None:
        rows = range(start, min(start + batch, len(read)))
        empty = CanvasBatch(rows, np.empty((len(rows), *size, 3), np.uint8), {})
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


def _extract_missing(
    run: Engine,
    backbone: Backbone,
    examples: Sequence[Example],
    store: FeatureStore,
    space: int,
) -> None:
    readers = [lambda e=e: _checked_bytes(e) for e in examples]
    with progress("extracting", len(examples)) as advance:
        for batch in canvas_batches(readers, backbone.canvas_size):
            rows = batch.rows
            batch.refuse_unreadable(examples)
            vectors = run(batch.pixels)
            if not np.isfinite(vectors).all():
                raise TltoolError(
                    f"The network gives features that are no finite numbers, first for "
                    f"{examples[rows[0]].name}; its weights are damaged, fetch them again."
                )
            store.write(space, {examples[r].hash: v for r, v in zip(rows, vectors, strict=True)})
            advance(len(rows))


def _checked_bytes(example: Example) -> bytes:
    """The file's bytes, once they are those that were checked: features are kept by hash."""
    try:
        data = example.path.read_bytes()
    except OSError as error:
        raise storage_error(
            "read", example.path, error, "it was there when it was checked; run again"
        ) from error
    if hashlib.sha256(data).digest() != example.hash:
        raise TltoolError(f"{example.path} has changed since it was checked; run again.")
    return data
