"""Distillation: one small network that learns from an ensemble."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tltool.comparing import compare
from tltool.ensembles.results import EnsembleResult
from tltool.runs import Run
from tltool.settings import AdaptSettings
from tltool.strategies import FineTune
from tltool.workflow import adapt

__all__ = ["distil", "student_settings"]

# Of a member, what its images and their splits follow from.
_OF_IMAGES = (
    "test",
    "val",
    "bad_images",
    "image_column",
    "label_column",
    "split_column",
    "precision",
)


def student_settings(
    backbone: str, given: Mapping[str, Any], member: Mapping[str, Any] | None = None
) -> AdaptSettings:
    """Settings of a student, checked.

    Args:
        backbone: its network, `NAME` or `NAME=FILE`.
        given: settings of `adapt` beside it.
        member: settings of a member whose images and splits are to be the same; None where
            `given` says so.

    Raises:
        TltoolError: one of them is wrong, or the weights are missing.
    """
    name, _, weights = backbone.partition("=")
    own = dict(given)
    if member is not None:
        own |= {key: member[key] for key in _OF_IMAGES if member.get(key) is not None}
        seed = member.get("split_seed")
        own["split_seed"] = member["seed"] if seed is None else seed
    own |= {"backbone": name, "strategy": FineTune.name}
    if weights:
        own["weights"] = str(Path(weights).expanduser().resolve())
    settings = AdaptSettings.checked("ensemble", own)
    settings.make_backbone([])
    return settings


def distil(
    found: EnsembleResult,
    settings: AdaptSettings,
    data: str | Path,
    store: str | Path | None,
    *,
    force: bool = False,
) -> EnsembleResult:
    """Fine-tune a network on the labels and on what an ensemble says, and compare all of them.

    Args:
        found: the ensemble; its student goes into `student/` in its run folder.
        settings: of the student.
        data: the images.
        store: folder of the feature store.
        force: replace a student that is there.

    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015,
    https://arxiv.org/abs/1503.02531
    """
    folder = found.result.run
    taught = replace(settings, teacher=str(folder))
    given = {name: getattr(taught, name) for name in taught.__dataclass_fields__}
    student = adapt(data, out=folder / "student", store=store, force=force, **given)
    runs: list[str | Path] = [folder, student.run, *(member.run for member in found.members)]
    seed = int(Run(folder).facts["settings"].get("seed") or 0)
    return replace(found, student=student, comparison=compare(runs, seed=seed))
