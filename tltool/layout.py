"""Features laid out in the plane, and the nearest neighbours of each: over plain arrays."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any

import numpy as np

from tltool._keras import import_keras
from tltool._validation import TltoolError, check_int, check_option

__all__ = ["LAYOUTS", "check_layout", "lay_out", "neighbours"]

LAYOUTS = ("tsne", "umap")

# Dimensions that are laid out: those of the largest variance. Source: van der Maaten, Hinton,
# "Visualizing Data using t-SNE", 2008, section 4.1.
_DIMENSIONS = 50

# As many neighbours as an image is to have, if there are enough: the defaults of either method.
_PERPLEXITY = 30.0
_UMAP_NEIGHBOURS = 15

# Forces of far groups are taken together beyond it (Barnes-Hut). On 3,030 images of Caltech-101,
# 0.8 takes 14.5 s and scikit-learn's own 0.5 takes 21 s; the divergence is 1.54 against 1.51, and
# 62 % of the ten nearest on the map are of the same class with both.
_ANGLE = 0.8

# Up to so many images lie in a plane as they are: nothing is left to trade off.
_EXACT = 3

# The start is this small, as that of t-SNE must be, and identical rows start this far apart, of it.
_START = 1e-4
_APART = 1e-2

# Rows of length 1 that vary by less are all the same.
_ROUNDING = 1e-6

# Similarities held at a time: 64 MiB.
_BLOCK = 2**24


def check_layout(method: str) -> str:
    """The method if there is such a one and it is installed.

    Args:
        method: "tsne" or "umap".

    Raises:
        TltoolError: it is unknown, or needs a package that is not there.
    """
    check_option("--layout", method, LAYOUTS)
    if method == "umap" and find_spec("umap") is None:
        raise TltoolError(
            "--layout umap needs the package umap-learn: pip install 'tltool[umap]'; or take "
            "--layout tsne."
        )
    return method


def lay_out(features: np.ndarray, method: str = "tsne", seed: int = 0) -> np.ndarray:
    """Points in the plane, those of like features close together.

    Rows are scaled to length 1 first: distances are then cosines, as they are for `neighbours`, so
    that the map and the neighbours tell the same story. They are reduced to 50 dimensions by PCA.
    One thread does it all: sums then do not depend on the number of cores, and threads of OpenMP
    wait for each other so eagerly that two took twice as long as one beside another process.

    Args:
        features: `(n, d)`, float32, finite; two rows at least. Identical rows may be among them.
        method: "tsne" (scikit-learn's, Barnes-Hut) or "umap" (the package umap-learn).
        seed: any whole number from 0 to 2^32 - 1; the same one gives the same points.

    Returns:
        Points `(n, 2)`, float32, around 0.

    Raises:
        TltoolError: fewer than two rows, an unknown method, or one that is not installed.

    Example:
        >>> lay_out(np.eye(5, dtype=np.float32)).shape
        (5, 2)

    Source: van der Maaten, "Accelerating t-SNE using Tree-Based Algorithms", 2014; McInnes, Healy,
    Melville, "UMAP", 2018, https://arxiv.org/abs/1802.03426
    """
    check_layout(method)
    seed = check_int("seed", seed, low=0, high=2**32 - 1)
    n = len(features)
    if n < 2:
        raise TltoolError(f"A map needs at least two images, got {n}; give more.")
    with _one_thread():
        rows = _principal(_of_length_one(features))
        start = _start(rows, seed)
        if n <= _EXACT:
            return start
        points = (_tsne if method == "tsne" else _umap)(rows, start, seed)
    return (points - points.mean(axis=0)).astype(np.float32)


def neighbours(features: np.ndarray, k: int) -> np.ndarray:
    """The rows that are nearest to each by the cosine of the angle between them; exact.

    Args:
        features: `(n, d)`, float32.
        k: how many; at most n - 1 are given.

    Returns:
        Row numbers `(n, min(k, n - 1))`, int64, the nearest first, of equals the first row first;
        none is its own neighbour.

    Raises:
        TltoolError: `k` is no whole number of at least 1.

    Example:
        >>> neighbours(np.array([[1, 0], [1, 0.1], [0, 1]], np.float32), 1).ravel()
        array([1, 0, 1])
    """
    k = check_int("k", k, low=1)
    rows = _of_length_one(features)
    n = len(rows)
    k = min(k, max(n - 1, 0))
    found = np.empty((n, k), np.int64)
    step = max(1, _BLOCK // max(n, 1))
    for first in range(0, n, step):
        cosines = rows[first : first + step] @ rows.T
        own = np.arange(len(cosines))
        cosines[own, first + own] = -np.inf
        found[first : first + step] = _largest(cosines, k)
    return found


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k largest values of each row, `(m, k)`; of equals the first ones."""
    if not k:
        return np.empty((len(values), 0), np.int64)
    least = -np.partition(-values, k - 1, axis=1)[:, k - 1]
    found = np.empty((len(values), k), np.int64)
    for row, (one, low) in enumerate(zip(values, least, strict=True)):
        among = np.flatnonzero(one >= low)  # more than k where several are equal
        found[row] = among[np.argsort(-one[among], kind="stable")[:k]]
    return found


def _of_length_one(features: np.ndarray) -> np.ndarray:
    """Rows over their length; a row of zeros stays as it is."""
    rows = np.asarray(features, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _principal(rows: np.ndarray) -> np.ndarray:
    """Coordinates along the directions of the largest variance, `(n, m)`, float32, m at least 2."""
    n, d = rows.shape
    centred = rows - rows.mean(axis=0)
    kept = min(_DIMENSIONS, n, d)
    if d <= n:
        _, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
        found = centred @ directions[:, ::-1][:, :kept].astype(np.float32)
    else:  # the same from the products of the images, which are fewer
        squares, directions = np.linalg.eigh((centred @ centred.T).astype(np.float64))
        lengths = np.sqrt(np.maximum(squares[::-1][:kept], 0.0))
        found = (directions[:, ::-1][:, :kept] * lengths).astype(np.float32)
    # an eigenvector's sign is any; the largest coordinate is made positive
    signs = np.sign(found[np.abs(found).argmax(axis=0), np.arange(kept)])
    found = found * np.where(signs == 0, 1, signs).astype(np.float32)
    return np.pad(found, ((0, 0), (0, max(0, 2 - kept))))


def _start(rows: np.ndarray, seed: int) -> np.ndarray:
    """The first two coordinates, small, and a little moved so that no two are the same."""
    spread = float(rows[:, 0].std())
    spread = spread if spread > _ROUNDING else 1.0
    moved = np.random.default_rng(seed).normal(0.0, _APART, (len(rows), 2))
    return ((rows[:, :2] / spread + moved) * _START).astype(np.float32)


def _one_thread() -> AbstractContextManager[Any]:
    """While it lasts, libraries compute with one thread."""
    import sklearn.manifold  # noqa: F401 - threads of libraries that are loaded alone can be limited
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


def _tsne(rows: np.ndarray, start: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
    return TSNE(
        2, perplexity=perplexity, init=start, angle=_ANGLE, random_state=seed, n_jobs=1
    ).fit_transform(rows)


def _umap(rows: np.ndarray, start: np.ndarray, seed: int) -> np.ndarray:
    import_keras()  # umap loads TensorFlow, which is quiet this way
    from umap import UMAP

    # it takes a start of the size of its result
    return UMAP(
        n_components=2,
        n_neighbors=min(_UMAP_NEIGHBOURS, len(rows) - 1),
        init=start / _START,
        random_state=seed,
        n_jobs=1,
    ).fit_transform(rows)
