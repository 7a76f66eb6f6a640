"""Of runs, or of images: one run that is an ensemble."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tltool._validation import TltoolError
from tltool.ensembles.combined_run import combine_runs
from tltool.ensembles.growing import GrownSettings, grow
from tltool.ensembles.members import CombinedSettings
from tltool.ensembles.results import EnsembleResult
from tltool.ensembles.students import (
    lacks_student,
    of_member,
    student_settings,
    train_student,
    with_student,
)
from tltool.results import RunResult
from tltool.runs import Run, RunWriter
from tltool.settings import AdaptSettings
from tltool.strategies import FineTune
from tltool.workflow import absolute
from tltool.workflow import resume as resume_adaptation

__all__ = ["ensemble", "resume"]

# Options of `adapt` that an ensemble has options of its own for.
_ELSEWHERE = {
    "backbone": "name networks with --backbones",
    "weights": "name weights with --backbones NAME=FILE",
    "strategy": "name strategies with --strategies",
    "recipe": "name recipes with --recipes",
    "seed": "use --seed, which the members' seeds follow from",
    "engine": "use --engine",
    "teacher": "members learn from labels; --distill-into makes a student",
}

_log = logging.getLogger(__name__)


def ensemble(
    sources: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    combine: str = "auto",
    views: str | None = None,
    soup: str | None = None,
    backbones: str | Sequence[str] | None = None,
    strategies: str | Sequence[str] | None = None,
    recipes: str | Sequence[str] | None = None,
    members: int | None = None,
    snapshots: int | None = None,
    jobs: int | None = None,
    distill_into: str | None = None,
    data: str | Path | None = None,
    store: str | Path | None = None,
    engine: str = "auto",
    seed: int = 0,
    force: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> EnsembleResult:
    """Several models made into one: of finished runs, or trained on images.

    Args:
        sources: folders of two or more finished runs; or one set of images, as for `adapt`.
        out: the run folder; None for a new one under `runs/`.
        combine: "mean", "geometric-mean", "weights" (of the mean with the lowest log loss),
            "greedy" (Caruana's selection), "stacking" (multinomial logistic regression), or "auto"
            for what has the lowest cross-validated log loss on images that no member was fitted on,
            one member alone among them.
        views: pictures of an image over which the probabilities of each member are averaged,
            instead of its own views: "1", "2", "10", "12", or "auto".
        soup: how fine-tunings of one network are averaged, weight by weight, into one member more:
            "greedy", "uniform", or "none". None for greedily where `combine` is "auto".
        backbones: of images, names of the members' networks, with commas or one by one;
            `NAME=FILE` for weights of one's own. None for the one that `adapt` would take.
        strategies: of images, how each network is adapted; None for fine-tuning.
        recipes: of images, names of recipes that members of a strategy follow, one after the other;
            None for the strategy's own and, for members that would else be trained like another,
            its variants.
        members: of images, how many to train; None for one of each network and strategy, and of
            each recipe where they are named. Further ones have other seeds.
        snapshots: of images, cycles of the learning rate that each training goes through; the
            network at the end of each cycle is a member (Huang et al., 2017). None for one.
        jobs: of images, members at a time; None for what cores, memory and GPUs allow.
        distill_into: the network of a student, `NAME` or `NAME=FILE`, which is fine-tuned on the
            labels and on what the ensemble says; its run is `student/` in the run folder.
        data: of runs, the images, where they are no longer where they were.
        store: folder of the feature store; None for the user's.
        engine: "auto", "keras" or "openvino".
        seed: of splits, of folds and of the first member; others have those that follow.
        force: replace a finished run.
        settings: options of `adapt` by name, `{"epochs": 5, "views": "1"}`, the same for all
            members that have a use for them, and for a student.

    Returns:
        Figures on the test images, its members, and how it compares with them.

    Raises:
        TltoolError: in one sentence, what is wrong and what to do.

    Example:
        >>> tltool.ensemble(["runs/a", "runs/b"]).result.evaluation.metrics["accuracy"]
        Interval(value=0.95, low=0.92, high=0.97)
    """
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    folder = None if out is None else Path(out).expanduser()
    place = None if store is None else str(Path(store).expanduser().resolve())
    own = {"engine": engine, "seed": seed}
    told = _checked_settings(settings)
    if not given:
        raise TltoolError("There is nothing to combine; give folders of runs, or of images.")
    if len(given) == 1 and not _is_run(given[0]):
        if not str(given[0]).startswith("tfds:") and not Path(given[0]).expanduser().exists():
            raise TltoolError(
                f"{given[0]} does not exist; give images to train members on, or folders of "
                "finished runs."
            )
        if data is not None:
            raise TltoolError(f"--data {data} says where images of runs are now; leave it out.")
        student = _student(distill_into, {"split_seed": seed} | told | own)
        grown = GrownSettings(
            backbones=_backbones(backbones),
            strategies=_names("--strategies", strategies or FineTune.name),
            recipes=None if recipes is None else _names("--recipes", recipes),
            members=members,
            snapshots=1 if snapshots is None else snapshots,
            combine=combine,
            views=views,
            soup=soup,
            student=student,
            settings=told | own,
        )
        found = grow(given[0], folder, grown, store=place, jobs=jobs, force=force)
        return found if student is None else with_student(found)
    for option, value in (
        ("--backbones", backbones),
        ("--strategies", strategies),
        ("--recipes", recipes),
        ("--members", members),
        ("--snapshots", snapshots),
        ("--jobs", jobs),
        *((f"--set {name}", value) for name, value in told.items() if distill_into is None),
    ):
        if value is not None:
            raise TltoolError(
                f"{option} is for members that are still to be trained; with finished runs it "
                "would do nothing, so leave it out."
            )
    images = None if data is None else absolute(data)
    student = (
        None if distill_into is None else _student(distill_into, of_member(given) | told | own)
    )
    chosen = CombinedSettings(combine, views, soup, images, place, student, engine, seed)
    found = combine_runs(given, folder, chosen, force=force)
    return found if student is None else with_student(found)


def _student(backbone: str | None, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Checked settings of a student, if there is to be one."""
    return None if backbone is None else asdict(student_settings(backbone, given))


def resume(run: str | Path, *, data: str | Path | None = None) -> RunResult | EnsembleResult:
    """Go on with a run or an ensemble that was interrupted; its outcome is that of an unbroken one.

    Args:
        run: its folder.
        data: its images, where they are no longer where they were; for an ensemble they have to be
            put back.

    Returns:
        The same as `adapt`, or as `ensemble`.

    Raises:
        TltoolError: it is no run, is finished, or its data cannot be read any more.

    Example:
        >>> result = tltool.resume("runs/photos-resnet50")
    """
    folder = Path(run).expanduser()
    whole = Run.finished(folder)
    if whole is not None and lacks_student(whole):
        return train_student(folder)[0]
    begun = RunWriter.begun(folder)
    kind = next((name for name in ("combine", "grow") if name in begun), None)
    if kind is None:
        return resume_adaptation(folder, data=data)
    if data is not None:
        raise TltoolError(
            f"{folder} is an ensemble, whose members name their images; put these back where they "
            "were, and leave --data out."
        )
    try:
        given = dict(begun[kind])
        store, student = given["store"], given["student"]
        if kind == "combine":
            runs = given.pop("runs")
            chosen = CombinedSettings(**given)
        else:
            images, jobs = given.pop("data"), given.pop("jobs", None)
            del given["store"]
            for name in ("backbones", "strategies", "recipes"):
                given[name] = None if given.get(name) is None else tuple(given[name])
            grown = GrownSettings(**given)
    except (KeyError, TypeError) as error:
        raise TltoolError(
            f"{folder} is a damaged run ({error}); give the command that began it again."
        ) from error
    if kind == "combine":
        found = combine_runs(runs, folder, chosen)
    else:
        found = grow(images, folder, grown, store=store, jobs=jobs)
    return found if student is None else with_student(found)


def _checked_settings(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of `adapt` for all members, if none of them has another place.

    Raises:
        TltoolError: one of them has.
    """
    for name, remedy in _ELSEWHERE.items():
        if given and name in given:
            raise TltoolError(f"--set {name}: {remedy}.")
    return dict(given or {})


def _is_run(source: str | Path) -> bool:
    """Whether it is, or is meant as, a run rather than images."""
    return (Path(source).expanduser() / "run.json").is_file()


def _backbones(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Those that were named, else the one that `adapt` would take."""
    if given is not None:
        parts = (name.partition("=") for name in _names("--backbones", given))
        return tuple(
            f"{name}={Path(file).expanduser().resolve()}" if file else name
            for name, _, file in parts
        )
    warnings: list[str] = []
    found = AdaptSettings().make_backbone(warnings)
    for warning in warnings:
        _log.warning(warning)
    return (found.preset.name,)


def _names(option: str, given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names with commas, or one by one."""
    parts = given.split(",") if isinstance(given, str) else list(given or ())
    names = tuple(part.strip() for part in parts if part.strip())
    if not names:
        raise TltoolError(f"{option} must name one or several, such as a,b; it names none.")
    return names
