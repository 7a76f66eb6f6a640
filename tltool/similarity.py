"""How far images are from those that a network was trained on, without any of those."""

from __future__ import annotations

import numpy as np

from tltool.backbones.batch_norms import SourceStatistics

__all__ = ["domain_distance", "layer_distances", "resampled_distances", "varies"]

# Channels that hardly varied on the source: any change is enormous beside what they remember.
_LEAST_VARIANCE = 1e-4


def varies(source: SourceStatistics) -> np.ndarray:
    """Which channels varied enough on the source to be compared: `(channels,)`, bool."""
    return source.variance > _LEAST_VARIANCE


def domain_distance(moments: np.ndarray, source: SourceStatistics) -> float:
    """Mean squared Hellinger distance between the channels' distributions, taken as Gaussians.

    `1 - sqrt(2 s1 s2 / (s1^2 + s2^2)) exp(-(m1 - m2)^2 / (4 (s1^2 + s2^2)))` for a channel with
    mean m and standard deviation s on the source (1) and on these images (2), averaged over the
    channels of each batch normalisation whose variance on the source is above 1e-4, and then over
    the batch normalisations.

    Args:
        moments: `(n, 2 * channels)`: of each image the channels' means, then their variances.
        source: what batch normalisation remembers.

    Returns:
        0 for equal distributions, at most 1.

    Raises:
        ValueError: there is no image, or no such channel.
    """
    return float(np.nanmean(layer_distances(moments, source)))


def layer_distances(moments: np.ndarray, source: SourceStatistics) -> np.ndarray:
    """The same of each batch normalisation, from the input up: `(layers,)`.

    Not a number for one without a channel that varies.

    Raises:
        ValueError: see `domain_distance`.
    """
    return _distances(*_summands(moments, source), source, np.ones((1, len(moments))))[0]


def resampled_distances(
    moments: np.ndarray, source: SourceStatistics, n_resamples: int, seed: int
) -> np.ndarray:
    """`layer_distances` of bootstrap resamples of the images: `(n_resamples, layers)`."""
    n = len(moments)
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples)
    return _distances(*_summands(moments, source), source, draws.astype(np.float64))


def _summands(moments: np.ndarray, source: SourceStatistics) -> tuple[np.ndarray, np.ndarray]:
    """Of each image first and second moments of the channels that are compared."""
    kept = varies(source)
    if not len(moments) or not kept.any():
        raise ValueError("expected at least one image and one channel that varies.")
    means, variances = np.split(np.asarray(moments, np.float64), 2, axis=1)
    return means[:, kept], variances[:, kept] + means[:, kept] ** 2


def _distances(
    means: np.ndarray, squares: np.ndarray, source: SourceStatistics, draws: np.ndarray
) -> np.ndarray:
    """Distances of images drawn so often: `(b, layers)`."""
    kept = varies(source)
    draws = draws / draws.sum(axis=1, keepdims=True)
    mean = draws @ means
    variance = np.maximum(draws @ squares - mean**2, 0.0)
    both = variance + source.variance[kept]
    overlap = np.sqrt(2 * np.sqrt(variance * source.variance[kept]) / both)
    apart = np.exp(-((mean - source.mean[kept]) ** 2) / (4 * both))
    layers = int(source.layer.max()) + 1
    belongs = source.layer[kept][:, None] == np.arange(layers)
    counts = belongs.sum(axis=0)
    sums = (1 - overlap * apart) @ belongs
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
