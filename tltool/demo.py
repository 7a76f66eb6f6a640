"""The demonstration: scikit-learn's digits as image files, and the main job on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tltool._validation import TltoolError, storage_error
from tltool.results import RunResult
from tltool.workflow import adapt

__all__ = ["run_demo", "write_digits"]

# The digits' grey levels run from 0 to 16.
_LEVELS = 16.0


def write_digits(folder: Path) -> int:
    """Write the 1,797 handwritten digits of scikit-learn as `LABEL/NUMBER.png`, 8x8 pixels.

    Returns:
        The number of images.

    Raises:
        TltoolError: the folder cannot be written.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    try:
        for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            place = folder / str(label)
            place.mkdir(parents=True, exist_ok=True)
            grey = np.rint(pixels * (255.0 / _LEVELS)).astype(np.uint8)
            Image.fromarray(grey).save(place / f"{number:04d}.png")
    except OSError as error:
        raise storage_error(
            "write to", folder, error, "name another place with --out, or make room"
        ) from error
    return len(digits.images)


def run_demo(folder: Path, seed: int = 0) -> RunResult:
    """Adapt the embedded network to the digits, in a folder of the demonstration's own.

    Args:
        folder: gets `digits/` with the images, `store/` with the features, and `run/`.
        seed: of the splits.
    """
    data, run = folder / "digits", folder / "run"
    _refuse_foreign(folder, data)
    write_digits(data)
    return adapt(
        data,
        backbone="cifar-resnet20",
        out=run,
        store=folder / "store",
        force=True,
        seed=seed,
    )


def _refuse_foreign(folder: Path, data: Path) -> None:
    """Only a new folder, an empty one, or an earlier demonstration's is written to."""
    names = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    known = names <= {"digits", "run", "store"}
    try:
        facts = json.loads((folder / "run" / "run.json").read_text("utf-8"))
        known = known and facts["settings"]["data"] == str(data.resolve())
    except FileNotFoundError:
        known = known and "run" not in names
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise TltoolError(
            f"{folder} holds something other than a demonstration; name a new folder with --out."
        )
