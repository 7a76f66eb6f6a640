"""The images of a run, where they lie, and the features that its head sees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tltool._validation import TltoolError
from tltool.data import Example
from tltool.features import FeatureStore, default_store_folder
from tltool.predictor import on_images
from tltool.runs import Run

__all__ = ["RunImages", "run_features"]


@dataclass(frozen=True)
class RunImages:
    """The images of a run.

    Args:
        run: that was made of them.
        rows: file, label, split and sha256 of each.

    Raises:
        TltoolError: an older run, which did not note them.
    """

    run: Run
    rows: tuple[dict[str, str], ...]

    @classmethod
    def of(cls, run: Run) -> RunImages:
        """Those that its table lists."""
        rows = tuple(run.images())
        if not rows:
            raise TltoolError(
                f"{run.folder} was made by an older tltool, which did not note its images; adapt "
                "again."
            )
        return cls(run, rows)

    @cached_property
    def hashes(self) -> list[bytes]:
        """SHA-256 of each file."""
        return [bytes.fromhex(row["sha256"]) for row in self.rows]

    @cached_property
    def folder(self) -> Path:
        """Where names of files start from."""
        noted = self.run.facts.get("images_in")
        if noted and Path(noted).is_absolute() and Path(noted).is_dir():
            return Path(noted)
        data = Path(self.run.facts["settings"]["data"])
        return data if data.is_dir() else data.parent  # a table names files beside it

    @cached_property
    def paths(self) -> list[Path | None]:
        """Where each file is, if the data lie where they lay; None where that is not known."""
        paths = [self.folder / row["file"] for row in self.rows]
        return [path if path.is_file() else None for path in paths]

    def examples(self) -> list[Example]:
        """The images themselves.

        Raises:
            TltoolError: one of them is gone.
        """
        found = []
        for row, path, content in zip(self.rows, self.paths, self.hashes, strict=True):
            if path is None:
                raise TltoolError(
                    f"{row['file']} of {self.run.folder} is no longer in "
                    f"{self.run.facts['settings']['data']}; put the images back where they were."
                )
            found.append(Example(path, row["file"], row["label"], content, content, row["split"]))
        return found


def run_features(
    images: RunImages, store: str | Path | None = None, engine: str = "auto"
) -> np.ndarray:
    """What the last layer of a run's model is given, for each of its images: `(n, d)`, float32.

    From the store where it has all of them, else through the network.

    Args:
        images: of the run.
        store: folder of the feature store; None for the user's.
        engine: "auto", "keras" or "openvino".

    Raises:
        TltoolError: the run is an ensemble, or images are needed and gone.
    """
    run = images.run
    if run.is_ensemble:
        members = run.facts.get("members") or [{"run": "one of --strategy off-the-shelf"}]
        what = "members" if run.facts.get("members") else "classifiers"
        raise TltoolError(
            f"{run.folder} is an ensemble, whose {what} have features of their own; name another "
            f"run, such as {members[0]['run']}."
        )
    arrays = _stored(images, store)
    if arrays:
        return run.head_features(arrays)
    predictor = run.predictor(engine)
    return on_images(predictor, predictor.features, images.examples())


def _stored(images: RunImages, store: str | Path | None) -> list[np.ndarray]:
    """Features of each tap, `(n, d)`; nothing where the store lacks some."""
    run = images.run
    if store is None and not (default_store_folder() / "features.sqlite").is_file():
        return []
    with FeatureStore(store, create=False) as kept:
        numbers = [kept.find_space(space) for space in run.spaces.values()]
        try:
            return [
                kept.read_mean(number, images.hashes, run.n_views)
                for number in numbers
                if number is not None
            ] * all(number is not None for number in numbers)
        except KeyError:
            return []
