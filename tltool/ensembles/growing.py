"""Images -> members, each a run of its own -> one run of them all."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tltool._files import printable, sha256_of
from tltool._presets import backbone_preset, recipe, recipe_names, views_for
from tltool._validation import TltoolError, check_int, check_option
from tltool.backbones import boundary
from tltool.backbones.layers import layer_table
from tltool.ensembles.combined_run import clear_parts, combine_runs
from tltool.ensembles.members import CombinedSettings
from tltool.ensembles.processes import Task, gpus, peak_memory, places_for, run_tasks
from tltool.ensembles.results import EnsembleResult, Growth
from tltool.features import FeatureStore
from tltool.runs import Run, RunWriter, free_folder
from tltool.settings import AdaptSettings, takes
from tltool.strategies import STRATEGIES, FeatureEnsemble, FineTune, FromScratch, OffTheShelf
from tltool.trained_networks import save_network
from tltool.workflow import absolute

__all__ = ["GrownSettings", "Planned", "grow"]

# What a process takes before it sees an image, and each parameter and activation in training:
# weights, gradients, momentum, the best so far; forwards, backwards and what is in flight.
_PROCESS = 1.2e9
_OF_PARAMETER, _OF_ACTIVATION = 16.0, 12.0
_BATCH = 32

# Strategies whose outcome depends on the seed by its folds alone.
_THE_SAME = (OffTheShelf.name, FeatureEnsemble.name)


@dataclass(frozen=True)
class Planned:
    """A member that is to be trained.

    Args:
        name: of its folder.
        settings: of its run.
        after: name of the member whose network it begins with; empty for the pretrained one.
    """

    name: str
    settings: AdaptSettings
    after: str = ""


@dataclass(frozen=True)
class GrownSettings:
    """What an ensemble that is made of images follows from.

    Args:
        backbones: names of presets; `NAME=FILE` for weights of one's own.
        strategies: of the members; each backbone is adapted with each.
        recipes: how members of a strategy are adapted, one after the other and then from the first
            again, with other seeds. None for the strategy's own, and those that it names as
            `variants` for members beyond the first.
        members: how many; None for one of each network and strategy, and of each recipe where they
            are named.
        snapshots: each of these is one training that goes through so many cycles of its learning
            rate, and the network at the end of each is a member.
        combine: see `CombinedSettings`.
        views: see there.
        soup: see there.
        student: settings of `adapt` of a network that learns from all; None for none.
        settings: of `AdaptSettings`, the same for all that have a use for them.
    """

    backbones: tuple[str, ...]
    strategies: tuple[str, ...] = (FineTune.name,)
    recipes: tuple[str, ...] | None = None
    members: int | None = None
    snapshots: int = 1
    combine: str = "auto"
    views: str | None = None
    soup: str | None = None
    student: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in self.backbones:
            if self.backbones.count(name) > 1:
                raise TltoolError(
                    f"--backbones names {name} twice; name it once, and more members of it with "
                    "--members."
                )
        CombinedSettings(combine=self.combine, soup=self.soup)  # what is wrong is told at once
        if relabel := (self.settings or {}).get("relabel"):  # the same file from any folder
            place = str(Path(relabel).expanduser().resolve())
            object.__setattr__(self, "settings", {**(self.settings or {}), "relabel": place})
        for name in self.strategies:
            check_option("--strategies", name, STRATEGIES)
        for name in self.recipes or ():
            if _strategy_of(name) not in self.strategies:
                raise TltoolError(
                    f"--recipes {name} is for --strategies {_strategy_of(name)}; name that, or "
                    "leave the recipe out."
                )
        if self.members is not None:
            check_int("--members", self.members, low=1)
        check_int("--snapshots", self.snapshots, low=1)
        if self.snapshots > 1 and set(self.strategies) != {FineTune.name}:
            raise TltoolError(
                f"--snapshots {self.snapshots} is for --strategies {FineTune.name} alone, whose "
                "next cycle begins where the last one ended."
            )

    def _ways(self) -> dict[str, tuple[str, ...]]:
        """Recipes of each strategy's members; a strategy that has none of its name is its own."""
        found: dict[str, tuple[str, ...]] = dict.fromkeys(self.strategies, ())
        for name in self.recipes or ():
            found[_strategy_of(name)] += (name,)
        for strategy, named in found.items():
            varied = self.recipes is None and strategy in recipe_names()
            own = (strategy, *(recipe(strategy).variants if varied else ()))
            found[strategy] = named or own
        return found

    def _rounds(self) -> Iterator[tuple[str, str, str, int]]:
        """Network, strategy, recipe and turn of members, as many as differ from each other."""
        ways = self._ways()
        for turn in itertools.count():
            different = [s for s, own in ways.items() if s not in _THE_SAME or turn < len(own)]
            for strategy in different:
                for network in self.backbones:
                    yield network, strategy, ways[strategy][turn % len(ways[strategy])], turn
            if not different:
                return

    def plan(self) -> list[Planned]:
        """The members.

        Raises:
            TltoolError: a single member, or several that would be the same.
        """
        once = sum(len(own) if self.recipes else 1 for own in self._ways().values())
        wished = self.members or once * len(self.backbones)
        chosen = list(itertools.islice(self._rounds(), wished))
        if len(chosen) < wished:
            raise TltoolError(
                f"--members {wished}: {chosen[-1][1]} fits the same classifier each time, so "
                f"members are no more than {len(chosen)}; add a strategy that trains, or recipes."
            )
        if len(chosen) * self.snapshots < 2:
            raise TltoolError(
                "One member is no ensemble; name several with --backbones or --strategies, or "
                "train several with --members 3."
            )
        base = dict(self.settings or {})
        seed = int(base.get("seed") or 0)
        given = {"split_seed": seed} | base
        found = []
        for i, (network, strategy, followed, turn) in enumerate(chosen):
            name, _, weights = network.partition("=")
            own = {
                setting: value
                for setting, value in given.items()  # what only some strategies take
                if takes(strategy, setting) or not any(takes(s, setting) for s in self.strategies)
            } | {"backbone": name, "strategy": strategy, "seed": seed + turn}
            if followed != strategy:
                own["recipe"] = followed
            if weights:
                own["weights"] = str(Path(weights).expanduser().resolve())
            settings = AdaptSettings.checked("ensemble", own)
            member = f"{i + 1}-{name}-{followed}"
            if self.snapshots == 1:
                found.append(Planned(member, settings))
            for cycle in range(self.snapshots if self.snapshots > 1 else 0):
                before = found[-1].name if cycle else ""
                found.append(Planned(f"{member}-cycle{cycle + 1}", settings, before))
        return found


def _strategy_of(name: str) -> str:
    """The strategy that a recipe is for."""
    return recipe(name).strategy or OffTheShelf.name


def grow(
    data: str | Path,
    out: Path | None,
    grown: GrownSettings,
    *,
    store: str | Path | None = None,
    jobs: int | None = None,
    force: bool = False,
) -> EnsembleResult:
    """Train members, and combine them.

    Args:
        data: as for `adapt`.
        out: the run folder, None for a new one under `runs/`; its members are run folders in
            `members/` inside it.
        grown: what follows from it.
        store: folder of the feature store.
        jobs: members at a time; None for what cores, memory and GPUs allow.
        force: replace a finished run.

    Raises:
        TltoolError: what `adapt` raises for a member, or `combine_runs` for all.
    """
    if jobs is not None:
        check_int("--jobs", jobs, low=1)
    plan = grown.plan()
    plan[0].settings.listing(data)
    facts = _facts(data, grown)
    out = out or free_folder(data, "ensemble", facts)
    RunWriter.check_folder(out, facts, force=force)
    for member in plan:  # what is wrong with one is told before any is trained
        backbone = member.settings.make_backbone([])
        size = backbone.input_size
        if (unfreeze := member.settings.unfreeze) not in (None, "auto"):
            boundary(backbone.preset, size, str(unfreeze))
        if grown.views is not None and views_for(grown.views, size).random:
            raise TltoolError(
                f"--views {grown.views} draws views at random, which is for training; take others."
            )
    if gpus():  # or the first process takes all of a GPU's memory
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    writer = RunWriter(out, facts, force=force)
    if force:  # they are of other settings, or other images
        clear_parts(out)
    place = None if store is None else str(Path(store).expanduser().resolve())
    asked = {"data": absolute(data), "store": place, "jobs": jobs}
    writer.update({"begun": {"grow": asked | asdict(grown)}})
    members = out / "members"
    tasks = [
        _task(data, member, members, store)
        for member in plan
        if Run.finished(members / member.name) is None
    ]
    started = time.perf_counter()
    places = places_for(tasks, jobs)
    if places > 1:  # features are extracted once, by all cores
        _extract(data, [member.settings for member in plan], store)
    run_tasks(tasks, places)
    growth = Growth(len(tasks), places, time.perf_counter() - started, peak_memory())
    base = plan[0].settings
    return combine_runs(
        [members / member.name for member in plan],
        out,
        CombinedSettings(
            combine=grown.combine,
            views=grown.views,
            soup=grown.soup,
            data=absolute(data),
            store=place,
            engine=base.engine,
            seed=base.seed_of_splits,
        ),
        writer=writer,
        growth=growth if tasks else None,
    )


def _facts(data: str | Path, grown: GrownSettings) -> dict[str, Any]:
    files = [Path(network.partition("=")[2]).expanduser() for network in grown.backbones]
    facts = asdict(grown)
    given = dict(grown.settings or {})
    if given.get("relabel"):  # what it says counts, not where it is
        given["relabel"] = sha256_of(Path(given["relabel"])).hex()
    return facts | {
        "backbones": list(grown.backbones),
        "own_weights": [sha256_of(file).hex() for file in files if file.is_file()],
        "strategies": list(grown.strategies),
        "recipes": None if grown.recipes is None else list(grown.recipes),
        "settings": given,
        **{f"{kind}_column": given.get(f"{kind}_column") for kind in ("image", "label", "split")},
        "relabel": given.get("relabel"),
        "strategy": "ensemble",
        "data": printable(absolute(data)),
        "precision": given.get("precision", AdaptSettings.precision),
        "seed": given.get("seed", 0),
        "weights": None,
    }


def _task(data: str | Path, member: Planned, members: Path, store: str | Path | None) -> Task:
    """The command that trains a member."""
    settings, folder, prepare = member.settings, members / member.name, None
    if member.after:
        start = members / f"{member.after}.safetensors"
        settings = replace(settings, weights=str(start.resolve()))
        prepare = partial(_save_end, members / member.after, start)
    arguments = ["adapt", absolute(data), "--out", str(folder), "--quiet"]
    if store is not None:
        arguments += ["--store", str(store)]
    arguments += settings.as_options()
    log = members / f"{member.name}.log"
    memory = _memory(member.settings)
    return Task(member.name, tuple(arguments), folder, log, memory, member.after, prepare)


def _save_end(before: Path, start: Path) -> None:
    """What the next cycle begins with; the same bytes as when it was begun before."""
    if not start.exists():
        save_network(Run(before), start)


def _memory(settings: AdaptSettings) -> float:
    """About how many bytes a member takes, at its size of images."""
    if settings.strategy not in (FineTune.name, FromScratch.name) or settings.backbone is None:
        return _PROCESS
    preset = backbone_preset(settings.backbone)
    rows = layer_table(preset, settings.make_backbone([]).input_size)
    activations = sum(math.prod(side or 1 for side in row.output_shape) for row in rows)
    batch = settings.batch_size or _BATCH
    return _PROCESS + _OF_PARAMETER * preset.parameters + _OF_ACTIVATION * batch * activations


def _extract(data: str | Path, members: Sequence[AdaptSettings], store: str | Path | None) -> None:
    """Features that members will read."""
    with FeatureStore(store) as kept:
        first = members[0]
        dataset, _, _ = first.checked_images(first.listing(data), kept)
        for settings in members:
            if settings.strategy != FromScratch.name:
                settings.make_strategy().extract(settings.make_source(kept), dataset)
