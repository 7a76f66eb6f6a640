"""What a network's last activations say about where a class is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from tltool._keras import import_keras
from tltool._presets import Views, views, views_names
from tltool._validation import TltoolError
from tltool.backbones.views import view_boxes
from tltool.saliency.split_network import SplitNetwork

__all__ = ["class_activation_maps", "grad_cam", "shares_of_score"]


def grad_cam(
    network: SplitNetwork,
    canvases: np.ndarray,
    targets: Sequence[int],
    input_size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Gradient-weighted class activation maps.

    Each channel of the last activations counts by the mean of the class score's gradient over its
    places; what is negative in the sum is left out. The score is the one before the softmax, less
    the mean of all classes', which the softmax does not see. Maps of several layers or views are
    laid on the canvas where they belong, and added or, of views, averaged.

    Args:
        network: the model in two parts.
        canvases: images `(n, height, width, 3)`, uint8.
        targets: numbers of the classes, one an image.
        input_size: height and width of one view of an image; None for the whole canvas.

    Returns:
        `(n, height, width)`, float32, not negative.

    Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", 2017, https://doi.org/10.1109/ICCV.2017.74
    """
    import_keras()
    import tensorflow as tf

    activations = _listed(network.lower(canvases, training=False))
    with tf.GradientTape() as tape:
        tape.watch(activations)
        _, features = network.upper(activations)
        kernel, _ = network.head
        score = tf.reduce_sum(features * kernel.T[list(targets)])
    found = np.zeros(canvases.shape[:3], np.float32)
    gradients = tape.gradient(score, activations)
    for values, gradient, counts in zip(activations, gradients, network.views, strict=True):
        weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
        maps = tf.nn.relu(tf.reduce_sum(weights * values, axis=-1)).numpy()
        found += _on_canvas(maps, counts, canvases.shape[1:3], input_size, averaged=True)
    return np.maximum(found, 0)


def class_activation_maps(
    network: SplitNetwork,
    canvases: np.ndarray,
    targets: Sequence[int],
    input_size: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Class activation maps: how much each place adds to the score of a class, exactly.

    A linear head's score is a sum over features, and a pooled feature a sum over places, so the
    score is a sum over places. Where features go through square roots or are divided by their
    length in between, each feature's summand is shared out in the same proportions.

    Args:
        network: whose head is linear: `network.linear`.
        canvases: images `(n, height, width, 3)`, uint8.
        targets: numbers of the classes, one an image.
        input_size: height and width of one view of an image; None for the whole canvas.

    Returns:
        Maps `(n, height, width)`, float32, of either sign, and the constants `(n,)` that belong to
        no place: the sum of a map and its constant is the class's score less the mean score.

    Raises:
        TltoolError: the head is not linear in pooled features.

    Source: Zhou et al., "Learning Deep Features for Discriminative Localization", 2016,
    https://doi.org/10.1109/CVPR.2016.319
    """
    if not network.linear:
        raise TltoolError(
            "Class activation maps need one linear layer on pooled features, which this run does "
            "not have; take --maps grad-cam,occlusion."
        )
    import_keras()
    import tensorflow as tf

    activations = _listed(network.lower(canvases, training=False))
    kernel, bias = network.head
    kernel = kernel.T[list(targets)]
    with tf.GradientTape() as tape:
        tape.watch(activations)
        pooled, features = network.upper(activations)
        summands = tf.stop_gradient(kernel * features)
        rate = tf.math.divide_no_nan(summands, tf.stop_gradient(pooled))
        score = tf.reduce_sum(rate * pooled)
    found = np.zeros(canvases.shape[:3], np.float32)
    gradients = tape.gradient(score, activations)
    for values, gradient, counts in zip(activations, gradients, network.views, strict=True):
        maps = tf.reduce_sum(gradient * values, axis=-1).numpy()
        found += _on_canvas(maps, counts, canvases.shape[1:3], input_size)
    return found, bias[list(targets)]


def shares_of_score(
    network: SplitNetwork,
    canvases: np.ndarray,
    targets: Sequence[int],
    input_size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Class activation maps whose constant is spread evenly, so that each adds up to its score.

    Without it a class whose constant is large would seem to be there in spite of the image.

    Args and Raises: as for `class_activation_maps`.

    Returns:
        `(n, height, width)`, float32, of either sign.
    """
    maps, constants = class_activation_maps(network, canvases, targets, input_size)
    return maps + (constants / maps[0].size)[:, None, None].astype(np.float32)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _on_canvas(
    maps: np.ndarray,
    counts: Sequence[int],
    size: tuple[int, int],
    input_size: tuple[int, int] | None,
    *,
    averaged: bool = False,
) -> np.ndarray:
    """Maps `(views * n, rows, columns)` of all views of images, laid on their canvases.

    Args:
        maps: of the first view of all images, then of the second, and so on.
        counts: how many views there are; of views that are themselves of views, of the outer first.
        size: height and width of a canvas.
        input_size: of one view.
        averaged: whether each place has the mean of its views instead of their sum. Each view's
            gradient is of a mean over views: the map of a view alone is as many times as large.

    Returns:
        `(n, *size)`, float32.
    """
    inner = input_size or size
    for count in reversed(counts):
        maps = _joined(maps, _views_of(count), inner, averaged=averaged)
        inner = maps.shape[1:]
    return np.stack([_spread(one, size) for one in maps])


def _joined(
    maps: np.ndarray, shown: Views, input_size: tuple[int, int], *, averaged: bool
) -> np.ndarray:
    """Maps of all views `(views * n, rows, columns)` as maps of the canvases they are cut from."""
    n = len(maps) // shown.count
    canvas = shown.canvas_size(input_size)
    found = np.zeros((n, *canvas), np.float32)
    seen = np.zeros(canvas, np.float32)
    for number, (top, left, bottom, right, mirrored) in enumerate(view_boxes(shown, input_size)):
        across = slice(left, right)
        if mirrored:
            across = slice(canvas[1] - right, canvas[1] - left)
        seen[top:bottom, across] += 1
        for i in range(n):
            drawn = _spread(maps[number * n + i], (bottom - top, right - left))
            found[i, top:bottom, across] += drawn[:, ::-1] if mirrored else drawn
    return found * shown.count / np.maximum(seen, 1) if averaged else found


def _spread(one: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map at another size with the same sum."""
    drawn = _resized(one, size) * np.float32(one.size / (size[0] * size[1]))
    return drawn + (one.sum(dtype=np.float64) - drawn.sum(dtype=np.float64)) / drawn.size


def _resized(one: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(one.astype(np.float32))
    return np.array(image.resize(size[::-1], Image.Resampling.BILINEAR), np.float32)


def _views_of(count: int) -> Views:
    """The recipe of so many views that are not random; there is one of each number."""
    known = [views(name) for name in views_names() if name.isdigit()]
    return next(one for one in known if one.count == count)
