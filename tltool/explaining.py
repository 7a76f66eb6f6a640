"""Why a run answers as it does: maps over images, and whether they can be believed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tltool._files import atomic_path, counted, printable, write_atomically
from tltool._progress import progress
from tltool._validation import TltoolError, check_int, check_option, nearest, storage_error
from tltool.data import BadFile, UnreadableImageError, canvas, image_files
from tltool.report import ExplainedImage, ExplainedMap, overlay, render_explanations, shown_image
from tltool.runs import Run
from tltool.saliency import (
    Fidelity,
    SplitNetwork,
    batch_of,
    default_patch,
    fidelity,
    grad_cam,
    kernel_layers,
    occlusion_map,
    shares_of_score,
    shuffled,
)

if TYPE_CHECKING:
    import keras

__all__ = ["MAPS", "Explained", "Explanations", "MapCheck", "explain"]

_log = logging.getLogger(__name__)

MAPS = ("occlusion", "grad-cam", "class-activation")
"""Kinds of maps, from the one that asks the least of a network."""

_TOP = 3

# What orders that no map made are called.
_RANDOM = "random"

# Images on the page; the maps of further ones are files beside it.
_MOST_SHOWN = 60

# Bytes of an image's name in those of its overlays; disks take 255 of the whole.
_LONGEST_STEM = 200


@dataclass(frozen=True)
class Explained:
    """One image and its maps.

    Args:
        file: its name.
        top: its likeliest classes and their probabilities.
        explained: the class that maps are of.
        probability: of that class.
        maps: by kind, the file of the image with the map over it.
        largest_drop: what the square took off the probability where that was most; None without
            an occlusion map.
        deletion, insertion: by kind of map, and "random", areas under the curves; None where they
            were not drawn.
    """

    file: str
    top: tuple[tuple[str, float], ...]
    explained: str
    probability: float
    maps: dict[str, Path]
    largest_drop: float | None
    deletion: dict[str, float] | None
    insertion: dict[str, float] | None


@dataclass(frozen=True)
class MapCheck:
    """Whether a kind of map follows what the network learned.

    Args:
        map: the kind.
        layers: whose weights were shuffled one after the other, from the top down.
        likeness: rank correlation of the map with the one before, after each; the mean over the
            images that it was tried on, None where all of their maps are blank.
        images: that it was tried on.
    """

    map: str
    layers: tuple[str, ...]
    likeness: tuple[float | None, ...]
    images: int


@dataclass(frozen=True)
class Explanations:
    """What `explain` found.

    Args:
        run: the run folder.
        page: that shows all of it.
        patch: side of the square in pixels of the canvas.
        stride: pixels between its places.
        images: one by one.
        checks: of each kind of map.
    """

    run: str
    page: Path
    patch: int
    stride: int
    images: tuple[Explained, ...]
    checks: tuple[MapCheck, ...]

    @property
    def verdicts(self) -> tuple[str, ...]:
        """How often each kind of map did better than random orders, a sentence each."""
        return _verdicts(self.images)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        images = [
            asdict(one)
            | {
                "top": [{"label": name, "probability": p} for name, p in one.top],
                "maps": {kind: printable(str(path)) for kind, path in one.maps.items()},
            }
            for one in self.images
        ]
        told = {"page": printable(str(self.page)), "images": images}
        return asdict(self) | told | {"verdicts": list(self.verdicts)}


def explain(
    run: str | Path,
    paths: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    maps: str | Sequence[str] = "auto",
    label: str | None = None,
    patch: int | None = None,
    stride: int | None = None,
    checks: int = 3,
    engine: str = "auto",
    force: bool = False,
) -> tuple[Explanations, list[BadFile]]:
    """Show what an answer rests on, image by image, and put the maps to the test.

    Args:
        run: a finished run folder.
        paths: one or several image files, folders and patterns, as for `predict`.
        out: a folder for the overlays and the page; None for `explain-RUN` in the current one.
        maps: "occlusion", "grad-cam", "class-activation", several of them with commas, or "auto"
            for all that the run has.
        label: the class to explain; None for the likeliest of each image.
        patch: side of the grey square in pixels of the network's canvas, smaller than that; None
            for a seventh.
        stride: pixels between its places; None for a 28th of the canvas.
        checks: images that the maps are put to the test on.
        engine: "auto", "keras" or "openvino".
        force: write into a folder that is there already.

    Returns:
        The maps, and files that are no images that can be read.

    Raises:
        TltoolError: no run, no image, no such class or map, or a folder that is there.
        KeyboardInterrupt: it was interrupted; the page has the images that were finished.

    Example:
        >>> found, _ = tltool.explain("runs/flowers", "new.jpg")
        >>> found.images[0].maps["occlusion"]
        PosixPath('explain-flowers/new-occlusion.png')
    """
    loaded = Run(run)
    check_int("--checks", checks, low=0)
    kinds = _kinds(maps)
    for option, given in (("--patch", patch), ("--stride", stride)):
        if given is not None and kinds is not None and "occlusion" not in kinds:
            raise TltoolError(f"{option} is for --maps occlusion; add that, or leave it out.")
    usual = default_patch(loaded.canvas_size)
    most = min(loaded.canvas_size) - 1  # a square over everything tells nothing of places
    patch = usual[0] if patch is None else check_int("--patch", patch, low=1, high=most)
    stride = usual[1] if stride is None else check_int("--stride", stride, low=1, high=most)
    if label is not None and label not in loaded.labels:
        raise TltoolError(f"--label {label!r}: {nearest(label, loaded.labels)}")
    folder = Path(out).expanduser() if out else Path(f"explain-{loaded.folder.resolve().name}")
    _refuse_existing(folder, force=force)
    files, bad = image_files(paths)
    explainer = _Explainer(loaded, kinds, patch, stride, engine)
    images: list[Explained] = []
    shown: list[ExplainedImage] = []
    tried: dict[str, list[list[tuple[str, float]]]] = {}
    taken: set[str] = set()
    with _noted_interrupt() as interrupts, progress("explaining", len(files)) as advance:
        for file in files:
            name = printable(str(file))
            try:
                one = _Opened.of(file, name, loaded.canvas_size)
            except UnreadableImageError as error:
                bad.append(BadFile(name, str(error)))
                _log.warning("%s: %s", name, error)
                advance(1)
                continue
            checked = len(images) < checks
            _make(folder)
            found, picture = explainer.explain(one, label, checked, _stem(file, taken), folder)
            images.append(found)
            if len(shown) < _MOST_SHOWN:
                shown.append(picture)
            # of several views each image costs as many, and says as much
            trying = checked and len(images) <= max(1, checks // loaded.n_views)
            for kind, steps in explainer.shuffled(one, found.explained) if trying else ():
                tried.setdefault(kind, []).append(steps)
            advance(1)
    if interrupts and not images:
        raise interrupts[0]
    if not images:
        raise TltoolError(
            f"There is no image that can be read among {counted(len(bad), 'file')}; the first, "
            f"{bad[0].file}, {bad[0].reason}."
        )
    found_checks = tuple(_mean_check(kind, runs) for kind, runs in tried.items())
    page = folder / "index.html"
    text = render_explanations(
        f"What {loaded.folder.resolve().name} looks at",
        shown,
        [(check.map, check.layers, check.likeness) for check in found_checks],
        (patch, stride),
        len(images) - len(shown),
        found_checks[0].images if found_checks else 0,
        _verdicts(images),
    )
    with _Written(page):
        write_atomically(page, text)
    if interrupts:
        raise KeyboardInterrupt(
            f"Interrupted; {printable(str(page))} has the {counted(len(images), 'image')} that "
            "were finished. Name the others again, and another folder with --out."
        )
    result = Explanations(
        printable(str(loaded.folder)), page, patch, stride, tuple(images), found_checks
    )
    return result, bad


@contextmanager
def _noted_interrupt() -> Iterator[list[KeyboardInterrupt]]:
    """Ends the block where it is interrupted, and goes on after it."""
    noted: list[KeyboardInterrupt] = []
    try:
        yield noted
    except KeyboardInterrupt as interrupt:
        noted.append(interrupt)


def _kinds(maps: str | Sequence[str]) -> tuple[str, ...] | None:
    """The kinds that were named; None for all that there are."""
    names = [name.strip() for name in (maps.split(",") if isinstance(maps, str) else maps)]
    for name in names:
        check_option("--maps", name, ("auto", *MAPS))
    return None if "auto" in names else tuple(dict.fromkeys(names))


def _refuse_existing(folder: Path, *, force: bool) -> None:
    if folder.is_file():
        raise TltoolError(f"--out {folder} is a file; name a new folder.")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise TltoolError(
            f"{folder} exists; name another folder with --out, or add --force to write into it."
        )


def _make(folder: Path) -> None:
    with _Written(folder):
        folder.mkdir(parents=True, exist_ok=True)


def _stem(file: Path, taken: set[str]) -> str:
    """A name for an image's overlays that no other has, on disks that ignore case, too."""
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in file.stem)
    safe = safe.encode()[:_LONGEST_STEM].decode(errors="ignore") or "image"
    stem, number = safe, 1
    while stem.casefold() in taken:
        number += 1
        stem = f"{safe}-{number}"
    taken.add(stem.casefold())
    return stem


@dataclass(frozen=True)
class _Written:
    """Turns what a full or read-only disk raises into one sentence."""

    path: Path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: object) -> None:
        if isinstance(error, OSError):
            raise storage_error("write", self.path, error, "name another --out") from error


@dataclass(frozen=True)
class _Opened:
    """An image: its file, its name, its canvas, and itself as it is shown."""

    path: Path
    name: str
    pixels: np.ndarray
    picture: Image.Image

    @classmethod
    def of(cls, path: Path, name: str, size: tuple[int, int]) -> _Opened:
        try:
            return cls(path, name, canvas(path.read_bytes(), size), shown_image(path))
        except OSError as error:
            raise UnreadableImageError(f"cannot be opened ({error.strerror})") from error


class _Explainer:
    """A run ready to be asked why.

    Args:
        run: finished.
        kinds: of maps; None for all that it has.
        patch, stride: of the square, in pixels.
        engine: that answers.
    """

    def __init__(
        self, run: Run, kinds: tuple[str, ...] | None, patch: int, stride: int, engine: str
    ) -> None:
        self._run, self._patch, self._stride = run, patch, stride
        self._predictor = run.predictor(engine)
        self._batch = batch_of(run.canvas_size, run.n_views)
        self._model: keras.Model | None = None
        self._network: SplitNetwork | None = None
        if kinds != ("occlusion",):
            self._model = run.model()
            try:
                self._network = SplitNetwork(self._model)
            except TltoolError:
                if kinds is not None:
                    raise
        available = [
            kind
            for kind, there in (
                ("occlusion", True),
                ("grad-cam", self._network is not None),
                ("class-activation", self._network is not None and self._network.linear),
            )
            if there
        ]
        for kind in kinds or ():
            if kind not in available:
                raise TltoolError(
                    f"--maps {kind}: it needs one linear layer on pooled features, which "
                    f"{run.folder} does not have; take {', '.join(available)}."
                )
        self.kinds = kinds or tuple(available)

    def explain(
        self, one: _Opened, label: str | None, checked: bool, stem: str, folder: Path
    ) -> tuple[Explained, ExplainedImage]:
        """An image's maps, written as overlays, and what the page shows of them."""
        run = self._run
        said = self._predictor(one.pixels[None])[0]
        order = np.argsort(-said, kind="stable")[:_TOP]
        top = tuple((run.labels[i], float(said[i])) for i in order)
        target = int(order[0]) if label is None else run.labels.index(label)
        maps: dict[str, np.ndarray] = {}
        drop = None
        if "occlusion" in self.kinds:
            found = occlusion_map(
                self._predictor,
                one.pixels,
                target,
                patch=self._patch,
                stride=self._stride,
                batch=self._batch,
            )
            maps["occlusion"], drop = found.drop, float(found.drop.max())
        for kind in self.kinds:
            if kind != "occlusion":
                maps[kind] = self._activations(kind, one, target)
        tested = self._tested(one, maps, target) if checked else None
        files, drawn = {}, []
        for kind, values in maps.items():
            over = overlay(one.picture, values)
            files[kind] = folder / f"{stem}-{kind}.png"
            with _Written(files[kind]), atomic_path(files[kind]) as path:
                over.save(path, "PNG")
            drawn.append(ExplainedMap(kind, over, drop if kind == "occlusion" else None))
        areas = [
            None if tested is None else {name: getattr(f, a) for name, f in tested.items()}
            for a in ("deletion_area", "insertion_area")
        ]
        explained = Explained(
            one.name, top, run.labels[target], float(said[target]), files, drop, *areas
        )
        curves = {} if tested is None else {n: (f.deletion, f.insertion) for n, f in tested.items()}
        picture = ExplainedImage(
            one.name, one.picture, top, run.labels[target], float(said[target]), drawn, curves
        )
        return explained, picture

    def _tested(
        self, one: _Opened, maps: dict[str, np.ndarray], target: int
    ) -> dict[str, Fidelity]:
        return fidelity(self._predictor, one.pixels, maps, target, batch=self._batch)

    def _activations(self, kind: str, one: _Opened, target: int) -> np.ndarray:
        network, shown = self._network, self._run.input_size
        if network is None:
            raise ValueError("no network for maps of activations")
        if kind == "grad-cam":
            return grad_cam(network, one.pixels[None], [target], shown)[0]
        return shares_of_score(network, one.pixels[None], [target], shown)[0]

    def shuffled(self, one: _Opened, label: str) -> list[tuple[str, list[tuple[str, float]]]]:
        """Of each kind of map, how like itself it stays while weights are shuffled."""
        target = self._run.labels.index(label)
        model = self._model or self._run.model()
        self._model = model
        layers = kernel_layers(model)
        found = []
        for kind in self.kinds:
            draw: Callable[[], np.ndarray]
            if kind == "occlusion":
                draw = self._coarsely(model, one, target)
            else:
                draw = partial(self._activations, kind, one, target)
            found.append((kind, shuffled(layers, draw)))
        return found

    def _coarsely(self, model: keras.Model, one: _Opened, target: int) -> Callable[[], np.ndarray]:
        """Draws an occlusion map by the weights that the model has at the time."""
        from tltool.features.keras_engine import KerasEngine

        engine = KerasEngine(model)

        def draw() -> np.ndarray:
            found = occlusion_map(
                engine,
                one.pixels,
                target,
                patch=self._patch,
                stride=self._stride,
                batch=self._batch,
                refine=False,
            )
            return found.drop

        return draw


def _verdicts(images: Sequence[Explained]) -> tuple[str, ...]:
    tested = [(x.deletion, x.insertion) for x in images if x.deletion and x.insertion]
    said = []
    for kind in tested[0][0] if tested else ():
        if kind != _RANDOM:
            covered = sum(deletion[kind] < deletion[_RANDOM] for deletion, _ in tested)
            put_in = sum(insertion[kind] > insertion[_RANDOM] for _, insertion in tested)
            said.append(
                f"{kind}: better than random orders on {covered} of {counted(len(tested), 'image')}"
                f" as places were covered, on {put_in} as they were put in."
            )
    return tuple(said)


def _mean_check(kind: str, tried: Sequence[Sequence[tuple[str, float]]]) -> MapCheck:
    layers = tuple(name for name, _ in tried[0])
    told = [[value for _, value in at if np.isfinite(value)] for at in zip(*tried, strict=True)]
    likeness = tuple(float(np.mean(values)) if values else None for values in told)
    return MapCheck(kind, layers, likeness, len(tried))
