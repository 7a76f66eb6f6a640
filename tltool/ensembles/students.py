"""Distillation: one small network that learns from an ensemble."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tltool._validation import TltoolError
from tltool.backbones import boundary
from tltool.comparing import Comparison, compare, named
from tltool.ensembles.combined_run import comparison_table
from tltool.ensembles.results import EnsembleResult
from tltool.features import FeatureStore
from tltool.reporting import finish_report
from tltool.results import RunResult
from tltool.runs import Run
from tltool.settings import AdaptSettings, takes
from tltool.strategies import FineTune, split_off
from tltool.trained_networks import save_network
from tltool.workflow import adapt, result_of

__all__ = [
    "begun_by",
    "lacks_student",
    "of_member",
    "student_settings",
    "train_student",
    "with_student",
]

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

# Of settings for members, what is a matter of their network.
_OF_THE_NETWORK = ("tap", "input_size", "weights")

_STUDENT = "student"

# Strategies of members whose networks a student can go on from.
_GONE_ON_FROM = (FineTune.name, "soup")

_log = logging.getLogger(__name__)


def student_settings(backbone: str, given: Mapping[str, Any]) -> AdaptSettings:
    """Settings of a student, checked.

    Args:
        backbone: its network, `NAME` or `NAME=FILE`.
        given: settings of `adapt` beside it; those that fine-tuning has no use for, or that are a
            matter of other networks, are left out.

    Raises:
        TltoolError: one of them is wrong, or the weights are missing.
    """
    name, _, weights = backbone.partition("=")
    own = {
        key: value
        for key, value in given.items()
        if takes(FineTune.name, key) and key not in _OF_THE_NETWORK
    } | {"backbone": name, "strategy": FineTune.name, "recipe": _STUDENT}
    if own.get("cache") == "on":  # activations of pictures that must stay as they are
        own["augment"] = own.get("augment") or "none"
    if weights:
        own["weights"] = str(Path(weights).expanduser().resolve())
    if own.get("relabel"):
        own["relabel"] = str(Path(own["relabel"]).expanduser().resolve())
    settings = AdaptSettings.checked("ensemble", own)
    network = settings.make_backbone([])
    if settings.unfreeze not in (None, "auto"):
        try:
            boundary(network.preset, network.input_size, str(settings.unfreeze))
        except TltoolError:  # it is a block of the members
            _log.warning(
                "%s has no block %s to train from; its student is trained as if nothing were said "
                "of that.",
                network.preset.name,
                settings.unfreeze,
            )
            settings = replace(settings, unfreeze=None)
    return settings


def of_member(runs: Sequence[str | Path]) -> dict[str, Any]:
    """The images and splits of the first run that was adapted to them itself, as settings.

    Raises:
        TltoolError: all of them are ensembles, or their test images differ.
    """
    loaded_runs = [Run(run) for run in runs]
    tests = [{h for h, split in one.splits().items() if split == "test"} for one in loaded_runs]
    for one, test in zip(loaded_runs, tests, strict=True):
        if test != tests[0]:
            raise TltoolError(
                f"{named(loaded_runs[0])} and {named(one)} were not tested on the same images, so "
                "a student would learn from images that some of them is tested on; leave "
                "--distill-into out, or give runs of one --split-seed."
            )
    for loaded in loaded_runs:
        settings = loaded.facts["settings"]
        if "test" in settings:
            own = {key: settings[key] for key in _OF_IMAGES if settings.get(key) is not None}
            if loaded.relabel is not None:
                own["relabel"] = loaded.relabel
            seed = settings.get("split_seed")
            return own | {"split_seed": settings["seed"] if seed is None else seed}
    raise TltoolError(
        "All of these runs are ensembles, so nothing says how images were split; adapt a student "
        "with: tltool adapt DATA --strategy fine-tune --teacher RUN --split-seed SEED"
    )


def train_student(ensemble: Path) -> tuple[RunResult, Comparison]:
    """Fine-tune the student of a finished ensemble; or go on with that.

    It learns from the labels and from what the ensemble says, and goes into `student/` in its run
    folder. Where members were trained from the network and weights that it would begin with, it
    begins with that of the best of them instead, which is kept as `student.safetensors`.

    Returns:
        The student, and how it, the ensemble and its members compare.

    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015,
    https://arxiv.org/abs/1503.02531
    """
    run = Run(ensemble)
    student = _finished(run) or _trained(run)
    members = [member.folder for member in _members_of(run)]
    folder, seed = ensemble / _STUDENT, int(run.facts["settings"].get("seed") or 0)
    comparison = compare([ensemble, folder, *members], seed=seed, aside=folder)
    own = asdict(comparison_table(comparison, "Against its members and its student"))
    others = [table for table in run.facts["tables"] if table["anchor"] != own["anchor"]]
    run.add(
        {
            _STUDENT: student.as_json(),
            "comparison": comparison.as_json(),
            "tables": [*others, own],
        }
    )
    run.add(finish_report(Run(ensemble)))
    return student, comparison


def _finished(ensemble: Run) -> RunResult | None:
    """Its student, where that was trained and not yet compared."""
    student = Run.finished(ensemble.folder / _STUDENT)
    if student is None or student.facts["settings"]["teacher"] != ensemble.key:
        return None
    return result_of(student)


def _trained(ensemble: Run) -> RunResult:
    facts = ensemble.facts
    begun = facts["begun"].get("grow") or facts["begun"].get("combine")
    given = dict(facts["settings"][_STUDENT]) | {"teacher": str(ensemble.folder.resolve())}
    data, start = str(facts["settings"]["data"]), ensemble.folder / f"{_STUDENT}.safetensors"
    student = AdaptSettings(**given)
    judging = _judging(student, data, begun["store"])
    before = begun_by(_members_of(ensemble), student, judging)
    if before is not None:
        _log.info("The student begins with the network of %s.", named(before))
        save_network(before, start)
        given["weights"] = str(start.resolve())
    return adapt(data, out=ensemble.folder / _STUDENT, store=begun["store"], **given)


def _judging(student: AdaptSettings, data: str, store: str | None) -> set[str]:
    """Hashes of the images that say when its training stops."""
    with FeatureStore(store) as kept:
        dataset, _, _ = student.checked_images(student.listing(data), kept)
    examples = dataset.of("train", "val")
    _, held, _ = split_off(examples, student.seed)
    return {examples[i].hash.hex() for i in held}


def _members_of(ensemble: Run) -> list[Run]:
    """Its members, wherever it lies by now, that of the lowest log loss first."""

    def log_loss(member: Mapping[str, Any]) -> float:
        return math.inf if member["log_loss"] is None else float(member["log_loss"])

    found = []
    for member in sorted(ensemble.facts["members"], key=log_loss):
        place = Path(member["place"])
        inside = ensemble.folder / "members" / place.name
        moved = inside.is_dir() and not place.is_dir()
        found.append(Run(inside if moved or inside.resolve() == place else place))
    return found


def lacks_student(ensemble: Run) -> bool:
    """Whether a finished ensemble was to have a student that is not finished."""
    return bool(ensemble.facts["settings"].get(_STUDENT)) and not ensemble.facts.get(_STUDENT)


def with_student(found: EnsembleResult) -> EnsembleResult:
    """An ensemble and its student, compared with all members."""
    student, comparison = train_student(found.result.run)
    return replace(found, student=student, comparison=comparison)


def begun_by(
    members: Sequence[Run], student: AdaptSettings, judging: Collection[str] = ()
) -> Run | None:
    """The first of some members that a student can go on from; None where there is none.

    Its network was trained from the weights that the student would begin with, as high up as that
    uses them, and by none of the images that judge the student.

    Args:
        members: the best first.
        student: its settings.
        judging: hashes of those images.
    """
    backbone = student.make_backbone([])
    wanted = (
        backbone.preset.name,
        backbone.weights.hash,
        [str(part) for part in backbone.parts],
        list(backbone.input_size),
    )
    for run in members:
        if run.facts["strategy"] not in _GONE_ON_FROM or not run.trained_network:
            continue
        told = run.held_out()
        if not {*judging} <= {*(() if told is None else told.hashes)}:
            continue
        own = run.facts["settings"]
        if tuple(own[name] for name in ("backbone", "weights", "tap", "input_size")) == wanted:
            return run
    return None
