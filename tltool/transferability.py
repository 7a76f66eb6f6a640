"""How well features will serve a task, told without training: scores over plain arrays."""

from __future__ import annotations

import numpy as np

__all__ = ["h_score", "leep", "log_evidence", "nce", "nearest_neighbours"]

# Iterations of the fixed point, and the change of alpha / beta at which it has converged.
_ITERATIONS = 100
_CONVERGED = 1e-5

_SMALLEST = 1e-30

# Of the sphere in a covariance, however little the images ask for: it can be inverted then.
_LEAST_SHRINKAGE = 1e-6

# Images that are looked at, whatever the features, since scores are compared: beyond it they change
# little, and cost much.
_MOST_IMAGES = 4000

# Images that ask for their neighbours, and how many at a time.
_MOST_ASKING = 3000
_ASKING = 256


def log_evidence(features: np.ndarray, targets: np.ndarray, n_classes: int) -> float:
    """LogME: the logarithm of the evidence of a linear model of each class, an image and class.

    The likelihood of each class's indicator, averaged over all linear models with a Gaussian
    prior; the precisions of prior and noise are those that make it largest.

    Args:
        features: `(n, d)`.
        targets: `(n,)`, class numbers.
        n_classes: how many there are; those without images are left out.

    Returns:
        Higher is better; only comparable on the same images.

    Source: You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning",
    2021, https://arxiv.org/abs/2102.11005
    """
    features, targets = _some(features, targets)
    f = np.asarray(features, np.float64)
    n, d = f.shape
    # n x n or d x d, whichever is smaller: both have the same squared singular values
    if n < d:
        values, basis = np.linalg.eigh(f @ f.T)
    else:
        values, vectors = np.linalg.eigh(f.T @ f)
        kept = values > max(float(values[-1]), _SMALLEST) * 1e-12
        values, vectors = values[kept], vectors[:, kept]
        basis = f @ vectors / np.sqrt(values)
    kept = values > max(float(values[-1]) if len(values) else 0.0, _SMALLEST) * 1e-12
    values, basis = values[kept], basis[:, kept]
    _, rows, counts = np.unique(targets, return_inverse=True, return_counts=True)
    indicators = np.eye(len(counts))[rows]
    squares = (basis.T @ indicators) ** 2
    found = [_evidence(values, squares[:, c], float(counts[c]), n, d) for c in range(len(counts))]
    return float(np.mean(found))


def _evidence(values: np.ndarray, squares: np.ndarray, length_of_y: float, n: int, d: int) -> float:
    """Of one class, an image; by the fixed point of alpha and beta."""
    outside = max(length_of_y - float(squares.sum()), 0.0)
    if not len(values):  # features that are all zero leave the noise alone
        return 0.5 * (np.log(n / max(outside, _SMALLEST)) - np.log(2 * np.pi) - 1.0)
    alpha = beta = 1.0
    for _ in range(_ITERATIONS):
        ratio = alpha / beta
        effective = float((values / (ratio + values)).sum())
        length = float((values * squares / (ratio + values) ** 2).sum())
        residual = float((squares * (ratio / (ratio + values)) ** 2).sum()) + outside
        alpha = effective / max(length, _SMALLEST)
        beta = (n - effective) / max(residual, _SMALLEST)
        if abs(alpha / beta - ratio) <= _CONVERGED * ratio:
            break
    ratio = alpha / beta
    length = float((values * squares / (ratio + values) ** 2).sum())
    residual = float((squares * (ratio / (ratio + values)) ** 2).sum()) + outside
    determinant = float(np.log(alpha + beta * values).sum()) + (d - len(values)) * np.log(alpha)
    evidence = (
        n * np.log(beta)
        + d * np.log(alpha)
        - n * np.log(2 * np.pi)
        - beta * residual
        - alpha * length
        - determinant
    )
    return float(evidence) / (2 * n)


def h_score(features: np.ndarray, targets: np.ndarray) -> float:
    """The share of the features' variance that lies between classes, summed over all directions.

    `trace(cov(f)^-1 cov(E[f | class]))`, with the covariance of the features drawn towards a sphere
    by Ledoit and Wolf's rule: without that, more features than images give the number of classes
    less one, whatever they are worth.

    Args:
        features: `(n, d)`.
        targets: `(n,)`, class numbers.

    Returns:
        From 0 to the number of classes less one.

    Source: Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer
    Learning", 2019; with shrinkage: Ibrahim et al., "Newer is not always better: Rethinking
    Transferability Metrics", 2021, https://arxiv.org/abs/2110.06893
    """
    features, targets = _some(features, targets)
    f = np.asarray(features, np.float64)
    f = f - f.mean(axis=0)
    n, d = f.shape
    present, rows = np.unique(targets, return_inverse=True)
    counts = np.bincount(rows).astype(np.float64)
    means = np.zeros((len(present), d))
    np.add.at(means, rows, f)
    weighted = means / np.sqrt(n * counts)[:, None]  # cov(E[f | class]) = weighted.T @ weighted
    small = f @ f.T / n if n < d else f.T @ f / n
    sphere = float(np.trace(small)) / d
    if not sphere > 0:
        return 0.0
    shrinkage = _ledoit_wolf(f, small, sphere)
    penalty = max(shrinkage, _LEAST_SHRINKAGE) * sphere
    if n < d:  # (F'F/n * (1 - s) + p)^-1 by images
        inner = (1 - shrinkage) * small + penalty * np.eye(n)
        turned = weighted @ f.T
        across = weighted @ weighted.T
        solved = np.linalg.solve(inner, turned.T)
        kept = (across - (1 - shrinkage) / n * turned @ solved) / penalty
        return float(np.trace(kept)) * (1 - shrinkage)
    covariance = (1 - shrinkage) * small + penalty * np.eye(d)
    solved = np.linalg.solve(covariance, weighted.T)
    return float(np.trace(weighted @ solved)) * (1 - shrinkage)


def _ledoit_wolf(f: np.ndarray, small: np.ndarray, sphere: float) -> float:
    """How far the covariance of centred features is to be drawn towards a sphere.

    Source: Ledoit and Wolf, "A Well-Conditioned Estimator for Large-Dimensional Covariance
    Matrices", 2004; scikit-learn's `ledoit_wolf_shrinkage`, which it equals.
    """
    n, d = f.shape
    norm = float((small**2).sum())  # the same by images and by features
    apart = norm - d * sphere**2
    fourth = float(((f**2).sum(axis=1) ** 2).sum()) / n
    noise = min((fourth - norm) / n, apart)
    return 0.0 if apart <= 0 or noise <= 0 else noise / apart


def leep(source_probabilities: np.ndarray, targets: np.ndarray) -> float:
    """LEEP: mean log-likelihood of the classes told through the network's own ones.

    Args:
        source_probabilities: `(n, k)`: of the classes that the network was trained on.
        targets: `(n,)`, class numbers.

    Returns:
        At most 0; higher is better.

    Source: Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned
    Representations", 2020, https://arxiv.org/abs/2002.12462
    """
    p = np.asarray(source_probabilities, np.float64)
    n = len(targets)
    present, rows = np.unique(targets, return_inverse=True)
    joint = np.zeros((len(present), p.shape[1]))
    np.add.at(joint, rows, p / n)
    given = joint / np.maximum(joint.sum(axis=0), _SMALLEST)
    likelihood = (p @ given.T)[np.arange(n), rows]
    return float(np.log(np.maximum(likelihood, _SMALLEST)).mean())


def nce(source_classes: np.ndarray, targets: np.ndarray) -> float:
    """Minus the entropy that the classes keep once the network's own class is known, in nats.

    Args:
        source_classes: `(n,)`: the likeliest of the classes that the network was trained on.
        targets: `(n,)`, class numbers.

    Returns:
        At most 0; higher is better.

    Source: Tran et al., "Transferability and Hardness of Supervised Classification Tasks", 2019,
    https://arxiv.org/abs/1908.08142
    """
    _, told = np.unique(source_classes, return_inverse=True)
    _, rows = np.unique(targets, return_inverse=True)
    joint = np.zeros((told.max() + 1, rows.max() + 1))
    np.add.at(joint, (told, rows), 1 / len(targets))
    given = joint / joint.sum(axis=1, keepdims=True)
    logs = np.log(given, where=joint > 0, out=np.zeros_like(joint))
    return float((joint * logs).sum())


def nearest_neighbours(
    features: np.ndarray, targets: np.ndarray, groups: np.ndarray, k: int = 5
) -> np.ndarray:
    """Whether each image's class is that of most of its nearest, itself and its copies left out.

    Args:
        features: `(n, d)`; the nearest have the highest cosine.
        targets: `(n,)`, class numbers.
        groups: `(n,)`, numbers; images of one are near-duplicates of each other.
        k: how many vote; of equals the class of the nearest wins.

    Returns:
        `(m,)`, bool, of at most 3,000 images spread evenly over all.
    """
    f = np.asarray(features, np.float32)
    f = f / np.maximum(np.linalg.norm(f, axis=1, keepdims=True), np.float32(_SMALLEST))
    n = len(targets)
    k = min(k, n - 1)
    asking = _spread(n, _MOST_ASKING)
    hits = np.zeros(len(asking), bool)
    n_classes = int(targets.max()) + 1
    for start in range(0, len(asking), _ASKING):
        rows = asking[start : start + _ASKING]
        likeness = f[rows] @ f.T
        likeness[groups[rows][:, None] == groups[None, :]] = -np.inf
        near = np.argpartition(-likeness, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(likeness, near, axis=1), axis=1, kind="stable")
        near = np.take_along_axis(near, order, axis=1)
        known = np.isfinite(np.take_along_axis(likeness, near, axis=1))
        votes = np.zeros((len(rows), n_classes))
        # a later vote counts a little less, which only decides between equals
        for place in range(k):
            votes[np.arange(len(rows)), targets[near[:, place]]] += known[:, place] * (
                1 - 1e-3 * place
            )
        hits[start : start + len(rows)] = votes.argmax(axis=1) == targets[rows]
    return hits


def _some(features: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """No more images than a score needs."""
    rows = _spread(len(features), _MOST_IMAGES)
    return features[rows], targets[rows]


def _spread(n: int, most: int) -> np.ndarray:
    """Positions of at most so many of n, spread evenly."""
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).round().astype(np.int64)
