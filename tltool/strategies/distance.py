"""How far the images to train on are from those that the network was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from tltool.backbones.batch_norms import moments_model, source_statistics
from tltool.data import CANVAS_VERSION, Example
from tltool.features import FeatureSource, canvas_batches, checked_bytes, make_engine
from tltool.similarity import domain_distance, varies

__all__ = ["measured_distance", "rate_factor"]

# Images that are measured, the same ones whatever their order.
_IMAGES = 128

# From this distance on images are as dissimilar as it matters, and the rate is not lowered; the
# most that it is lowered by.
_DISSIMILAR = 0.1
_LEAST_FACTOR = 0.1


def measured_distance(source: FeatureSource, examples: Sequence[Example]) -> float | None:
    """The domain distance of images; None where the network does not remember its source.

    Args:
        source: the network, and the store that keeps what was measured.
        examples: up to 128 of them are looked at, drawn by content hash.
    """
    backbone = source.backbone
    chosen = sorted({e.hash: e for e in examples}.values(), key=lambda e: e.hash)[:_IMAGES]
    digest = hashlib.sha256(repr(("distance", CANVAS_VERSION, backbone.key)).encode())
    for example in chosen:
        digest.update(example.hash)
    kept = source.store.finding(digest.hexdigest())
    if kept is not None:
        return float(kept)
    statistics = source_statistics(backbone)
    if backbone.weights.seed is not None or not varies(statistics).any():
        return None
    run = make_engine(
        source.engine,
        f"{backbone.key}-moments",
        lambda: moments_model(backbone),
        fall_back=source.falls_back,
    )
    found = []
    readers = [lambda e=e: checked_bytes(e) for e in chosen]
    for batch in canvas_batches(readers, backbone.input_size):
        batch.refuse_unreadable(chosen)
        found.append(run(batch.pixels.astype(np.float32)))
    distance = domain_distance(np.concatenate(found), statistics)
    source.store.add_finding(digest.hexdigest(), distance)
    return distance


def rate_factor(distance: float | None) -> float:
    """What a learning rate that learning survives is multiplied by: 1 for images unlike the source.

    A tenth of it for images like those of the source, growing with the distance in between; 1 where
    that is not known.

    Source: Li et al., "Rethinking the Hyperparameters for Fine-tuning", 2020,
    https://arxiv.org/abs/2002.11770: the best effective rate grows tenfold from similar to
    dissimilar.
    """
    if distance is None:
        return 1.0
    return min(1.0, max(_LEAST_FACTOR, distance / _DISSIMILAR))
