"""From image files to stored features, on all cores, with flat memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from tltool._cores import cores
from tltool._progress import progress
from tltool._validation import TltoolError, check_option, storage_error
from tltool.backbones import Backbone, TapPart
from tltool.data import CANVAS_VERSION, Example, UnreadableImageError, canvas
from tltool.features.engine import PRECISIONS, Engine, choose_engine, make_engine
from tltool.features.store import FeatureStore, Space

__all__ = [
    "CanvasBatch",
    "FeatureSource",
    "Features",
    "canvas_batches",
    "checked_bytes",
    "feature_space",
]

# Images a batch, and pixels: 32 images of Inception's size.
_BATCH = 32
_BATCH_PIXELS = 32 * 299 * 299

# Images decoded by one task, and batches decoded ahead of the engine.
_TASK = 8
_AHEAD = 3


@dataclass(frozen=True)
class Features:
    """Features of images, and how they were had.

    Args:
        values: `(n, d)`, float32, in the order of the examples; those of several taps stand side
            by side, in the order of the backbone's parts.
        computed: number of images that went through the network.
    """

    values: np.ndarray
    computed: int


def feature_space(backbone: Backbone, part: TapPart, engine: str, precision: str) -> Space:
    """Where features of a backbone are kept; `engine` counts only where engines differ."""
    height, width = backbone.canvas_size
    return Space(
        backbone=backbone.preset.name,
        network=backbone.definition,
        weights=backbone.weights.hash,
        tap=str(part),
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
        spaces = {part: self._space(part) for part in self.backbone.parts}
        computed = 0
        while True:  # a second time only where another process pruned the store meanwhile
            for lacking, images in self._missing(examples, spaces).items():
                self._extract(images, {part: spaces[part] for part in lacking})
                computed += len(images)
            try:
                found = [
                    self.store.read(space, [e.hash for e in examples]) for space in spaces.values()
                ]
            except KeyError:
                continue
            return Features(found[0] if len(found) == 1 else np.hstack(found), computed)

    def _space(self, part: TapPart) -> int:
        return self.store.space_id(feature_space(self.backbone, part, self.engine, self.precision))

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
        readers = [lambda e=e: checked_bytes(e) for e in examples]
        with progress("extracting", len(examples)) as advance:
            for batch in canvas_batches(readers, self.backbone.canvas_size):
                batch.refuse_unreadable(examples)
                vectors = run(batch.pixels)
                if not np.isfinite(vectors).all():
                    raise TltoolError(
                        f"The network gives features that are no finite numbers, first for "
                        f"{examples[batch.rows[0]].name}; its weights are damaged, fetch them "
                        "again."
                    )
                hashes = [examples[row].hash for row in batch.rows]
                for part, values in zip(parts, np.split(vectors, ends, axis=1), strict=True):
                    self.store.write(spaces[part], dict(zip(hashes, values, strict=True)))
                advance(len(batch.rows))

    def _engine_of(self, parts: Sequence[TapPart]) -> Engine:
        backbone = self.backbone
        taps = hashlib.sha256("+".join(map(str, parts)).encode()).hexdigest()[:12]
        return make_engine(
            self.engine,
            f"{backbone.key}-{taps}",
            lambda: backbone.model_of(parts),
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
    read: Sequence[Callable[[], bytes]], size: tuple[int, int], batch: int = 0
) -> Iterator[CanvasBatch]:
    """Decode images on all cores, a few batches ahead of whoever takes them.

    Args:
        read: gives the bytes of each image file, or raises UnreadableImageError.
        size: height and width of the canvas.
        batch: images a batch; 0 for 32 of usual size, and fewer large ones.
    """
    batch = batch or max(1, min(_BATCH, _BATCH_PIXELS // (size[0] * size[1])))
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


def checked_bytes(example: Example) -> bytes:
    """The file's bytes, once they are those that were checked: features are kept by hash.

    Raises:
        TltoolError: they are others now, or cannot be read.
    """
    try:
        data = example.path.read_bytes()
    except OSError as error:
        raise storage_error(
            "read", example.path, error, "it was there when it was checked; run again"
        ) from error
    if hashlib.sha256(data).digest() != example.hash:
        raise TltoolError(f"{example.path} has changed since it was checked; run again.")
    return data
