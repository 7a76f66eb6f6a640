"""What `adapt`, `evaluate` and `predict` return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tltool._files import printable
from tltool.data import BadFile
from tltool.doctor import Finding
from tltool.evaluation import Evaluation
from tltool.strategies import PENALTIES

__all__ = ["TRIED", "Prediction", "RunResult", "tried_in_words"]


@dataclass(frozen=True)
class RunResult:
    """What `adapt` and `evaluate` found.

    Args:
        run: the run folder.
        strategy: how it was adapted.
        backbone: the network.
        taps: its layers that the features come from.
        input_size: height and width in pixels of what it is given.
        views: which pictures of an image it is shown.
        labels: the classes.
        n_train: images that the final classifier was fitted on, validation images included.
        n_val: how many of them are of the validation split.
        n_test: images that the figures are from.
        n_images: usable images in the data.
        evaluation: the figures.
        seconds: time for check, extract, fit and evaluate.
        bad_files: files that were skipped, and why.
        warnings: what puts the figures in doubt, a sentence each.
        notes: what the checks left out or moved, a sentence each.
        findings: what was found of the backbone on these images.
        choices: what was chosen on the way and by which figures, as JSON values.
        described: the same in words: names and values.
        calibration: how scores were calibrated and what that did to the test images, as JSON
            values; None where it is not known.
        advice: what the strategy follows from, as `Advice.as_json` gives it; None where it was
            named.
    """

    run: Path
    strategy: str
    backbone: str
    taps: tuple[str, ...]
    input_size: tuple[int, int]
    views: str
    labels: tuple[str, ...]
    n_train: int
    n_val: int
    n_test: int
    n_images: int
    evaluation: Evaluation
    seconds: dict[str, float]
    bad_files: tuple[BadFile, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    choices: dict[str, Any] = field(default_factory=dict)
    described: tuple[tuple[str, str], ...] = ()
    calibration: Mapping[str, Any] | None = None
    advice: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values; what `--json` prints."""
        return {
            "run": printable(str(self.run)),
            "strategy": self.strategy,
            "backbone": self.backbone,
            "taps": list(self.taps),
            "input_size": list(self.input_size),
            "views": self.views,
            "choices": self.choices,
            "calibration": None if self.calibration is None else dict(self.calibration),
            "advice": None if self.advice is None else dict(self.advice),
            "n_train": self.n_train,
            "n_val": self.n_val,
            "n_test": self.n_test,
            "metrics": {name: asdict(i) for name, i in self.evaluation.metrics.items()},
            "baselines": self.evaluation.baselines,
            "seconds": {name: round(s, 3) for name, s in self.seconds.items()},
            "bad_files": [asdict(bad) for bad in self.bad_files],
            "findings": [asdict(finding) for finding in self.findings],
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "described": [list(pair) for pair in self.described],
        }


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image.

    Args:
        file: its name.
        top: classes and their probabilities, best first.
        unsure: whether the best one is less probable than was asked for.
    """

    file: str
    top: tuple[tuple[str, float], ...]
    unsure: bool = False

    @property
    def answer(self) -> str:
        """The likeliest class, or "unsure"."""
        return "unsure" if self.unsure else self.top[0][0]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        label, probability = self.top[0]
        return {
            "file": self.file,
            "predicted": None if self.unsure else label,
            "unsure": self.unsure,
            "probability": probability,
            "top": [{"label": name, "probability": p} for name, p in self.top],
        }


TRIED = ("Cross-validated", "Transforms", "Penalty", "Accuracy", "Log loss")
"""Headings of what was cross-validated; the last two are of figures."""


def tried_in_words(choices: dict[str, Any]) -> list[tuple[str, ...]]:
    """Of each classifier and transforms that were cross-validated, the best value's figures.

    Returns:
        Rows of `TRIED`, the most accurate first.
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in choices.get("cross_validation", ()):
        key = (row["classifier"], *row["transforms"])
        if key not in rows or _rank(row) > _rank(rows[key]):
            rows[key] = row
    return [
        (
            row["classifier"],
            ", ".join(row["transforms"]) or "none",
            f"{PENALTIES[row['classifier']]} {row['value']:g}",
            f"{row['accuracy']:.3f}",
            f"{row['log_loss']:.3f}",
        )
        for row in sorted(rows.values(), key=_rank, reverse=True)
    ]


def _rank(row: dict[str, Any]) -> tuple[float, float]:
    return row["accuracy"], -row["log_loss"]
