"""Finished runs against each other, on the test images that they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tltool._files import printable
from tltool._validation import TltoolError
from tltool.comparison import PairComparison, adjusted, compare_predictions
from tltool.evaluation import Evaluation, evaluate_predictions
from tltool.runs import Run, Tested

__all__ = ["Comparison", "Contestant", "compare"]


@dataclass(frozen=True)
class Contestant:
    """A run that is compared.

    Args:
        run: its folder.
        strategy: how it was adapted.
        backbone: the network.
        evaluation: figures on the common images.
    """

    run: str
    strategy: str
    backbone: str
    evaluation: Evaluation


@dataclass(frozen=True)
class Comparison:
    """Runs on the same images.

    Args:
        n: number of images.
        runs: the most accurate first.
        pairs: that one against each of the others.
        notes: what should be known of it, a sentence each.
    """

    n: int
    runs: tuple[Contestant, ...]
    pairs: tuple[PairComparison, ...]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values; what `--json` prints."""
        return {
            "n": self.n,
            "runs": [
                {
                    "run": one.run,
                    "strategy": one.strategy,
                    "backbone": one.backbone,
                    "metrics": {k: asdict(v) for k, v in one.evaluation.metrics.items()},
                }
                for one in self.runs
            ],
            "pairs": [
                asdict(pair) | {"told_apart": pair.told_apart, "in_words": pair.in_words()}
                for pair in self.pairs
            ],
            "notes": list(self.notes),
        }


def compare(runs: Sequence[str | Path], *, seed: int = 0) -> Comparison:
    """Whether the most accurate of some runs is better than the others, or merely lucky.

    Args:
        runs: folders of two or more finished runs of the same classes.
        seed: of the resampling.

    Returns:
        Their figures on the images that all of them were tested on, and the best one against each
        of the others; the probabilities are corrected for being several (Holm).

    Raises:
        TltoolError: fewer than two, one that is unfinished, different classes, or no image that all
            were tested on.

    Example:
        >>> tltool.compare(["runs/a", "runs/b"]).pairs[0].told_apart
        False
    """
    loaded = _distinct(runs)
    labels = loaded[0].labels
    for other in loaded[1:]:
        _refuse_other_classes(loaded[0], other)
    tested = [run.tested() for run in loaded]
    common = sorted(set.intersection(*(set(one.hashes) for one in tested)))
    if not common:
        raise TltoolError(
            f"{_named(loaded[0])} and {_named(loaded[-1])} were not tested on the same images; "
            "give runs on the same data and --seed, or with the same test split."
        )
    aligned = [_aligned(run, one, common, labels) for run, one in zip(loaded, tested, strict=True)]
    targets, probabilities = aligned[0][0], [p for _, p in aligned]
    for run, (own, _) in zip(loaded, aligned, strict=True):
        if (own != targets).any():
            raise TltoolError(
                f"{_named(loaded[0])} and {_named(run)} have different labels for the same images; "
                "adapt both to the same data."
            )
    found = [
        Contestant(
            _named(run),
            str(run.facts["strategy"]),
            str(run.facts["backbone"]),
            evaluate_predictions(p, targets, majority=int(run.facts["majority"]), seed=seed),
        )
        for run, p in zip(loaded, probabilities, strict=True)
    ]
    order = sorted(range(len(found)), key=lambda i: -found[i].evaluation.metrics["accuracy"].value)
    best, others = order[0], order[1:]
    pairs = [
        compare_predictions(
            (found[best].run, found[i].run),
            (probabilities[best], probabilities[i]),
            targets,
            seed=seed,
        )
        for i in others
    ]
    corrected = adjusted([pair.p_value for pair in pairs])
    pairs = [replace(pair, p_value=p) for pair, p in zip(pairs, corrected, strict=True)]
    notes = [
        f"{_named(run)} was tested on {len(one.hashes):,} images; {len(common):,} of them count, "
        "which all runs were tested on."
        for run, one in zip(loaded, tested, strict=True)
        if len(one.hashes) > len(common)
    ]
    return Comparison(len(common), tuple(found[i] for i in order), tuple(pairs), tuple(notes))


def _aligned(
    run: Run, tested: Tested, images: Sequence[str], labels: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Classes and probabilities of some images, in their order and that of the labels."""
    place = {content: i for i, content in enumerate(tested.hashes)}
    rows = [place[content] for content in images]
    targets = np.array([labels.index(run.labels[t]) for t in tested.targets[rows]])
    return targets, tested.probabilities[rows][:, [run.labels.index(label) for label in labels]]


def _distinct(runs: Sequence[str | Path]) -> list[Run]:
    if isinstance(runs, str | Path) or len(runs) < 2:
        raise TltoolError("There must be at least two runs to compare; give their folders.")
    loaded = [Run(run) for run in runs]
    folders = [run.folder.resolve() for run in loaded]
    for i, folder in enumerate(folders):
        if folder in folders[:i]:
            raise TltoolError(f"{_named(loaded[i])} is given twice; give different runs.")
    return loaded


def _refuse_other_classes(first: Run, other: Run) -> None:
    for one, more in ((first, other), (other, first)):
        lacking = [label for label in more.labels if label not in one.labels]
        if lacking:
            raise TltoolError(
                f"{_named(more)} knows the class {lacking[0]!r} and {_named(one)} does not; give "
                "runs of the same classes."
            )


def _named(run: Run) -> str:
    return printable(str(run.folder))
