"""Stratified folds that follow from content and seed, near-duplicates together."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from tltool.data import Example

__all__ = ["stratified_folds"]

# A class of one or two images must not decide how well C is chosen for all the others.
_FEWEST = 3


def stratified_folds(examples: Sequence[Example], most: int, seed: int) -> np.ndarray | None:
    """A fold number for each example, `(n,)`, int64.

    Each class's groups, in an order drawn from their content hashes and the seed, are dealt out
    like cards; a group of several classes goes by its first one. So the same images give the same
    folds in any order.

    Args:
        examples: the images.
        most: number of folds, if every class has as many groups. With a smaller class there are
            as many as it has groups, but three at least: it is then missing from some folds.
        seed: any whole number.

    Returns:
        None if every class has a single group, so that no folds can be made.
    """
    label_of: dict[bytes, str] = {}
    for e in sorted(examples, key=lambda e: (e.label, e.group)):
        label_of.setdefault(e.group, e.label)
    groups_of = defaultdict(list)
    for group, label in label_of.items():
        groups_of[label].append(group)
    sizes = [len(groups) for groups in groups_of.values()]
    count = min(most, max(sizes), max(_FEWEST, min(sizes)))
    if count < 2:
        return None
    fold_of = {}
    next_fold = 0
    for label in sorted(groups_of):
        for group in sorted(
            groups_of[label], key=lambda g: hashlib.sha256(b"%d:" % seed + g).digest()
        ):
            fold_of[group] = next_fold % count
            next_fold += 1
    return np.array([fold_of[e.group] for e in examples])
