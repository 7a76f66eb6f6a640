"""Images that a program hands over: paths, or pixels in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tltool._cores import cores
from tltool._files import printable, sha256_of
from tltool._validation import TltoolError, storage_error
from tltool.data.dataset import Example

__all__ = ["examples_of"]


def examples_of(images: Any, labels: Sequence[str] | None = None) -> tuple[Example, ...]:
    """Images as examples, each its own group unless it is identical to another.

    Args:
        images: paths of image files; or pixels, `(n, height, width, 3)` or `(n, height, width)`,
            uint8, 0-255, RGB or grey, or a sequence of such images of different sizes.
        labels: a class for each; None for none.

    Raises:
        TltoolError: something else, or a file that cannot be read.

    Example:
        >>> examples_of(["cat.jpg", "dog.jpg"])[0].name
        'cat.jpg'
    """
    if isinstance(images, str | bytes | Path) or not _is_sized(images):
        raise TltoolError(
            f"Images are given as a sequence of paths or as uint8 pixels, not as {images!r:.80}."
        )
    shape = getattr(images, "shape", (len(images),))
    if len(shape) == 3 and shape[-1] in (3, 4):
        raise TltoolError(
            f"Pixels of shape {tuple(shape)} are one image; give a sequence of them, such as "
            "images[None]."
        )
    if len(images) == 0:
        raise TltoolError("There are no images; give at least one path or picture.")
    with ThreadPoolExecutor(cores()) as pool:
        found = tuple(pool.map(_example, list(images), range(len(images))))
    if labels is None:
        return found
    if len(labels) != len(found):
        raise TltoolError(
            f"There are {len(found)} images and {len(labels)} labels; give one for each image."
        )
    return tuple(
        Example(e.path, e.name, label, e.hash, e.group, "train", e.pixels)
        for e, label in zip(found, labels, strict=True)
    )


def _is_sized(images: Any) -> bool:
    """Whether it has a length; an array without dimensions has the method alone."""
    return hasattr(images, "__len__") and getattr(images, "ndim", 1) > 0


def _example(image: Any, number: int) -> Example:
    if isinstance(image, str | Path):
        path = Path(image)
        try:
            content = sha256_of(path)
        except OSError as error:
            raise storage_error(
                "read", path, error, "expected the path of an image file"
            ) from error
        return Example(path, printable(str(path)), "", content, content)
    name = f"image {number}"
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise TltoolError(
            f"{name} is {pixels.dtype} of shape {pixels.shape}; expected a path, or uint8 pixels "
            "from 0 to 255 of shape (height, width, 3)."
        )
    pixels = np.ascontiguousarray(pixels)
    content = hashlib.sha256(b"pixels %dx%d " % pixels.shape[:2] + pixels.tobytes()).digest()
    return Example(Path(name), name, "", content, content, "", pixels)
