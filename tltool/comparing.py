"""Finished runs against each other, on the test images that they have in common."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tltool._files import printable
from tltool._validation import TltoolError
from tltool.comparison import PairComparison, adjusted, compare_predictions, mcnemar
from tltool.evaluation import Evaluation, evaluate_predictions
from tltool.runs import Run, Said

__all__ = [
    "Comparison",
    "Contestant",
    "Entrant",
    "compare",
    "comparison_of",
    "distinct_runs",
    "entrant",
    "named",
    "on_common_images",
]


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
        pairs: that one against each of the others; and the best of these against them, where that
            one was left aside.
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


def compare(
    runs: Sequence[str | Path], *, seed: int = 0, aside: str | Path | None = None
) -> Comparison:
    """Whether the most accurate of some runs is better than the others, or merely lucky.

    Args:
        runs: folders of two or more finished runs of the same classes.
        seed: of the resampling.
        aside: one of them, such as an ensemble's student; where it is the best, the best of the
            others is compared with the others, too.

    Returns:
        Their figures on the images that all of them were tested on, and the best one against each
        of the others; the probabilities are corrected for all pairs (Holm), since which run is the
        best is seen on the same images.

    Raises:
        TltoolError: fewer than two, one that is unfinished, different classes, or no image that all
            were tested on.

    Example:
        >>> tltool.compare(["runs/a", "runs/b"]).pairs[0].told_apart
        False
    """
    loaded = distinct_runs(runs, "compare")
    folders = [run.folder.resolve() for run in loaded]
    place = None if aside is None else folders.index(Path(aside).resolve())
    return comparison_of([entrant(run) for run in loaded], seed=seed, aside=place)


@dataclass(frozen=True)
class Entrant:
    """Who takes part in a comparison, and what it said of its test images.

    Args:
        name: it is told of by it.
        strategy: how it was adapted.
        backbone: the network.
        majority: number of the most frequent class in training.
        labels: the classes, in the order of what it said.
        said: of the images.
    """

    name: str
    strategy: str
    backbone: str
    majority: int
    labels: tuple[str, ...]
    said: Said


def entrant(run: Run) -> Entrant:
    """A finished run, to be compared.

    Raises:
        TltoolError: its tables are damaged.
    """
    facts = run.facts
    strategy, backbone = str(facts["strategy"]), str(facts["backbone"])
    return Entrant(named(run), strategy, backbone, int(facts["majority"]), run.labels, run.tested())


def comparison_of(
    entrants: Sequence[Entrant], *, seed: int = 0, aside: int | None = None
) -> Comparison:
    """The most accurate against each of the others, on the images that all said something of.

    Args:
        entrants: two or more, of the same classes.
        seed: of the resampling.
        aside: the place of one that takes no part in what is said of the others: where it is the
            best, they are compared among themselves, too.

    Raises:
        TltoolError: there is no such image, or they have different labels for the same one.
    """
    common, targets, probabilities = on_common_images(entrants)
    if not common:
        raise TltoolError(
            f"{entrants[0].name} and {entrants[-1].name} were not tested on the same images; "
            "give runs on the same data and --seed, or with the same test split."
        )
    found = [
        Contestant(
            one.name,
            one.strategy,
            one.backbone,
            evaluate_predictions(p, targets, majority=one.majority, seed=seed),
        )
        for one, p in zip(entrants, probabilities, strict=True)
    ]
    order = sorted(range(len(found)), key=lambda i: -found[i].evaluation.metrics["accuracy"].value)
    right = probabilities.argmax(axis=2) == targets
    every = list(itertools.combinations(order, 2))
    p_values = [
        mcnemar(int((right[i] & ~right[j]).sum()), int((right[j] & ~right[i]).sum()))
        for i, j in every
    ]
    corrected = dict(zip(every, adjusted(p_values), strict=True))
    compared = [(order[0], other) for other in order[1:]]
    if order[0] == aside:
        compared += [(order[1], other) for other in order[2:]]
    pairs = []
    for one, other in compared:
        names = found[one].run, found[other].run
        said = probabilities[one], probabilities[other]
        pair = compare_predictions(names, said, targets, seed=seed, tests=len(every))
        pairs.append(replace(pair, p_value=corrected[one, other]))
    sizes = [len(set(one.said.hashes)) for one in entrants]
    notes = [
        f"{one.name} was tested on {n:,} images; {len(common):,} of them count, which all runs "
        "were tested on."
        for one, n in zip(entrants, sizes, strict=True)
        if n > len(common)
    ]
    return Comparison(len(common), tuple(found[i] for i in order), tuple(pairs), tuple(notes))


def on_common_images(
    entrants: Sequence[Entrant],
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """What is said of the images that all said something of.

    Args:
        entrants: of the same classes, in any order.

    Returns:
        Hashes of the images, `n` of them; their classes as numbers of the first one's labels,
        `(n,)`; probabilities `(m, n, k)` in the order of these labels.

    Raises:
        TltoolError: they have different labels for the same image.
    """
    labels = entrants[0].labels
    common = sorted(set.intersection(*(set(one.said.hashes) for one in entrants)))
    found = [one.said.of(common, one.labels, labels) for one in entrants]
    targets = found[0][0]
    for one, (own, _) in zip(entrants, found, strict=True):
        if (own != targets).any():
            raise TltoolError(
                f"{entrants[0].name} and {one.name} have different labels for the same images; "
                "adapt both to the same data."
            )
    return common, targets, np.stack([p for _, p in found])


def distinct_runs(runs: Sequence[str | Path], purpose: str) -> list[Run]:
    """Two or more finished runs of the same classes.

    Args:
        runs: their folders.
        purpose: what they are wanted for, a verb.

    Raises:
        TltoolError: fewer, one that is unfinished or given twice, or different classes.
    """
    if isinstance(runs, str | Path) or len(runs) < 2:
        raise TltoolError(f"There must be at least two runs to {purpose}; give their folders.")
    loaded = [Run(run) for run in runs]
    folders = [run.folder.resolve() for run in loaded]
    for i, folder in enumerate(folders):
        if folder in folders[:i]:
            raise TltoolError(f"{named(loaded[i])} is given twice; give different runs.")
    for other in loaded[1:]:
        _refuse_other_classes(loaded[0], other)
    return loaded


def _refuse_other_classes(first: Run, other: Run) -> None:
    for one, more in ((first, other), (other, first)):
        lacking = [label for label in more.labels if label not in one.labels]
        if lacking:
            raise TltoolError(
                f"{named(more)} knows the class {lacking[0]!r} and {named(one)} does not; give "
                "runs of the same classes."
            )


def named(run: Run) -> str:
    """A run as it is told of."""
    return printable(str(run.folder))
