"""Finished runs -> one run, whose model is all of them."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tltool._clock import Clock
from tltool._files import counted, printable, sha256_of
from tltool._validation import TltoolError
from tltool.comparing import (
    Comparison,
    Entrant,
    comparison_of,
    distinct_runs,
    entrant,
    named,
    on_common_images,
)
from tltool.data import Dataset
from tltool.ensembles.members import NAME, CombinedSettings, Members, Weighed
from tltool.ensembles.results import EnsembleResult, Growth
from tltool.evaluation import Judged, judge, majority_class
from tltool.features import FeatureStore, choose_engine
from tltool.linear.linear_head import softmax
from tltool.predictor import Predictor, on_images
from tltool.report import ReportTable, findings_in_words
from tltool.reporting import finish_report
from tltool.results import RunResult
from tltool.runs import Run, RunWriter, Said, free_folder
from tltool.workflow import images_in, versions

if TYPE_CHECKING:
    import keras

__all__ = ["clear_parts", "combine_runs", "comparison_table"]

_log = logging.getLogger(__name__)

# So many images are shown to the one model, where its members' tables tell the rest, and it may be
# so far from what they say together.
_ASKED, _AGREE = 16, 1e-3


def combine_runs(
    runs: Sequence[str | Path],
    out: Path | None,
    settings: CombinedSettings,
    *,
    writer: RunWriter | None = None,
    growth: Growth | None = None,
    force: bool = False,
) -> EnsembleResult:
    """One run of several, weighed by the images that none of them was fitted on.

    Args:
        runs: folders of two or more finished runs of the same classes.
        out: the run folder; None for a new one under `runs/`.
        settings: how they are combined.
        writer: of that folder, if it was begun already.
        growth: how the members came to be, if for this ensemble.
        force: replace a finished run.

    Returns:
        The figures on the images that all were tested on, and the members beside them.

    Raises:
        TltoolError: members that are too few, unfinished, of other classes, or were not tested on
            the same images; or data that is gone.
    """
    clock = Clock()
    members = Members(distinct_runs(runs, "combine"), settings)
    facts = members.facts()
    if out is None:
        out = free_folder(members.folders[0], NAME, facts)
    if str(out.resolve()) in members.folders:
        raise TltoolError(f"--out {out} is one of the members; name a new folder.")
    if writer is None:
        RunWriter.check_folder(out, facts, force=force)
    with clock.phase("check"), FeatureStore(settings.store) as cache:
        dataset, check, splits = members.dataset(cache)
    if not dataset.of("test"):
        first, last = members.runs[0], members.runs[-1]
        raise TltoolError(
            f"{named(first)} and {named(last)} were not tested on the same images, so nothing "
            "would tell what they are worth together; combine runs on the same data and --seed."
        )
    if writer is None:
        writer = RunWriter(out, facts, force=force)
        if force:
            clear_parts(out, members.folders)
        writer.update({"begun": {"combine": {"runs": members.folders, **asdict(settings)}}})
    warnings: list[str] = []
    if settings.soup != "none":
        with clock.phase("average"), FeatureStore(settings.store) as store:
            members, notes = members.with_soups(out, dataset, check, splits, store)
        if (settings.combine, settings.soup) != ("auto", "greedy"):  # they were asked for
            warnings += notes
    tested = [entrant(run) for run in members.runs]
    with clock.phase("fit"):
        weighed = members.weighed(dataset)
        members = members.counting(weighed.choice.chosen.weights)
        model = members.model(weighed)
    with clock.phase("evaluate"):
        writer.write_model(model)
        made = _Made(writer.folder, members, model)
        judged, notes = _test(made, members, weighed, dataset, tested)
        notes = [*warnings, *weighed.notes, *notes]
        for note in notes:
            _log.warning(note)
        comparison = _compared(out, members, dataset, judged, tested, settings.seed)
    facts_of_members = weighed.members(members.runs)
    result = RunResult(
        run=out,
        strategy=NAME,
        backbone=members.backbones,
        taps=(),
        input_size=members.canvas_size,
        views=members.views,
        labels=dataset.labels,
        n_train=len(dataset.of("train", "val")),
        n_val=len(dataset.of("val")),
        n_test=judged.evaluation.n,
        n_images=check.n_images,
        evaluation=judged.evaluation,
        seconds=({} if growth is None else {"train": growth.seconds}) | clock.seconds,
        bad_files=check.bad_files,
        choices=weighed.choices(),
        warnings=tuple(notes),
        notes=tuple(findings_in_words(check, splits)),
        described=(*weighed.described(facts_of_members), *judged.calibration_in_words()),
        calibration=judged.calibration_facts(),
    )
    ensemble = EnsembleResult(result, facts_of_members, comparison, growth)
    height, width = members.canvas_size
    writer.write_images(dataset, judged.probabilities, weighed.held_out())
    writer.update(
        ensemble.as_json()
        | {
            "classes": len(dataset.labels),
            "majority": judged.evaluation.majority,
            "corrections": members.runs[0].corrections,
            "canvas": {"height": height, "width": width, "views": 1},
            "check": asdict(check),
            "splits": asdict(splits),
            "versions": versions(),
            "images_in": images_in(dataset),
            "tables": [
                asdict(table)
                for table in (*weighed.tables(facts_of_members), comparison_table(comparison))
            ],
        }
    )
    writer.update(finish_report(Run(writer.folder, unfinished=True), model))
    writer.finish()
    return ensemble


def clear_parts(out: Path, keep: Sequence[str] = ()) -> None:
    """Take soups, members and student of an earlier ensemble out of its folder.

    Args:
        out: the run folder.
        keep: folders of runs that are wanted still.
    """
    of_student = (out / "student", out / "student.safetensors")
    for part in (*of_student, *sorted((out / "members").glob("*"))):
        wanted = str(part.resolve())
        if any(folder == wanted or folder.startswith(f"{wanted}/") for folder in keep):
            continue
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Made:
    """The one model before its run is finished."""

    folder: Path
    members: Members
    made: keras.Model
    n_views: int = 1

    @property
    def canvas_size(self) -> tuple[int, int]:
        return self.members.canvas_size

    input_size = canvas_size

    @property
    def precision(self) -> str:
        return self.members.precision

    @property
    def key(self) -> str:
        return f"run-{sha256_of(self.folder / 'model.keras').hex()[:24]}"

    def model(self) -> keras.Model:
        return self.made


def _test(
    made: _Made,
    members: Members,
    weighed: Weighed,
    dataset: Dataset,
    tested: Sequence[Entrant],
) -> tuple[Judged, list[str]]:
    """What the one model says of the test images, its figures, and what should be known of it.

    Where each member sees the pixels that it saw alone, that follows from what they said; the
    model is asked about a few images, to be sure.
    """
    examples = dataset.of("test")
    place, _, probabilities = on_common_images(tested)
    rows = {content: i for i, content in enumerate(place)}
    together = weighed.scores(probabilities[:, [rows[e.hash.hex()] for e in examples]])
    engine = members.settings.engine
    predictor = Predictor(made, choose_engine(engine), fall_back=engine == "auto")
    asked = examples if members.changed else examples[:_ASKED]
    own = on_images(predictor, predictor.scores, asked)
    apart = softmax(own) - softmax(together[: len(asked)])
    notes = []
    if members.changed:
        same = (own.argmax(axis=1) == together.argmax(axis=1)).mean()
        notes.append(
            "Members see other pixels in the one model than alone (several views of an image, or "
            "the largest canvas of all made smaller) or compute less exactly (in bfloat16), and "
            "were weighed by what they said alone; "
            f"of {counted(len(asked), 'test image')} {same:.1%} get the same answer. The figures "
            "are the one model's."
        )
    elif np.abs(apart).max() > _AGREE:
        raise TltoolError(
            f"{made.folder / 'model.keras'} is {np.abs(apart).max():.1g} from what its members say "
            "together, so it was not finished; combine them with --engine keras, and tell us."
        )
    majority = majority_class(dataset.targets(dataset.of("train", "val")), len(dataset.labels))
    scores = own if members.changed else together
    targets = dataset.targets(examples)
    seed = members.settings.seed
    return judge(scores, targets, weighed.calibration, majority=majority, seed=seed), notes


def _compared(
    out: Path,
    members: Members,
    dataset: Dataset,
    judged: Judged,
    tested: Sequence[Entrant],
    seed: int,
) -> Comparison:
    """The ensemble and its members, on the images that all were tested on."""
    examples = dataset.of("test")
    said = Said(
        tuple(e.name for e in examples),
        tuple(e.hash.hex() for e in examples),
        dataset.targets(examples),
        judged.probabilities,
    )
    whole = Entrant(
        printable(str(out)),
        NAME,
        members.backbones,
        judged.evaluation.majority,
        members.labels,
        said,
    )
    return comparison_of([whole, *tested], seed=seed)


def comparison_table(found: Comparison, title: str = "Against its members") -> ReportTable:
    """For the report: all that was compared, and what can be said of it."""
    rows = []
    for one in found.runs:
        accuracy, loss = (one.evaluation.metrics[name] for name in ("accuracy", "log_loss"))
        interval = f"{accuracy.low:.3f} to {accuracy.high:.3f}"
        error = one.evaluation.metrics["expected_calibration_error"].value
        rows.append(
            (
                one.run,
                one.strategy,
                f"{accuracy.value:.3f}",
                interval,
                f"{loss.value:.3f}",
                f"{error:.3f}",
            )
        )
    said = " ".join(pair.in_words() for pair in found.pairs)
    return ReportTable(
        "comparison",
        title,
        f"On {counted(found.n, 'test image')} that they have in common. {said}",
        ("Run", "Strategy", "Accuracy", "95 % interval", "Log loss", "Calibration error"),
        rows,
        4,
    )
