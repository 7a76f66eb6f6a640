"""How far a data set's images are from a network's source, measured once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from tltool._presets import backbone_preset
from tltool.backbones import Backbone
from tltool.backbones.batch_norms import source_statistics
from tltool.backbones.layers import layer_table
from tltool.backbones.weights import is_at_hand
from tltool.data import CANVAS_VERSION, Example
from tltool.features import FeatureSource
from tltool.features.moments import image_moments
from tltool.similarity import layer_distances, resampled_distances, varies

__all__ = ["DomainDistance", "measured_distance"]

# Images that are measured, the same ones whatever their order.
_IMAGES = 128

_RESAMPLES = 200

# Measures of other rules are made again.
_VERSION = 1

# Where a network does not remember its source, one of these tells: the least costly first.
_PROXIES = ("mobilenet-0.25", "mobilenet-0.5", "mobilenet-1.0", "mobilenet-v2", "resnet50")


@dataclass(frozen=True)
class DomainDistance:
    """How far images are from those that a network was trained on.

    Args:
        value: mean squared Hellinger distance, see `tltool.similarity`.
        low, high: its 95 % interval, over resamples of the images.
        by_block: the same of each block of the network that has batch normalisation, from the
            input up.
        n_images: that were measured.
        backbone: the network that it was measured with.
    """

    value: float
    low: float
    high: float
    by_block: Mapping[str, float]
    n_images: int
    backbone: str


def measured_distance(source: FeatureSource, examples: Sequence[Example]) -> DomainDistance | None:
    """The domain distance of images.

    A network without batch normalisation does not remember its source; a small one that was
    trained on the same images and has it then tells, where its weights can be had.

    Args:
        source: the network, and the store that keeps what was measured.
        examples: up to 128 of them are looked at, drawn by content hash.

    Returns:
        None where nothing remembers the source.
    """
    backbone = source.backbone
    if backbone.weights.seed is not None:
        return None
    chosen = sorted({e.hash: e for e in examples}.values(), key=lambda e: e.hash)[:_IMAGES]
    digest = hashlib.sha256(repr(("distance", _VERSION, CANVAS_VERSION, backbone.key)).encode())
    for example in chosen:
        digest.update(example.hash)
    kept = source.store.finding(digest.hexdigest())
    if kept is not None:
        return DomainDistance(**kept)
    if not _remembers(backbone):
        proxy = _proxy(backbone)
        if proxy is None:
            return None
        source = source.of_backbone(proxy)
    found = _measured(source, chosen)
    source.store.add_finding(digest.hexdigest(), asdict(found))
    return found


def _measured(source: FeatureSource, examples: Sequence[Example]) -> DomainDistance:
    statistics = source_statistics(source.backbone)
    moments = image_moments(source, examples)
    by_layer = layer_distances(moments, statistics)
    resampled = np.nanmean(resampled_distances(moments, statistics, _RESAMPLES, seed=0), axis=1)
    value = float(np.nanmean(by_layer))
    # resamples hold fewer images than there are, so they lie a little farther away
    low, high = np.quantile(resampled, [0.025, 0.975]) - (np.median(resampled) - value)
    backbone = source.backbone
    blocks = {row.name: row.block for row in layer_table(backbone.preset, backbone.input_size)}
    of_block: dict[str, list[float]] = {}
    for name, distance in zip(statistics.names, by_layer, strict=True):
        if np.isfinite(distance):
            of_block.setdefault(blocks[name], []).append(float(distance))
    return DomainDistance(
        value,
        max(0.0, float(low)),
        float(high),
        {block: float(np.mean(found)) for block, found in of_block.items() if block},
        len(examples),
        backbone.preset.name,
    )


def _remembers(backbone: Backbone) -> bool:
    return bool(varies(source_statistics(backbone)).any())


def _proxy(backbone: Backbone) -> Backbone | None:
    """A network that remembers the same source, if there is one whose weights can be had."""
    if backbone.preset.accuracy.on != "ImageNet":
        return None
    at_hand = (name for name in _PROXIES if is_at_hand(backbone_preset(name)))
    name = next(at_hand, None)
    return None if name is None else Backbone(name)
