"""A run folder -> what its report shows."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tltool._files import counted
from tltool._presets import backbone_names, backbone_preset
from tltool._validation import TltoolError
from tltool.combining import usual_soup
from tltool.data import kinds_in_words
from tltool.label_errors import suspected_labels
from tltool.metrics import METRIC_NAMES, Interval
from tltool.report.card import CardSection
from tltool.report.predictions import Tested
from tltool.results import TRIED, tried_in_words
from tltool.run_features import RunImages
from tltool.runs import Run
from tltool.settings import AdaptSettings, adapt_options, own_settings

__all__ = ["PACKAGES", "DoubtedImage", "ReportTable", "RunContent", "words_of_ensemble"]

# Those whose version may change a figure.
PACKAGES = ("tltool", "keras", "tensorflow", "numpy", "openvino", "pillow", "simplejpeg")

_OF_TRIED = (
    "choice",
    "How the classifier was chosen",
    "By cross-validation on training and validation images, never on test ones; of each classifier "
    "and transforms the best penalty. The figure of the first row is the one that it was chosen "
    "by, and flatters it: what the choice is worth stands below as the estimated accuracy, from "
    "nested cross-validation.",
)


@dataclass(frozen=True)
class ReportTable:
    """A table of its own.

    Args:
        anchor: a name for links to it.
        title: above it.
        note: what is to be known of it; plain text.
        headings: of its columns.
        rows: texts.
        figures: how many of the last columns hold figures.
    """

    anchor: str
    title: str
    note: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: int = 0


@dataclass(frozen=True)
class DoubtedImage:
    """An image whose label is doubted.

    Args:
        file: its name.
        path: where it is; None where that is not known.
        content: SHA-256 of the file.
        split: of the run.
        given: its label.
        suggested: the class that it seems to be of.
        probability: of that.
    """

    file: str
    path: Path | None
    content: bytes
    split: str
    given: str
    suggested: str
    probability: float


class RunContent:
    """All that a run folder tells, in the words of its report.

    Args:
        run: finished.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.facts = run.facts
        for name in ("check", "splits", "metrics", "baselines"):
            if name not in self.facts:
                raise TltoolError(
                    f"{run.folder} was made by an older tltool, which did not note its {name}; "
                    "adapt again."
                )

    @cached_property
    def images(self) -> RunImages:
        """The images of the run."""
        return RunImages.of(self.run)

    @property
    def source(self) -> str:
        """The data as they were named."""
        return str(self.facts["check"]["source"])

    @property
    def folder_of_data(self) -> Path:
        """Where names of files start from."""
        return self.images.folder

    @property
    def model_in_words(self) -> str:
        """What was adapted, as a person would say it."""
        name = str(self.facts["backbone"])
        return backbone_preset(name).title if name in backbone_names() else name

    @property
    def title(self) -> str:
        """Of the page."""
        name = Path(self.source).name or self.source
        return f"{name}: {self.model_in_words}, {self.facts['strategy']}"

    @property
    def metrics(self) -> list[tuple[str, str, Interval]]:
        """Name, meaning and value of each figure."""
        return [
            (METRIC_NAMES[name].title, METRIC_NAMES[name].meaning, Interval(**value))
            for name, value in self.facts["metrics"].items()
        ]

    @cached_property
    def tested(self) -> Tested:
        """What was said of the test images."""
        said = self.run.tested()
        place = {row["file"]: i for i, row in enumerate(self.images.rows)}
        rows = [place[name] for name in said.files]
        return Tested(
            list(said.files),
            [self.images.paths[i] for i in rows],
            [self.images.hashes[i] for i in rows],
            said.targets,
            said.probabilities,
            self.run.labels,
        )

    @property
    def judged(self) -> int:
        """How many images something was said of before they were fitted on."""
        held = self.run.held_out()
        return len(self.run.tested().files) + (0 if held is None else len(held.files))

    @cached_property
    def doubted(self) -> list[DoubtedImage]:
        """Images whose labels are doubted, by what was said of them before they were fitted on."""
        said = [one for one in (self.run.held_out(), self.run.tested()) if one is not None]
        files = [name for one in said for name in one.files]
        probabilities = np.concatenate([one.probabilities for one in said])
        targets = np.concatenate([one.targets for one in said])
        place = {row["file"]: i for i, row in enumerate(self.images.rows)}
        found = []
        for suspect in suspected_labels(probabilities, targets):
            i = place[files[suspect.row]]
            row = self.images.rows[i]
            found.append(
                DoubtedImage(
                    row["file"],
                    self.images.paths[i],
                    self.images.hashes[i],
                    row["split"],
                    self.run.labels[suspect.given],
                    self.run.labels[suspect.suggested],
                    suspect.probability,
                )
            )
        return found

    @property
    def history(self) -> list[dict[str, float | None]]:
        """What came of each epoch of a training; empty where there was none."""
        path = self.run.folder / "history.csv"
        if not path.is_file():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [{k: float(v) if v else None for k, v in row.items()} for row in rows]

    @property
    def tables(self) -> list[ReportTable]:
        """Tables of its own that the run brings."""
        tried = tried_in_words(self.facts.get("choices", {}))
        found = [ReportTable(*_OF_TRIED, TRIED, tried, figures=2)] if len(tried) > 1 else []
        return found + [ReportTable(**one) for one in self.facts.get("tables", ())]

    @property
    def ignored(self) -> str:
        """Files that are no images, in words."""
        return kinds_in_words(self.facts["check"]["ignored"])

    @property
    def class_sizes(self) -> list[tuple[str, int]]:
        """Images by class, the most frequent first."""
        return sorted(self.facts["check"]["classes"].items(), key=lambda one: -one[1])

    @property
    def settings(self) -> list[tuple[str, str]]:
        """How it was made: names and values."""
        facts = self.facts
        given, weights = facts["settings"], facts.get("weights") or {}
        known = str(facts["backbone"]) in backbone_names()
        preset = backbone_preset(str(facts["backbone"])) if known else None
        rows = [("Strategy", str(facts["strategy"])), *map(tuple, facts.get("described", ()))]
        if preset is not None:
            rows.append(("Backbone", f"{preset.title}, {preset.parameters:,} parameters in all"))
        if given.get("tap"):
            rows.append(("Features", ", ".join(given["tap"])))
        rows += [
            ("Input", "{}x{} pixels".format(*facts["input_size"])),
            ("Views", str(facts.get("views", "1"))),
        ]
        if weights:
            rows += [("Weights", weights["source"]), ("Weights SHA-256", weights["sha256"])]
        if preset is not None:
            rows.append(("Source", preset.citation))
        rows += [
            ("Engine", f"{given.get('engine', 'auto')}, {given.get('precision', 'float32')}"),
            (
                "Fitted on",
                f"{facts['n_train']:,} images, {facts['n_val']:,} of them validation images",
            ),
            ("Model", self.run.key.removeprefix("run-") + " (first digits of its SHA-256)"),
            *((f"Check of {f['check']}", f"{f['level']}: {f['text']}") for f in facts["findings"]),
            *((f"Seconds to {name}", f"{s:.1f}") for name, s in facts["seconds"].items()),
        ]
        made_with = facts.get("versions") or {name: version(name) for name in PACKAGES}
        return [(str(name), str(value)) for name, value in [*rows, *made_with.items()]]

    @property
    def commands(self) -> list[str]:
        """What to type to have it again, and to use it."""
        run = shlex.quote(str(self.run.folder.resolve()))
        settings = self.facts["settings"]
        data = shlex.quote(str(settings.get("data") or self.source))
        columns = "".join(
            f" --{name}-column {shlex.quote(value)}"
            for name, value in asdict(self.run.columns).items()
            if value is not None
        )
        if self.run.corrections:
            columns += f" --relabel {shlex.quote(self.run.corrections)}"
        return [
            self.reproduced_by,
            f"tltool evaluate {run} {data} --split test{columns}",
            f"tltool predict {run} PHOTO.jpg",
            f"tltool explain {run} PHOTO.jpg",
        ]

    @property
    def advised_by(self) -> str:
        """The command that tells what the images speak for."""
        settings = self.facts["settings"]
        data = str(settings.get("data") or self.source)
        return shlex.join(["tltool", "advise", data, "--backbone", str(self.facts["backbone"])])

    @property
    def reproduced_by(self) -> str:
        """The command that makes the same run again."""
        begun = self.facts.get("begun") or {}
        for kind in ("combine", "grow"):
            if kind in begun:
                return shlex.join(["tltool", "ensemble", *words_of_ensemble(begun[kind])])
        given = begun.get("settings") or self.facts["settings"]
        data = begun.get("data") or self.source
        return shlex.join(["tltool", "adapt", data, *adapt_options(given)])

    @cached_property
    def card(self) -> list[CardSection]:
        """The model card, as far as its parts are known."""
        facts, check = self.facts, self.facts["check"]
        accuracy = Interval(**facts["metrics"]["accuracy"])
        labels = self.run.labels
        sizes = [n for _, n in self.class_sizes]
        named = ", ".join(labels[:20]) + (
            f" and {len(labels) - 20} more" if len(labels) > 20 else ""
        )
        weights = facts.get("weights") or {}
        mistakes = counted(len(self.tested.mistakes), "mistake")
        model = [
            f"{self.model_in_words}, adapted by {facts['strategy']} with tltool {self._made_by}."
        ]
        if weights:
            model.append(f"Weights it began with: SHA-256 {weights['sha256']}.")
        if str(facts["backbone"]) in backbone_names():
            origin = backbone_preset(str(facts["backbone"])).weights
            if origin.licence:
                model.append(f"Published weights of that network: {origin.licence}.")
        data = [
            f"{check['n_images']:,} images of {len(labels)} classes from {Path(self.source).name}: "
            f"{named}.",
            f"Images of a class: {min(sizes)} to {max(sizes)}.",
            f"Fitted on {facts['n_train']:,}, {facts['n_val']:,} of them to validate; tested on "
            f"{facts['n_test']:,} that no choice was made on.",
        ]
        if self.doubted:
            data.append(
                f"{counted(len(self.doubted), 'label')} of {self.judged:,} that were judged may be "
                "wrong."
            )
        figures = [
            f"{title}: {value.value:.3f} (95 % interval {value.low:.3f} to {value.high:.3f}; "
            f"{meaning})."
            for title, meaning, value in self.metrics
        ]
        always = facts["baselines"]["majority_class"]
        figures.append(f"Always naming the most frequent class: {always:.3f}.")
        limits = [
            "It names one of these classes on any picture whatever; low probabilities are the only "
            "sign that none of them is there (predict --min-confidence).",
            "Figures hold for images like the test images; other cameras, places or times were not "
            "tested.",
            f"With {mistakes} among {facts['n_test']:,} test images, accuracy is open between "
            f"{accuracy.low:.3f} and {accuracy.high:.3f}.",
            *(str(warning) for warning in facts.get("warnings", ())),
        ]
        return [
            CardSection("Model", tuple(model)),
            CardSection(
                "Intended use",
                (
                    f"To tell {len(labels)} classes of images apart that look like those it was "
                    "adapted to. Any other use, decisions about people among them, was not looked "
                    "at.",
                ),
            ),
            CardSection("Data", tuple(data)),
            CardSection("Figures", tuple(figures)),
            CardSection("Limits", tuple(limits)),
            CardSection("Made by", (self.reproduced_by,), code=True),
        ]

    @property
    def _made_by(self) -> str:
        made: Mapping[str, str] = self.facts.get("versions") or {}
        return made.get("tltool", version("tltool"))


# What `tltool ensemble` does where nothing is said.
_USUAL = {"combine": "auto", "engine": "auto", "seed": 0}


def words_of_ensemble(begun: Mapping[str, Any]) -> list[str]:
    """Arguments and options of the command that made an ensemble."""
    runs, data = begun.get("runs"), begun.get("data")
    words = [str(run) for run in runs] if runs else [str(data)]
    for name, value in begun.items():
        if name in ("runs", "settings") or (name == "data" and not runs):
            continue
        if value in (None, "", [], False) or value == _USUAL.get(name):
            continue
        if name == "soup" and value == usual_soup(str(begun.get("combine", "auto"))):
            continue
        if name == "student":
            weights = value.get("weights")
            network = str(value["backbone"]) + (f"={weights}" if weights else "")
            words += ["--distill-into", network]
            if runs:
                strategy = str(value["strategy"])
                usual = AdaptSettings(strategy=strategy)
                words += _words_of_settings(value, own_settings(strategy), usual)
            continue
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        words += [f"--{name.replace('_', '-')}", text]
    settings = begun.get("settings") or {}
    return words + _words_of_settings(settings, tuple(settings), AdaptSettings())


def _words_of_settings(
    settings: Mapping[str, Any], names: Sequence[str], usual: AdaptSettings
) -> list[str]:
    """Options for members or a student, of those of some names that are not as they usually are."""
    words = []
    for name in names:
        value = settings.get(name)
        if value is not None and value != getattr(usual, name, None):
            said = str(value).lower() if isinstance(value, bool) else str(value)
            words += [f"--{name}", said] if name in _USUAL else ["--set", f"{name}={said}"]
    return words
