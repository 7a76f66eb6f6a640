"""Engines that run a backbone, and the store that keeps what they computed."""

from tltool.features.engine import Engine, choose_engine, make_engine
from tltool.features.extraction import (
    CanvasBatch,
    Features,
    FeatureSource,
    canvas_batches,
    checked_bytes,
)
from tltool.features.store import FeatureStore, StoreInfo

__all__ = [
    "CanvasBatch",
    "Engine",
    "FeatureSource",
    "FeatureStore",
    "Features",
    "StoreInfo",
    "canvas_batches",
    "checked_bytes",
    "choose_engine",
    "make_engine",
]
