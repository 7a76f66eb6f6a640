"""The run folder: what is written, and what is read back on this machine or another."""

from __future__ import annotations

import csv
import io
import json
import shlex
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tltool._files import atomic_path, sha256_of, write_atomically
from tltool._keras import import_keras
from tltool._presets import views_for
from tltool._validation import TltoolError, nearest, storage_error
from tltool.data import Dataset, Example, TableColumns
from tltool.features import Space, choose_engine
from tltool.linear.linear_head import LinearHead
from tltool.linear.transforms import apply_of_one_image
from tltool.predictor import Predictor, head_of

if TYPE_CHECKING:
    import keras

__all__ = ["FORMAT", "RUNS", "Run", "RunWriter", "Said", "free_folder", "refuse_unwritable"]

FORMAT = 1
RUNS = Path("runs")  # where runs go that no folder is named for

_MODEL = "model.keras"
_LABELS = "labels.json"
_RUN = "run.json"
_PREDICTIONS = "predictions.csv"
_HELD_OUT = "held_out.csv"
_DATASET = "dataset.csv"
_HISTORY = "history.csv"


# What a run that is replaced may leave behind.
_NOT_OF_EVERY_RUN = (_HELD_OUT, _HISTORY, "maps.npz", "atlas.json")


class RunWriter:
    """A run folder in the making.

    Making one writes `state: running` into `run.json`; each file is replaced whole; `state:
    finished` comes last.

    Args:
        folder: new or empty, or a run that was not finished and has the same settings.
        settings: all that the outcome follows from, as JSON values.
        force: replace the files of a finished run, or of one with other settings.

    Raises:
        TltoolError: the folder holds something else, or cannot be written.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], *, force: bool = False) -> None:
        self.folder = folder
        self._facts: dict[str, Any] = {"format": FORMAT, "state": "running", "settings": settings}
        self.check_folder(folder, settings, force=force)
        self._new = not folder.is_dir() or not any(folder.iterdir())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.update({})
            for name in _NOT_OF_EVERY_RUN if force else ():
                (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise _not_written(folder, error) from error

    @staticmethod
    def check_folder(folder: Path, settings: dict[str, Any] | None, *, force: bool = False) -> None:
        """Never write over what somebody may want to keep; and say first what cannot be written.

        Args:
            folder: of the run.
            settings: None where they are not known yet, and any will do.
            force: see the class.

        Raises:
            TltoolError: the folder is a file, cannot be written to, holds something else, or a
                run that is finished or has other settings and is not to be replaced.
        """
        if folder.is_file():
            raise TltoolError(f"--out {folder} is a file; name a new folder.")
        refuse_unwritable(folder)
        if not folder.is_dir() or not any(folder.iterdir()):
            return
        if not (folder / _RUN).is_file():
            raise TltoolError(f"--out {folder} exists and is not a run; name a new folder.")
        if force:
            return
        facts = _read_facts(folder)
        if facts.get("state") == "finished":
            raise TltoolError(
                f"--out {folder} holds a finished run; name a new folder, or add --force to "
                "replace it."
            )
        if settings is not None and facts.get("settings") != settings:
            raise TltoolError(
                f"--out {folder} holds an unfinished run with other settings; name a new folder, "
                "or add --force to replace it."
            )

    def take_back(self) -> None:
        """Remove a folder that was new and in which nothing has been kept yet.

        What could not begin would stand in the way of what is asked for instead.
        """
        if self._new and [path.name for path in self.folder.iterdir()] == [_RUN]:
            (self.folder / _RUN).unlink()
            self.folder.rmdir()

    @staticmethod
    def can_continue(folder: Path, settings: dict[str, Any]) -> bool:
        """Whether a folder holds this very run, not yet finished."""
        try:
            facts = _read_facts(folder)
        except TltoolError:
            return False
        return facts.get("state") == "running" and facts.get("settings") == settings

    @staticmethod
    def begun(folder: Path) -> dict[str, Any]:
        """What an unfinished run was asked to do, as its maker gave it to `update`.

        Raises:
            TltoolError: it is no run, is finished, or does not say.
        """
        facts = _read_facts(folder)
        if facts.get("state") == "finished":
            raise TltoolError(f"{folder} is finished; there is nothing to go on with.")
        begun = facts.get("begun")
        if not isinstance(begun, dict):
            raise TltoolError(
                f"{folder} does not say how it was begun; give the command that began it again."
            )
        return begun

    @staticmethod
    def advised(folder: Path) -> dict[str, Any] | None:
        """The advice that an unfinished run follows, as its maker gave it to `update`."""
        advice = _read_facts(folder).get("advice")
        return advice if isinstance(advice, dict) else None

    def update(self, facts: dict[str, Any]) -> None:
        """Add to `run.json`."""
        self._facts |= facts
        self._write(_RUN, json.dumps(self._facts, indent=2, ensure_ascii=False) + "\n")

    def write_model(self, model: keras.Model) -> None:
        """`model.keras`."""
        with self._explained(_MODEL), atomic_path(self.folder / _MODEL) as path:
            model.save(path)

    def write_images(
        self,
        dataset: Dataset,
        probabilities: np.ndarray,
        held_out: tuple[Sequence[Example], np.ndarray] | None,
    ) -> None:
        """What there is a row of for each image.

        `labels.json`; `dataset.csv`: file, label, split and SHA-256 of every image of the run;
        `predictions.csv`: file, true and predicted class, and each class's probability;
        `held_out.csv`: the same of images before they were fitted on, out of fold or to validate
        by.

        Args:
            dataset: with its splits.
            probabilities: of its test images, `(n, k)`.
            held_out: images and their probabilities `(m, k)`; None where there are none.
        """
        labels = dataset.labels
        self._write(_LABELS, json.dumps(list(labels), indent=2, ensure_ascii=False) + "\n")
        rows = ((e.name, e.label, e.split, e.hash.hex()) for e in dataset.examples)
        self._write(_DATASET, _csv(("file", "label", "split", "sha256"), rows))
        self._write_said(_PREDICTIONS, dataset.of("test"), probabilities, labels)
        if held_out is not None:
            self._write_said(_HELD_OUT, *held_out, labels)

    def _write_said(
        self,
        name: str,
        examples: Sequence[Example],
        probabilities: np.ndarray,
        labels: Sequence[str],
    ) -> None:
        header = ("file", "true", "predicted", *(f"probability of {label}" for label in labels))
        body = (
            (e.name, e.label, labels[row.argmax()], *(f"{p:.7g}" for p in row))
            for e, row in zip(examples, probabilities, strict=True)
        )
        self._write(name, _csv(header, body))

    def write_history(self, epochs: Sequence[Mapping[str, Any]]) -> None:
        """`history.csv`: what came of each epoch, where there were any."""
        if epochs:
            rows = [["" if v is None else f"{v:.7g}" for v in e.values()] for e in epochs]
            self._write(_HISTORY, _csv(list(epochs[0]), rows))

    def finish(self) -> None:
        """Declare the run whole."""
        self.update({"state": "finished"})

    def _write(self, name: str, text: str) -> None:
        with self._explained(name):
            write_atomically(self.folder / name, text)

    def _explained(self, name: str) -> _Explained:
        return _Explained(self.folder / name)


@dataclass(frozen=True)
class _Explained:
    """Turns what a full or read-only disk raises, in any library, into one sentence."""

    path: Path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: object) -> None:
        if isinstance(error, OSError | RuntimeError) and not isinstance(error, TltoolError):
            remedy = "make room or name another place with --out, then run again"
            raise storage_error("write", self.path, error, remedy) from error


@dataclass(frozen=True)
class Said:
    """What a run said of images.

    Args:
        files: their names.
        hashes: their SHA-256, hexadecimal.
        targets: `(n,)`, true classes as numbers of the run's labels.
        probabilities: `(n, k)`, float64.
    """

    files: tuple[str, ...]
    hashes: tuple[str, ...]
    targets: np.ndarray
    probabilities: np.ndarray

    def of(
        self, images: Sequence[str], own: Sequence[str], labels: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Classes and probabilities of some images, in their order and that of some labels.

        Args:
            images: hashes, all among its own.
            own: labels in the run's order.
            labels: the same in another.
        """
        place = {content: i for i, content in enumerate(self.hashes)}
        rows = [place[content] for content in images]
        targets = np.array([labels.index(own[t]) for t in self.targets[rows]], np.int64)
        return targets, self.probabilities[rows][:, [own.index(label) for label in labels]]


class Run:
    """A finished run folder, wherever it lies.

    Args:
        folder: with `run.json`, `labels.json` and `model.keras`.
        unfinished: whether it may be one whose last files are being written.

    Raises:
        TltoolError: it is no run, was not finished, or was made by a newer tltool.

    Example:
        >>> run = Run("runs/flowers-resnet50")
        >>> probabilities = run.predictor()(pixels)
    """

    def __init__(self, folder: str | Path, *, unfinished: bool = False) -> None:
        self.folder = Path(folder).expanduser()
        self.facts = _read_facts(self.folder)
        if self.facts.get("state") != "finished" and not unfinished:
            raise TltoolError(
                f"{self.folder} was not finished; go on with it: tltool resume {self.folder}"
            )
        try:
            self.labels: tuple[str, ...] = tuple(
                json.loads((self.folder / _LABELS).read_text("utf-8"))
            )
            self.canvas_size = (
                int(self.facts["canvas"]["height"]),
                int(self.facts["canvas"]["width"]),
            )
            self.n_views = int(self.facts["canvas"].get("views", 1))
            height, width = self.facts.get("input_size", self.canvas_size)
            self.input_size = (int(height), int(width))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TltoolError(
                f"{self.folder} is a damaged run ({error}); copy it again from where it was made."
            ) from error
        if not (self.folder / _MODEL).is_file():
            raise TltoolError(f"{self.folder} has no {_MODEL}; copy the whole folder.")

    @classmethod
    def finished(cls, folder: str | Path) -> Run | None:
        """The run of a folder, if that holds one that is whole."""
        try:
            return cls(folder)
        except TltoolError:
            return None

    def add(self, facts: Mapping[str, Any]) -> None:
        """Add to `run.json` what came of it later.

        Raises:
            TltoolError: it cannot be written.
        """
        self.facts |= facts
        text = json.dumps(self.facts, indent=2, ensure_ascii=False) + "\n"
        with _Explained(self.folder / _RUN):
            write_atomically(self.folder / _RUN, text)

    @property
    def precision(self) -> str:
        """What the features were computed in."""
        return str(self.facts["settings"]["precision"])

    def model(self) -> keras.Model:
        """The Keras model: raw pixels `(n, height, width, 3)`, uint8, to probabilities `(n, k)`."""
        keras = import_keras()
        path = self.folder / _MODEL
        try:
            return keras.saving.load_model(path, compile=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise TltoolError(
                f"{path} cannot be loaded ({reason}); copy it again from where it was made."
            ) from error

    def predictor(self, engine: str = "auto", views: str | None = None) -> Predictor:
        """The model, ready to run.

        Args:
            engine: "auto", "keras" or "openvino".
            views: pictures of an image whose probabilities are averaged: "1", "2", "10", "12", or
                "auto" by the size of the input; None for what the model itself makes of an image.

        Raises:
            TltoolError: there are no such views, or they are random.
        """
        shown = None if views is None else views_for(views, self.input_size)
        if shown is not None and shown.random:
            raise TltoolError(
                f"--views {views} draws views at random, which is for training; predictions take "
                f"others, such as --views {shown.predict}."
            )
        return Predictor(self, choose_engine(engine), shown, fall_back=engine == "auto")

    @cached_property
    def key(self) -> str:
        """Tells the model from all others; a file name."""
        return f"run-{sha256_of(self.folder / _MODEL).hex()[:24]}"

    @property
    def trained_network(self) -> bool:
        """Whether its network's weights are no longer those of any backbone."""
        weights = {space.weights for space in self.spaces.values()}
        return bool(weights) and weights != {self.facts["settings"]["weights"]}

    def head(self) -> tuple[LinearHead, ...]:
        """The fully connected layers on the features, rectifiers between them; often one.

        It is kept in the cache folder, so that from the second time on Keras is not loaded.
        """
        return head_of(self)

    @property
    def spaces(self) -> dict[str, Space]:
        """Where the features of each tap and pooling are stored, if one classifier is given them.

        Empty in older runs.
        """
        if self.is_ensemble:
            return {}
        return {name: Space(**space) for name, space in self.facts.get("features", {}).items()}

    @property
    def columns(self) -> TableColumns:
        """Of the table that its images came from, where they are not the usual ones."""
        given = self.facts["settings"]
        names = ("image_column", "label_column", "split_column")
        return TableColumns.named({name: given.get(name) for name in names})

    @property
    def corrections(self) -> str | None:
        """Where the file of corrected labels was that it was made with, if any."""
        begun = (self.facts.get("begun") or {}).get("settings") or {}
        return self.facts.get("corrections") or begun.get("relabel")

    @property
    def relabel(self) -> str | None:
        """The same, which must be there still.

        Raises:
            TltoolError: it is gone, or is another by now.
        """
        given = self.corrections
        if given is None:
            return None
        try:
            same = sha256_of(Path(given)).hex() == self.facts["settings"]["relabel"]
        except OSError:
            same = False
        if not same:
            raise TltoolError(
                f"{given}, the corrections that {self.folder} was made with, is gone or has "
                "changed; put it back as it was."
            )
        return given

    @property
    def is_ensemble(self) -> bool:
        """Whether several classifiers are behind it, each with features of its own."""
        return bool(self.facts.get("members") or self.facts.get("choices", {}).get("mixture"))

    @property
    def extraction(self) -> str:
        """The options of `tltool extract` that give this run's features."""
        settings, views = self.facts["settings"], {s.views for s in self.spaces.values()}
        options = {
            "--backbone": settings["backbone"],
            "--tap": ",".join(self.spaces),
            "--input-size": "x".join(map(str, settings["input_size"])),
            "--views": next(iter(views), "1"),
            "--precision": settings["precision"],
        }
        return shlex.join(word for pair in options.items() for word in pair)

    def head_features(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """What the last layer is given, of features `(n, d)` of each tap."""
        widths = [array.shape[1] for array in arrays]
        steps = self.facts["choices"].get("transforms", [])
        features = apply_of_one_image(steps, widths, np.hstack(arrays))
        for layer in self.head()[:-1]:
            features = np.maximum(layer.scores(features), 0.0)
        return features

    def images(self) -> list[dict[str, str]]:
        """File, label, split and sha256 of every image of the run; empty if it was not kept."""
        return list(self._images)

    @cached_property
    def _images(self) -> list[dict[str, str]]:
        try:
            with (self.folder / _DATASET).open(encoding="utf-8", newline="") as file:
                return list(csv.DictReader(file))
        except OSError:
            return []

    def tested(self) -> Said:
        """What it said of its test images.

        Raises:
            TltoolError: it said nothing of any, or the tables of the run are damaged.
        """
        if not self.was_tested:
            raise TltoolError(
                f"{self.folder} holds no predictions of test images: {_PREDICTIONS} is missing or "
                "has no rows; copy the run again from where it was made, or make it again with "
                "test images."
            )
        return self._tested

    @cached_property
    def was_tested(self) -> bool:
        """Whether there are predictions of test images."""
        try:
            with (self.folder / _PREDICTIONS).open("rb") as file:
                return bool(file.readline() and file.readline().strip())
        except FileNotFoundError:
            return False

    @cached_property
    def _tested(self) -> Said:
        return self._said(_PREDICTIONS)

    def held_out(self) -> Said | None:
        """What was said of images before they were fitted on; None where there are none.

        Raises:
            TltoolError: the tables of the run are damaged.
        """
        return self._held_out

    @cached_property
    def _held_out(self) -> Said | None:
        return self._said(_HELD_OUT) if (self.folder / _HELD_OUT).exists() else None

    def _said(self, table: str) -> Said:
        hashes = {row["file"]: row["sha256"] for row in self._images}
        number = {label: i for i, label in enumerate(self.labels)}
        path = self.folder / table
        try:
            with path.open(encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file)
            columns = [header.index(f"probability of {label}") for label in self.labels]
            return Said(
                tuple(row[0] for row in rows),
                tuple(hashes[row[0]] for row in rows),
                np.array([number[row[1]] for row in rows], np.int64),
                np.array([[float(row[i]) for i in columns] for row in rows], np.float64),
            )
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise TltoolError(
                f"{path} or {_DATASET} beside it is damaged ({error}); copy the run again from "
                "where it was made."
            ) from error

    def splits(self) -> dict[str, str]:
        """Split by hexadecimal SHA-256 of every image of the run; empty if it was not kept."""
        return {row["sha256"]: row["split"] for row in self.images() if "sha256" in row}


def refuse_unwritable(folder: Path) -> None:
    """Say before any work that nothing can be written to a folder, which need not exist yet.

    Raises:
        TltoolError: nothing can.
    """
    try:
        above = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise _not_written(folder, error) from error


def _not_written(folder: Path, error: OSError) -> TltoolError:
    remedy = "name another place with --out, or make room"
    return storage_error("write to", folder, error, remedy)


def free_folder(data: str | Path, what: str, facts: Mapping[str, Any] | None = None) -> Path:
    """`runs/DATA-WHAT`, numbered where that holds something else.

    Args:
        data: as the user named it.
        what: was made of it.
        facts: settings of the run; a folder that holds it unfinished is free. None for none.
    """
    name = str(data).removeprefix("tfds:").rstrip("/")
    stem = Path(name).expanduser().resolve().stem if "tfds:" not in str(data) else name
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in stem) or "data"
    number = 1
    while True:
        folder = RUNS / f"{safe}-{what}{f'-{number}' if number > 1 else ''}"
        if not folder.exists() or (facts and RunWriter.can_continue(folder, dict(facts))):
            return folder
        number += 1


def _read_facts(folder: Path) -> dict[str, Any]:
    """`run.json` of a folder, once its format is known to be readable."""
    path = folder / _RUN
    if not folder.is_dir():
        siblings = [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else []
        hint = nearest(folder.name, siblings) if siblings else ""
        raise TltoolError(
            f"{folder} does not exist; "
            + (hint if hint.startswith("did") else "expected the folder of a run.")
        )
    try:
        facts = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise TltoolError(
            f"{folder} is not a run: it has no {_RUN}; expected a folder that tltool adapt wrote."
        ) from error
    except (OSError, ValueError) as error:
        raise TltoolError(
            f"{path} cannot be read ({error}); copy it again from where it was made."
        ) from error
    if not isinstance(facts, dict) or not isinstance(facts.get("format"), int):
        raise TltoolError(f"{path} is not a run's description; expected one that tltool wrote.")
    if facts["format"] > FORMAT:
        raise TltoolError(
            f"{folder} was made by a newer tltool (format {facts['format']}, this one reads up to "
            f"{FORMAT}); update tltool."
        )
    return facts


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
