"""What batch normalisation would remember of images: the moments of every channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tltool.backbones import Backbone
from tltool.backbones.batch_norms import moments_model
from tltool.data import Example
from tltool.features.engine import Engine, make_engine
from tltool.features.extraction import FeatureSource, canvas_batches, checked_bytes

__all__ = ["image_moments", "moments_engine"]


def moments_engine(backbone: Backbone, engine: str, *, fall_back: bool = True) -> Engine:
    """From pixels `(n, height, width, 3)`, float32, to moments `(n, 2 * channels)`.

    Args:
        backbone: with batch normalisation.
        engine: "keras" or "openvino".
        fall_back: take Keras where OpenVINO cannot run the network.
    """
    key = f"{backbone.key}-moments"
    return make_engine(engine, key, lambda: moments_model(backbone), fall_back=fall_back)


def image_moments(source: FeatureSource, examples: Sequence[Example]) -> np.ndarray:
    """Of each image the channels' means, then their variances: `(n, 2 * channels)`, float32.

    Raises:
        TltoolError: an image changed or went since it was checked.
    """
    run = moments_engine(source.backbone, source.engine, fall_back=source.falls_back)
    found = []
    readers = [lambda e=e: checked_bytes(e) for e in examples]
    for batch in canvas_batches(readers, source.backbone.input_size):
        batch.refuse_unreadable(examples)
        found.append(run(batch.pixels.astype(np.float32)))
    return np.concatenate(found)
