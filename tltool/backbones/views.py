"""Views of an image, cut out of its canvas inside the network's graph or drawn at random.

The deterministic ones are part of the graph, so that stored features and the saved model see the
same pixels; random ones serve training alone and are drawn from the image itself.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tltool._keras import import_keras
from tltool._presets import Views

if TYPE_CHECKING:
    import keras

__all__ = [
    "RANDOM_VERSION",
    "fixed_view",
    "random_view",
    "random_views",
    "view_boxes",
    "views_model",
]

# Part of the key of stored features: raise it when any pixel of any random view may change.
RANDOM_VERSION = 1

# Resized levels are rounded half up, a little early: halves are common among them, and engines
# whose last digits differ must not round them apart.
_ROUND_AT = 0.5 + 1 / 512


def views_model(
    features: keras.Model,
    views: Views,
    canvas_size: tuple[int, int],
    mirror_order: np.ndarray | None = None,
) -> keras.Model:
    """A network on every view of an image.

    Args:
        features: from raw pixels `(n, height, width, 3)`, uint8, to features `(n, d)`.
        views: which; not random ones.
        canvas_size: height and width of the canvas they are cut out of.
        mirror_order: which feature of a mirror image stands for each of the image's own, so that
            the mean over views mixes no left with right; None for the same one.

    Returns:
        From canvases `(n, *canvas_size, 3)`, uint8, to features `(n, n_views, d)`.
    """
    keras = import_keras()
    ops = keras.ops
    input_size = tuple(features.input_shape[1:3])
    canvas = keras.Input((*canvas_size, 3), dtype="uint8", name="canvas")
    upright = _upright(canvas, views, canvas_size, input_size)
    pictures = list(upright)
    if views.mirrored:
        whole = [_mirrored(upright[0], input_size[1])] if views.whole else []
        turned = _mirrored(canvas, canvas_size[1]) if views.crops else canvas
        pictures += whole + _crops(turned, views, canvas_size, input_size)
    # One view of all images after the other: to lay them side by side would copy all pixels again.
    found = features(ops.concatenate(pictures, axis=0) if len(pictures) > 1 else pictures[0])
    found = ops.reshape(found, (len(pictures), -1, found.shape[-1]))
    if mirror_order is not None and (mirror_order != np.arange(len(mirror_order))).any():
        plain, turned = ops.split(found, [len(upright)], axis=0)
        found = ops.concatenate([plain, ops.take(turned, mirror_order, axis=2)], axis=0)
    return keras.Model(canvas, ops.transpose(found, (1, 0, 2)), name="views")


def _upright(
    canvas: Any, views: Views, canvas_size: tuple[int, int], input_size: tuple[int, ...]
) -> list[Any]:
    """The views that are not mirrored."""
    ops = import_keras().ops
    whole = []
    if views.whole and canvas_size == input_size:
        whole = [canvas]
    elif views.whole:
        smaller = ops.image.resize(ops.cast(canvas, "float32"), input_size, "bilinear")
        whole = [ops.cast(ops.floor(smaller + _ROUND_AT), "uint8")]
    return whole + _crops(canvas, views, canvas_size, input_size)


def _crops(
    canvas: Any, views: Views, canvas_size: tuple[int, ...], input_size: tuple[int, ...]
) -> list[Any]:
    height, width = input_size
    down, right = canvas_size[0] - height, canvas_size[1] - width
    corners = {
        "top-left": (0, 0),
        "top-right": (0, right),
        "bottom-left": (down, 0),
        "bottom-right": (down, right),
        "centre": (down // 2, right // 2),
    }
    places = (corners[name] for name in views.crops)
    return [canvas[:, top : top + height, left : left + width] for top, left in places]


def _mirrored(pictures: Any, width: int) -> Any:
    """Pictures with left and right exchanged; along the last axis, which engines do quickest."""
    ops = import_keras().ops
    order = (np.arange(width)[::-1, None] * 3 + np.arange(3)).ravel()
    rows = ops.reshape(pictures, (-1, pictures.shape[1], width * 3))
    return ops.reshape(ops.take(rows, order, axis=2), (-1, pictures.shape[1], width, 3))


def view_boxes(views: Views, input_size: tuple[int, int]) -> list[tuple[int, int, int, int, bool]]:
    """Where each view that `views_model` cuts out lies on its canvas.

    Returns:
        Top, left, bottom and right in pixels of `views.canvas_size(input_size)`, and whether that
        is a place on the canvas with left and right exchanged.
    """
    height, width = views.canvas_size(input_size)
    canvas = np.moveaxis(np.indices((height, width)), 0, -1)[None]
    whole = [(0, 0, height, width)] if views.whole else []
    crops = [
        (*(int(n) for n in crop[0, 0, 0]), *(int(n) + 1 for n in crop[0, -1, -1]))
        for crop in _crops(canvas, views, (height, width), input_size)
    ]
    upright = [(*box, False) for box in whole + crops]
    return upright + [(*box[:4], True) for box in upright] * views.mirrored


def fixed_view(
    canvas: np.ndarray, whole: np.ndarray, views: Views, size: tuple[int, int], number: int
) -> np.ndarray:
    """One of the views that `views_model` cuts out, `(*size, 3)`, uint8.

    Args:
        canvas: the image at the size of the views' canvas, `(height, width, 3)`.
        whole: the image at the network's own size; the graph makes it from the canvas instead,
            which may move a level of a pixel.
        views: which; not random ones.
        size: height and width of the network's input.
        number: of the view.
    """
    upright = views.whole + len(views.crops)
    turned, place = divmod(number, upright)
    if turned:
        canvas, whole = canvas[:, ::-1], whole[:, ::-1]
    if views.whole and place == 0:
        return whole
    (cut,) = _crops(canvas[None], views, canvas.shape[:2], size)[place - views.whole :][:1]
    return np.asarray(cut[0])


def random_views(
    image: Image.Image, views: Views, size: tuple[int, int], content: bytes
) -> np.ndarray:
    """Random crops of an image, the same ones whenever its content is the same.

    Args:
        image: all of it, RGB.
        views: how they are drawn.
        size: height and width of what comes out.
        content: hash of the image.

    Returns:
        `(n_views, *size, 3)`, uint8.
    """
    return np.stack([random_view(image, views, size, content, i) for i in range(views.count)])


def random_view(
    image: Image.Image, views: Views, size: tuple[int, int], content: bytes, number: int
) -> np.ndarray:
    """One of those: `(*size, 3)`, uint8; there are as many as there are numbers."""
    how = views.random
    if how is None:
        raise ValueError(f"views {views.name!r} are not random")
    height, width = size
    digest = hashlib.sha256(b"%d:%d:" % (RANDOM_VERSION, number) + content).digest()
    draw = np.random.default_rng(np.frombuffer(digest, np.uint32))
    if how.shift:
        picture = _resized(image, size)
        pads = [round(side * how.shift) for side in size]
        picture = np.pad(picture, [(pad, pad) for pad in pads] + [(0, 0)], "reflect")
        top, left = (int(draw.integers(0, 2 * pad + 1)) for pad in pads)
        picture = picture[top : top + height, left : left + width]
    else:
        side = np.sqrt(draw.uniform(*how.area))
        shape = np.exp(0.5 * draw.uniform(*np.log(how.ratio)))
        across, down = min(1.0, side * shape), min(1.0, side / shape)
        left, top = draw.uniform(0, 1 - across), draw.uniform(0, 1 - down)
        box = (left, top, left + across, top + down)
        box = tuple(edge * length for edge, length in zip(box, image.size * 2, strict=True))
        picture = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box))
    return picture[:, ::-1] if draw.random() < how.mirrored else picture


def _resized(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """As `data.canvas` does."""
    height, width = size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)
