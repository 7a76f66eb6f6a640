"""Splits that are a function of content and seed: the same on every machine, in any order."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from tltool._validation import TltoolError, check_fraction
from tltool.data.dataset import Dataset, Example
from tltool.data.listing import SPLITS

__all__ = ["SplitReport", "check_shares", "split_dataset"]


@dataclass(frozen=True)
class SplitReport:
    """How the splits came about.

    Args:
        sizes: images by split.
        given: the splits that came with the data.
        moved: "class: split" for each class that the draw left without an image in a split and
            that was given one there.
    """

    sizes: dict[str, int]
    given: tuple[str, ...]
    moved: tuple[str, ...]


def split_dataset(
    dataset: Dataset, *, seed: int, test: float, val: float
) -> tuple[Dataset, SplitReport]:
    """Draw the splits that the data did not bring.

    A group of near-duplicates goes where its draw says: SHA-256 of the seed and the group's
    smallest content hash, read as a number in [0, 1), below `test` for the test split, below
    `test + val` for validation. So shares hold in expectation, and added images move none but
    their own group. A group of which the data have put an image into val or test is not drawn:
    its other images are trained on. A class that is left without an image in some split gives it,
    of its groups that it can spare, the one with the lowest draw.

    Args:
        dataset: as checked.
        seed: any whole number.
        test: share of the images to test on, above 0.
        val: share of the images to validate on.

    Raises:
        TltoolError: shares that leave nothing to train on, or a class with too few images.
    """
    check_shares(test, val)
    for split in dataset.given_splits - {"train"}:
        if not dataset.of(split):
            raise TltoolError(
                f"{dataset.source} brings a {split} split, and none of its images can be used; "
                "mend them, or take the split away so that one is drawn."
            )
    wanted = [
        s for s in SPLITS if s in dataset.given_splits or {"val": val, "test": test}.get(s, 1)
    ]
    drawn = [s for s in wanted if s not in dataset.given_splits or s == "train"]
    open_examples = [e for e in dataset.examples if e.split in ("", "train")]
    shares = {s: share for s, share in (("test", test), ("val", val)) if s in drawn}
    draws = {e.group: _draw(seed, e.group) for e in open_examples}
    given_away = {e.group for e in dataset.examples if e.split not in ("", "train")}
    split_of = {
        group: "train" if group in given_away else _split_at(draw, shares)
        for group, draw in draws.items()
    }
    moved: list[str] = []
    if len(drawn) > 1:
        moved = _complete_classes(open_examples, drawn, draws, split_of, given_away)
    examples = tuple(
        replace(e, split=split_of[e.group]) if e.split in ("", "train") else e
        for e in dataset.examples
    )
    done = replace(dataset, examples=examples)
    sizes = {s: len(done.of(s)) for s in wanted}
    given = tuple(s for s in SPLITS if s in dataset.given_splits)
    return done, SplitReport(sizes, given, tuple(moved))


def check_shares(test: float, val: float) -> None:
    """Refuse shares that are none, or that leave nothing to train on.

    Raises:
        TltoolError: they do.
    """
    check_fraction("--test", test, zero=False)
    check_fraction("--val", val, zero=True)
    if test + val >= 1:
        raise TltoolError(
            f"--test {test:g} and --val {val:g} leave nothing to train on; lower one of them."
        )


def _draw(seed: int, group: bytes) -> float:
    """A number in [0, 1) that follows from the seed and the group's smallest content hash."""
    digest = hashlib.sha256(str(int(seed)).encode() + b":" + group).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def _split_at(draw: float, shares: dict[str, float]) -> str:
    edge = 0.0
    for split, share in shares.items():
        edge += share
        if draw < edge:
            return split
    return "train"


def _complete_classes(
    examples: Iterable[Example],
    splits: list[str],
    draws: dict[bytes, float],
    split_of: dict[bytes, str],
    fixed: Collection[bytes],
) -> list[str]:
    """Give each class an image in each split, changing `split_of`; returns "class: split"s.

    Groups that are fixed stay where they are.
    """
    groups_of: dict[str, set[bytes]] = defaultdict(set)
    labels_of: dict[bytes, set[str]] = defaultdict(set)
    for e in examples:
        groups_of[e.label].add(e.group)
        labels_of[e.group].add(e.label)
    moved = []
    for label in sorted(groups_of):
        groups = sorted(groups_of[label], key=lambda g: (len(labels_of[g]), draws[g]))
        if len(groups) < len(splits):
            raise TltoolError(
                f"Class {label!r} has {len(groups)} distinct images (near-duplicates count as "
                f"one), and needs at least {len(splits)} to be in each of {', '.join(splits)}; "
                f"add some, {'or use --val 0, ' if 'val' in splits else ''}or remove the class."
            )
        for split in splits:
            members = defaultdict(list)
            for group in groups:
                members[split_of[group]].append(group)
            if members[split]:
                continue
            free = [g for g in groups if g not in fixed]
            spare = [g for g in free if _can_spare(g, labels_of, groups_of, split_of)]
            if not spare:
                raise TltoolError(
                    f"Class {label!r} cannot be put into each of {', '.join(splits)} because its "
                    "images are near-duplicates of other classes' images, or of those in given "
                    "splits; add some images to it."
                )
            split_of[spare[0]] = split
            moved.append(f"{label}: {split}")
    return moved


def _can_spare(
    group: bytes,
    labels_of: dict[bytes, set[str]],
    groups_of: dict[str, set[bytes]],
    split_of: dict[bytes, str],
) -> bool:
    """Whether every class of a group has another group in the same split."""
    return all(
        any(other != group and split_of[other] == split_of[group] for other in groups_of[label])
        for label in labels_of[group]
    )
