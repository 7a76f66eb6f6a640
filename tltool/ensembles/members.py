"""Runs that are to become one, how much each counts, and the graph of them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tltool._files import counted, printable
from tltool._presets import Views, views_for
from tltool._validation import TltoolError, check_option
from tltool.combining import (
    CANDIDATES,
    METHODS,
    CombinationChoice,
    choose_combination,
    too_few,
    usual_soup,
)
from tltool.comparing import Entrant, named, on_common_images
from tltool.data import (
    CheckReport,
    Dataset,
    Example,
    SplitReport,
    check_listing,
    read_listing,
)
from tltool.ensembles.results import MemberFacts
from tltool.ensembles.soups import SOUPS, can_be_averaged, held_out_of_all, make_soup
from tltool.features import FeatureStore
from tltool.linear.calibration import Calibration, choose_calibration
from tltool.linear.linear_head import softmax
from tltool.merging import combined_model, of_one_view, on_views
from tltool.metrics import log_losses
from tltool.report import ReportTable
from tltool.runs import Run
from tltool.strategies.folds import stratified_folds

if TYPE_CHECKING:
    import keras

__all__ = ["COMBINE", "NAME", "CombinedSettings", "Members", "Weighed"]

COMBINE = ("auto", *METHODS)
"""Ways to combine members."""

NAME = "ensemble"
"""The strategy that such a run names."""

_FOLDS = 5


@dataclass(frozen=True)
class CombinedSettings:
    """What a combined run follows from, besides its members.

    Args:
        combine: one of `COMBINE`.
        views: pictures of an image over which the probabilities of each member are averaged,
            instead of its own views; None for those.
        soup: how fine-tunings of one network are averaged into one member more, "greedy" or
            "uniform"; "none" for not at all; None for greedily, where it is left open how members
            are combined.
        data: the images, where they no longer are where the first member says; None otherwise.
        store: folder of the store, where inspections are kept; None for the user's.
        student: settings of `adapt` of a network that learns from it; None for none.
        engine: "auto", "keras" or "openvino".
        seed: of folds, bags and intervals.
    """

    combine: str = "auto"
    views: str | None = None
    soup: str | None = None
    data: str | None = None
    store: str | None = None
    student: Mapping[str, Any] | None = None
    engine: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_option("--combine", self.combine, COMBINE)
        if self.soup is None:
            object.__setattr__(self, "soup", usual_soup(self.combine))
        check_option("--soup", str(self.soup), ("none", *SOUPS))
        check_option("--engine", self.engine, ("auto", "keras", "openvino"))


class Members:
    """Runs that are to become one, and what they must have in common."""

    def __init__(
        self, runs: Sequence[Run], settings: CombinedSettings, weights: np.ndarray | None = None
    ) -> None:
        self.runs, self.settings = tuple(runs), settings
        self.labels = runs[0].labels
        self._views = [self._views_of(run) for run in runs]
        counting = np.ones(len(runs)) if weights is None else weights
        self._used = [
            (run, views)
            for run, views, weight in zip(runs, self._views, counting, strict=True)
            if weight > 0
        ]
        precisions = {run.precision for run, _ in self._used}
        self.precision = precisions.pop() if len(precisions) == 1 else "float32"
        sizes = [
            run.canvas_size if views is None else views.canvas_size(run.input_size)
            for run, views in self._used
        ]
        self.canvas_size = max(sizes, key=lambda size: (size[0] * size[1], size))
        self.changed = (
            len(set(sizes)) > 1
            or any(views is not None for _, views in self._used)
            or any(run.precision != "float32" for run, _ in self._used)
        )
        """Whether the members are shown other pixels than alone, or compute less exactly."""

    def counting(self, weights: np.ndarray) -> Members:
        """The same, where those that weigh nothing have no say in what the one model takes."""
        return Members(self.runs, self.settings, weights)

    def _views_of(self, run: Run) -> Views | None:
        if self.settings.views is None:
            return None
        views = views_for(self.settings.views, run.input_size)
        if views.random:
            raise TltoolError(
                f"--views {self.settings.views} draws views at random, which is for training; "
                f"take others, such as --views {views.predict}."
            )
        return None if views.count == 1 and run.n_views == 1 else views

    @property
    def backbones(self) -> str:
        """In words."""
        return _counted([str(run.facts["backbone"]) for run, _ in self._used])

    @property
    def views(self) -> str:
        """What was added to the members' own views; "1" for nothing."""
        return next((views.name for _, views in self._used if views is not None), "1")

    @property
    def folders(self) -> list[str]:
        return [str(run.folder.resolve()) for run in self.runs]

    def facts(self) -> dict[str, Any]:
        """All that the outcome follows from."""
        members = [
            {"run": printable(folder), "model": run.key}
            for folder, run in zip(self.folders, self.runs, strict=True)
        ]
        return (
            asdict(self.settings)
            | {f"{kind}_column": name for kind, name in asdict(self.runs[0].columns).items()}
            | {
                "strategy": NAME,
                "data": self._data,
                "members": members,
                "precision": self.precision,
                "relabel": self.runs[0].facts["settings"].get("relabel"),
                "weights": None,
            }
        )

    @property
    def _data(self) -> str:
        return self.settings.data or str(self.runs[0].facts["settings"]["data"])

    def dataset(self, cache: FeatureStore) -> tuple[Dataset, CheckReport, SplitReport]:
        """The images; those that all members tested are test images, and so on."""
        relabel = self.runs[0].relabel
        try:
            listing = read_listing(self._data, self.runs[0].columns, relabel)
        except TltoolError as error:
            if self.settings.data:
                raise
            raise TltoolError(
                f"The images of {named(self.runs[0])} cannot be read ({error}); say where they are "
                "now with --data."
            ) from error
        checked, report = check_listing(listing, cache=cache, for_training=False)
        self._refuse_other_labels(checked.examples)
        splits = [run.splits() for run in self.runs]

        def split_of(example: Example) -> str:
            content = example.hash.hex()
            found = {of_run.get(content, "") for of_run in splits}
            if "" in found:
                return ""
            return found.pop() if len(found) == 1 else "train"

        examples = tuple(replace(e, split=split_of(e)) for e in checked.examples)
        known = tuple(e for e in examples if e.split)
        sizes = Counter(e.split for e in known)
        kept = {name: sizes[name] for name in ("train", "val", "test") if sizes[name]}
        dataset = Dataset(checked.source, known, self.labels, frozenset(kept))
        return dataset, report, SplitReport(kept, (), ())

    def _refuse_other_labels(self, examples: Sequence[Example]) -> None:
        """Images whose class is not what it was when the members were made."""
        before = {row.get("sha256"): row["label"] for row in self.runs[0].images()}
        for example in examples:
            known = before.get(example.hash.hex(), example.label)
            if known != example.label:
                raise TltoolError(
                    f"{example.name} is of the class {example.label!r} now, and was of {known!r} "
                    f"when {named(self.runs[0])} was made; put it back, or adapt the members again."
                )

    def with_soups(
        self,
        out: Path,
        dataset: Dataset,
        check: CheckReport,
        splits: SplitReport,
        store: FeatureStore,
    ) -> tuple[Members, list[str]]:
        """The same and, of each network that several members have tuned, one of their averages.

        Returns:
            The members, and what is to be said of averages.
        """
        groups: dict[str, list[Run]] = {}
        for run in self.runs:
            if kind := can_be_averaged(run):
                groups.setdefault(kind, []).append(run)
        soups: list[Run] = []
        notes: list[str] = []
        several = [runs for runs in groups.values() if len(runs) > 1]
        for runs in several:
            held = len(held_out_of_all(runs, dataset))
            if not too_few(held, len(self.runs) + len(several)):
                folder = out / "members" / f"soup-{len(soups) + 1}-{runs[0].facts['backbone']}"
                engine, seed = self.settings.engine, self.settings.seed
                kind = str(self.settings.soup)
                data = dataset, check, splits
                soup = make_soup(runs, kind, *data, folder, store, engine, seed)
                if soup is not None:
                    soups.append(soup)
                else:
                    notes.append(
                        f"The best fine-tuning of {runs[0].facts['backbone']} is better alone than "
                        "averaged with any other, so there is no soup of it."
                    )
        if not soups and not notes:
            notes.append(
                f"--soup {self.settings.soup}: there are no two fine-tunings of one network with "
                "enough images that both held out, so nothing was averaged."
            )
        return (Members([*self.runs, *soups], self.settings) if soups else self), notes

    def weighed(self, dataset: Dataset) -> Weighed:
        """How much each member counts, by images that none of them was fitted on."""
        told = [run.held_out() for run in self.runs]
        lacking = [named(run) for run, one in zip(self.runs, told, strict=True) if one is None]
        m, k = len(self.runs), len(self.labels)
        known: list[Example] = []
        probabilities, targets = np.empty((m, 0, k)), np.empty(0, np.int64)
        if not lacking:
            entrants = [
                Entrant(named(run), "", "", 0, run.labels, one)
                for run, one in zip(self.runs, told, strict=True)
                if one is not None
            ]
            common, targets, probabilities = on_common_images(entrants)
            by_hash = {e.hash.hex(): e for e in dataset.of("train", "val")}
            rows = [i for i, content in enumerate(common) if content in by_hash]
            known = [by_hash[common[i]] for i in rows]
            targets, probabilities = targets[rows], probabilities[:, rows]
        folds = stratified_folds(known, _FOLDS, self.settings.seed) if known else None
        combine = self.settings.combine
        methods = CANDIDATES if combine == "auto" else (combine,)
        seed = self.settings.seed
        choice = choose_combination(probabilities, targets, folds, methods, seed=seed)
        calibration = Calibration.of_temperature(1.0, k, 0)
        if known:
            calibration = choose_calibration(choice.scores, targets, folds, calibrated=True)
        notes = [choice.note] if choice.note else []
        if lacking:
            notes.insert(
                0,
                f"{lacking[0]} says nothing of images that it was not fitted on, so members could "
                "not be weighed.",
            )
        return Weighed(choice, calibration, tuple(known), targets, probabilities, tuple(notes))

    def model(self, weighed: Weighed) -> keras.Model:
        """The one model."""
        return combined_model(
            [
                _shown(run, views, model)
                for run, views, model in zip(
                    self.runs, self._views, map(self._aligned, self.runs), strict=True
                )
            ],
            weighed.choice.chosen,
            weighed.calibration,
            self.canvas_size,
        )

    def _aligned(self, run: Run) -> keras.Model:
        """A member's model, its last layer in the order of the first one's classes."""
        model = run.model()
        order = [run.labels.index(label) for label in self.labels]
        if order != sorted(order):
            last = model.get_layer("predictions")
            last.set_weights([array[..., order] for array in last.get_weights()])
        return model


def _shown(run: Run, views: Views | None, model: keras.Model) -> keras.Model:
    """A member's model with other views than its own, if it is to have them."""
    if views is None:
        return model
    return on_views(of_one_view(model) if run.n_views > 1 else model, views, run.input_size)


@dataclass(frozen=True)
class Weighed:
    """How members become one, and by what.

    Args:
        choice: the method, and what the others were worth.
        calibration: of what it gives.
        known: images that no member was fitted on, `n` of them.
        targets: their classes, `(n,)`.
        probabilities: the members', `(m, n, k)`.
        notes: what should be known of it.
    """

    choice: CombinationChoice
    calibration: Calibration
    known: tuple[Example, ...]
    targets: np.ndarray
    probabilities: np.ndarray
    notes: tuple[str, ...]

    def scores(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated, of members' probabilities `(m, n, k)`."""
        return self.calibration.apply(self.choice.chosen.scores(probabilities))

    def held_out(self) -> tuple[tuple[Example, ...], np.ndarray] | None:
        """What it says of those images, fitted without the fold of each."""
        if not self.known:
            return None
        return self.known, softmax(self.calibration.apply(self.choice.scores))

    def members(self, runs: Sequence[Run]) -> tuple[MemberFacts, ...]:
        """What each member is worth on those images, and what it weighs."""
        found = []
        for run, weight, p in zip(
            runs, self.choice.chosen.weights, self.probabilities, strict=True
        ):
            accuracy = loss = None
            if self.known:
                accuracy = float((p.argmax(axis=1) == self.targets).mean())
                loss = float(log_losses(p, self.targets).mean())
            strategy, backbone = str(run.facts["strategy"]), str(run.facts["backbone"])
            place = printable(str(run.folder.resolve()))
            found.append(
                MemberFacts(named(run), place, strategy, backbone, float(weight), accuracy, loss)
            )
        return tuple(found)

    def choices(self) -> dict[str, Any]:
        """As JSON values."""
        table = {
            name: {"accuracy": accuracy, "log_loss": loss}
            for name, (accuracy, loss) in self.choice.table.items()
        }
        return {
            "combine": self.choice.chosen.method,
            "combining": table,
            "images": len(self.known),
            "nested_accuracy": self.choice.nested,
        }

    def described(self, members: Sequence[MemberFacts]) -> list[tuple[str, str]]:
        """In words."""
        method = self.choice.chosen.method
        said = f"{method}, of {counted(len(members), 'member')}"
        if self.choice.table:
            said += f", by {counted(len(self.known), 'image')} that none was fitted on"
        rows = [("Combined by", said)]
        if self.choice.nested is not None:
            rows.append(
                ("Estimated accuracy", f"{self.choice.nested:.3f}, by nested cross-validation")
            )
        unused = sum(member.weight == 0 for member in members)
        if unused:
            weigh = "weigh nothing are" if unused > 1 else "weighs nothing is"
            rows.append(("Left out", f"{counted(unused, 'member')} that {weigh} not in the model"))
        return rows

    def tables(self, members: Sequence[MemberFacts]) -> list[ReportTable]:
        """For the report."""

        def figure(value: float | None) -> str:
            return "" if value is None else f"{value:.3f}"

        rows = [
            (
                m.run,
                m.strategy,
                m.backbone,
                f"{m.weight:.2f}",
                figure(m.accuracy),
                figure(m.log_loss),
            )
            for m in members
        ]
        by = f"on {counted(len(self.known), 'image')} that none of them was fitted on"
        found = [
            ReportTable(
                "members",
                "Members",
                f"Accuracy and log loss are {by}." if self.known else "No images could weigh them.",
                ("Run", "Strategy", "Backbone", "Weight", "Accuracy", "Log loss"),
                rows,
                3,
            )
        ]
        if len(self.choice.table) > 1:
            methods = [
                (name, f"{accuracy:.3f}", f"{loss:.3f}")
                for name, (accuracy, loss) in self.choice.table.items()
            ]
            found.append(
                ReportTable(
                    "combining",
                    "How they were combined",
                    f"Ways to combine them, cross-validated {by}, each at the temperature that "
                    "suits it best; taken was the one with the lowest log loss: "
                    f"{self.choice.chosen.method}.",
                    ("Method", "Accuracy", "Log loss"),
                    methods,
                    2,
                )
            )
        return found


def _counted(names: Sequence[str]) -> str:
    """ "a, 2 x b"."""
    return ", ".join(
        name if count == 1 else f"{count} x {name}" for name, count in Counter(names).items()
    )
