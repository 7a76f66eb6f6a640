"""Reports of finished runs: one for each, or several side by side."""

from __future__ import annotations

import json
import logging
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tltool._files import atomic_path, sha256_of, write_atomically
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
    same = page.resolve() == own.resolve()
    check_page_name(page, force=force or same)
    facts = _report(run, page, None, force=force)
    if facts:
        run.add(facts)
    return page


def finish_report(run: Run, model: keras.Model | None = None) -> dict[str, Any]:
    """Write `report.html` and `model_card.md` of a run into its folder.

    What goes wrong in drawing them costs the report, never the run.

    Args:
        run: all of whose other files are there.
        model: its own, where somebody has it in memory.

    Returns:
        What belongs into `run.json`.

    Raises:
        TltoolError: they cannot be written.
    """
    try:
        return _report(run, run.folder / _REPORT, model)
    except TltoolError:
        raise
    except Exception as error:
        _log.debug("no report", exc_info=True)
        _log.warning(
            "The report of %s could not be drawn (%s: %s); the run itself is whole. Try again "
            "with: tltool report %s",
            run.folder,
            type(error).__name__,
            " ".join(str(error).split())[:200],
            run.folder,
        )
        return {}


def _report(
    run: Run, page: Path, model: keras.Model | None, *, force: bool = True
) -> dict[str, Any]:
    own = page.resolve() == (run.folder / _REPORT).resolve()
    card = run.folder / _CARD if own else page.with_suffix(".md")
    if not own and card.exists() and not force:
        raise TltoolError(
            f"{card}, where the model card goes, exists; name another page with --out, or add "
            "--force to replace both."
        )
    content = RunContent(run)
    kept = _kept_maps(run)
    maps = kept | _maps_of_mistakes(content, model, kept)
    if len(maps) > len(kept):
        _keep(run, maps)
    _write(page, render_report(content, maps, _kept_atlas(run), card.name))
    by_hand = own and card.exists() and sha256_of(card).hex() != run.facts.get("model_card")
    if by_hand and run.facts.get("model_card"):
        _log.warning("%s was changed by hand and is left as it is.", card)
        return {}
    _write(card, card_as_markdown(content.title, content.card))
    return {"model_card": sha256_of(card).hex()} if own else {}


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise storage_error("write", path, error, "name another place with --out") from error


def _maps_of_mistakes(
    content: RunContent, model: keras.Model | None, kept: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Of the surest mistakes, what spoke for the class that was named, `(rows, columns)` each.

    Those that are kept are left out, and those whose images are gone or have changed.
    """
    tested, run = content.tested, content.run
    rows = [i for i in tested.mistakes[:MOST_MISTAKES] if tested.names[i] not in kept]
    images = {i: tested.image(int(i)) for i in rows}
    rows = [i for i in rows if images[i] is not None]
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
            pixels = canvas(images[i] or b"", run.canvas_size)[None]
        except UnreadableImageError:
            continue
        one = draw(network, pixels, [int(tested.predicted[i])], run.input_size)[0]
        small = Image.fromarray(one).resize((_SIDE, _SIDE), Image.Resampling.BOX)
        found[tested.names[i]] = np.asarray(small)
        if time.perf_counter() - started > _PATIENCE:
            break
    return found


def _kept_atlas(run: Run) -> dict[str, Any] | None:
    """The atlas of a run's layers; None where there is none, or one of an older tltool."""
    try:
        found: dict[str, Any] = json.loads((run.folder / _ATLAS).read_text("utf-8"))
        return found if all("spoiled" in layer for layer in found["layers"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _kept_maps(run: Run) -> dict[str, np.ndarray]:
    """Maps that were drawn before."""
    try:
        with np.load(run.folder / _MAPS, allow_pickle=False) as kept:
            return dict(zip(kept["files"].tolist(), kept["maps"].astype(np.float32), strict=True))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}


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
