"""Labels that are probably wrong: confident disagreement between them and what was predicted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Suspect", "suspected_labels"]

# Far more than a mean of equal probabilities is off by, far less than probabilities tell.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Suspect:
    """An image whose label is doubted.

    Args:
        row: its number.
        given: number of the class that it is labelled with.
        suggested: number of the class that it seems to be of.
        probability: of that class.
        margin: what the given class is less probable by, 0 to 1.
    """

    row: int
    given: int
    suggested: int
    probability: float
    margin: float


def suspected_labels(probabilities: np.ndarray, targets: np.ndarray) -> list[Suspect]:
    """Images that are confidently of another class than the one they are labelled with.

    An image is confidently of a class where that is at least as probable as it is on average for
    the images labelled so, and more probable than any other class of which the same is true.

    Args:
        probabilities: `(n, k)`, of images that were not fitted on: out of fold, or tested.
        targets: `(n,)`, the classes that they are labelled with.

    Returns:
        The most doubtful first: by how much less probable the given class is than the other. None
        of a class with a single image.

    Source: Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset
    Labels", 2021, https://doi.org/10.1613/jair.1.12125
    """
    n, k = probabilities.shape
    counts = np.bincount(targets, minlength=k)
    own = np.bincount(targets, probabilities[np.arange(n), targets], minlength=k)
    thresholds = np.where(counts > 0, own / np.maximum(counts, 1), np.inf)
    confident = np.where(probabilities >= thresholds - _ROUNDING, probabilities, -1.0)
    best = confident.argmax(axis=1)
    told = counts[targets] > 1  # of a class with one image, who judges it was shown none
    rows = np.flatnonzero((confident[np.arange(n), best] >= 0) & (best != targets) & told)
    found = [
        Suspect(
            int(row),
            int(targets[row]),
            int(best[row]),
            float(probabilities[row, best[row]]),
            float(probabilities[row, best[row]] - probabilities[row, targets[row]]),
        )
        for row in rows
    ]
    return sorted((s for s in found if s.margin > 0), key=lambda s: (-s.margin, s.row))
