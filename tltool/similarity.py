"""How far images are from those that a network was trained on, without any of those."""

from __future__ import annotations

import numpy as np

from tltool.backbones.batch_norms import SourceStatistics

__all__ = ["domain_distance", "varies"]

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
    kept = varies(source)
    if not len(moments) or not kept.any():
        raise ValueError("expected at least one image and one channel that varies.")
    means, variances = np.split(np.asarray(moments, np.float64), 2, axis=1)
    mean = means.mean(axis=0)[kept]
    variance = (variances.mean(axis=0) + means.var(axis=0))[kept]
    both = variance + source.variance[kept]
    overlap = np.sqrt(2 * np.sqrt(variance * source.variance[kept]) / both)
    apart = np.exp(-((mean - source.mean[kept]) ** 2) / (4 * both))
    layer = source.layer[kept]
    sums = np.bincount(layer, 1 - overlap * apart)
    counts = np.bincount(layer)
    return float(np.mean(sums[counts > 0] / counts[counts > 0]))
