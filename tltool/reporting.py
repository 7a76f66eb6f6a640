"""Reports of finished runs: one for each, or several side by side."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tltool._files import atomic_path, write_atomically
from tltool._validation import TltoolError, storage_error
from tltool.comparing import compare, distinct_runs
from tltool.data import UnreadableImageError, canvas
from tltool.report import (
    MOST_MISTAKES,
    RunContent,
    card_as_markdown,
    check_page_name,
    render_comparison,
    render_report,
)
from tltool.runs import Run
from tltool.saliency import SplitNetwork, grad_cam, shares_of_score

if TYPE_CHECKING:
    import keras

__all__ = ["finish_report", "write_report"]

_log = logging.getLogger(__name__)

_REPORT = "report.html"
_CARD = "model_card.md"
_MAPS = "maps.npz"
_ATLAS = "atlas.json"

# Places a side of the maps that are kept, and seconds that drawing them may take.
_SIDE = 32
_PATIENCE = 10.0


def write_report(
    runs: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    force: bool = False,
) -> Path:
    """The report of a run once more, or one of several runs side by side.

    Args:
        runs: a finished run folder, or several of the same classes.
        out: the page; None for `report.html` in the run's folder, or for `comparison.html` of
            several runs in the current one.
        force: replace a page that is there, other than the run's own report.

    Returns:
        Where the page is. A run's own report comes with `model_card.md` beside it, one elsewhere
        with a model card of its own name.

    Raises:
        TltoolError: no run, runs of other classes or tested on no image in common, or a page that
            cannot be written.

    Example:
        >>> tltool.write_report("runs/flowers")
        PosixPath('runs/flowers/report.html')
    """
    given = [runs] if isinstance(runs, str | Path) else list(runs)
    if not given:
        raise TltoolError("No run was named; name the folder of one that is finished.")
    named = None if out is None else Path(out).expanduser()
    if len(given) > 1:
        loaded = distinct_runs(given, "compare")
        page = named or Path("comparison.html")
        check_page_name(page, force=force)
        contents = [RunContent(run) for run in loaded]
        _write(page, render_comparison(contents, compare(given)))
        return page
    run = Run(given[0])
    own = run.folder / _REPORT
    page = named or own
    check_page_name(page, force=force or page.resolve() == own.resolve())
    _report(run, page, None)
    return page


def finish_report(run: Run, model: keras.Model | None = None) -> None:
    """Write `report.html` and `model_card.md` of a run into its folder.

    Args:
        run: all of whose other files are there.
        model: its own, where somebody has it in memory.
    """
    _report(run, run.folder / _REPORT, model)


def _report(run: Run, page: Path, model: keras.Model | None) -> None:
    content = RunContent(run)
    maps = _kept_maps(run)
    if maps is None:
        maps = _maps_of_mistakes(content, model)
        _keep(run, maps)
    atlas = run.folder / _ATLAS
    try:
        found: dict[str, Any] | None = json.loads(atlas.read_text("utf-8"))
    except (OSError, ValueError):
        found = None
    _write(page, render_report(content, maps, found))
    card = page.parent / _CARD if page.parent == run.folder else page.with_suffix(".md")
    _write(card, card_as_markdown(content.title, content.card))


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise storage_error("write", path, error, "name another place with --out") from error


def _maps_of_mistakes(content: RunContent, model: keras.Model | None) -> dict[str, np.ndarray]:
    """Of the surest mistakes, what spoke for the class that was named, `(rows, columns)` each."""
    tested, run = content.tested, content.run
    rows = [i for i in tested.mistakes[:MOST_MISTAKES] if tested.paths[i] is not None]
    if not rows:
        return {}
    started = time.perf_counter()
    found: dict[str, np.ndarray] = {}
    try:
        network = SplitNetwork(model or run.model())
    except TltoolError as error:  # nothing in it has places
        _log.debug("no maps: %s", error)
        return {}
    draw = shares_of_score if network.linear else grad_cam
    for i in rows:
        try:
            pixels = canvas(tested.paths[i].read_bytes(), run.canvas_size)[None]
        except (OSError, UnreadableImageError):
            continue
        one = draw(network, pixels, [int(tested.predicted[i])], run.input_size)[0]
        small = Image.fromarray(one).resize((_SIDE, _SIDE), Image.Resampling.BOX)
        found[tested.names[i]] = np.asarray(small)
        if time.perf_counter() - started > _PATIENCE:
            break
    return found


def _kept_maps(run: Run) -> dict[str, np.ndarray] | None:
    """Maps drawn when the run was made; None where there are none."""
    try:
        with np.load(run.folder / _MAPS, allow_pickle=False) as kept:
            return dict(zip(kept["files"].tolist(), kept["maps"].astype(np.float32), strict=True))
    except (OSError, ValueError, KeyError):
        return None


def _keep(run: Run, maps: dict[str, np.ndarray]) -> None:
    files = np.array(list(maps), dtype=np.str_)
    most = [max(float(np.abs(one).max()), 1e-12) for one in maps.values()]
    values = [(one / top).astype(np.float16) for one, top in zip(maps.values(), most, strict=True)]
    try:
        with atomic_path(run.folder / _MAPS) as path, path.open("wb") as file:
            array = np.stack(values) if values else np.empty((0, _SIDE, _SIDE), np.float16)
            np.savez_compressed(file, files=files, maps=array)
    except OSError as error:  # a run that cannot be written to can still be read
        _log.debug("maps were not kept: %s", error)
