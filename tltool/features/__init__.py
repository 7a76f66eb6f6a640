"""Engines that run a backbone, and the store that keeps what they computed."""

from tltool.features.engine import ENGINES, PRECISIONS, Engine, choose_engine, make_engine
from tltool.features.extraction import (
    CanvasBatch,
    Features,
    FeatureSource,
    canvas_batches,
    checked_bytes,
    feature_space,
)
from tltool.features.pictures import HELD_IN_MEMORY, DrawnPictures, StoredActivations
from tltool.features.store import (
    FeatureStore,
    Space,
    StoreInfo,
    default_store_folder,
    shared_store,
)

__all__ = [
    "ENGINES",
    "HELD_IN_MEMORY",
    "PRECISIONS",
    "CanvasBatch",
    "DrawnPictures",
    "Engine",
    "FeatureSource",
    "FeatureStore",
    "Features",
    "Space",
    "StoreInfo",
    "StoredActivations",
    "canvas_batches",
    "checked_bytes",
    "choose_engine",
    "default_store_folder",
    "feature_space",
    "make_engine",
    "shared_store",
]
