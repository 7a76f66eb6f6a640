"""One way from the bytes of any image file to upright RGB pixels, and to a backbone's canvas.

JPEGs go through simplejpeg, which decodes bit for bit like Pillow and faster; all others, and
JPEGs of unusual colour spaces, go through Pillow.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import (  # Pillow knows a format once its plugin is imported
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from tltool._files import printable
from tltool._validation import TltoolError, storage_error

__all__ = [
    "CANVAS_VERSION",
    "SCALED_DECODING_MARGIN",
    "ImageData",
    "UnreadableImageError",
    "canvas",
    "canvas_of_file",
    "read_image",
]

ImageData = bytes | np.ndarray
"""An image file's bytes, or pixels `(height, width, 3)`, uint8, RGB."""

# Part of every stored feature's key: raise it when any pixel of any canvas may change.
CANVAS_VERSION = "whole-bilinear-1"

# Where Pillow itself refuses an image as a decompression bomb.
MAX_PIXELS = 178_956_970

# A JPEG is decoded at a reduced scale only as long as its sides stay this many times the canvas.
SCALED_DECODING_MARGIN = 6

_FORMATS = (
    JpegImagePlugin.JpegImageFile.format,
    PngImagePlugin.PngImageFile.format,
    GifImagePlugin.GifImageFile.format,
    BmpImagePlugin.BmpImageFile.format,
    BmpImagePlugin.DibImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
)
_ORIENTATION = 0x0112
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1", b"heim", b"heis")

warnings.filterwarnings("ignore", module="PIL")  # every finding of ours is a sentence instead


class UnreadableImageError(ValueError):
    """A file's bytes give no image; the text says why in a few words, without the file's name."""


def canvas_of_file(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    """The same of an image file that somebody named.

    Raises:
        TltoolError: it cannot be read, or is no image.
    """
    path = Path(path).expanduser()
    try:
        return canvas(path.read_bytes(), size)
    except OSError as error:
        raise storage_error("read", path, error, "expected an image file") from error
    except UnreadableImageError as error:
        raise TltoolError(f"{printable(str(path))} {error}; expected an image.") from error


def canvas(data: ImageData, size: tuple[int, int]) -> np.ndarray:
    """The pixels that a backbone sees of an image: all of it, resized with antialiasing.

    Args:
        data: the bytes of an image file, or its pixels.
        size: height and width in pixels.

    Returns:
        `(height, width, 3)`, uint8, 0-255, RGB. Large JPEGs are decoded at a reduced scale that
        leaves at least six times the canvas: features change by less than 1e-2 (see
        docs/speed.md).

    Raises:
        UnreadableImageError: the bytes hold no readable image.
    """
    height, width = size
    side = SCALED_DECODING_MARGIN * max(size)
    image = read_image(data, smallest_side=side)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def read_image(data: ImageData, smallest_side: int = 0) -> Image.Image:
    """Decode an image file in full: upright by its EXIF orientation, alpha laid on white.

    Args:
        data: the bytes of the file, of animations the first frame counts; or the pixels.
        smallest_side: a JPEG may be decoded at 1/2, 1/4 or 1/8 scale (the steps between too) as
            long as both sides keep this many pixels; 0 for full size.

    Returns:
        A Pillow image of mode RGB.

    Raises:
        UnreadableImageError: the bytes hold no readable image.
    """
    if isinstance(data, np.ndarray):
        return Image.fromarray(data)
    if not data:
        raise UnreadableImageError("is empty (0 bytes)")
    if data[:3] == b"\xff\xd8\xff":
        image = _read_jpeg(data, smallest_side)
        if image is not None:
            return image
    return _read_with_pillow(data)


def _read_jpeg(data: bytes, smallest_side: int) -> Image.Image | None:
    """A common JPEG through simplejpeg; None where Pillow should have a look at it."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray", "RGB") or height * width > MAX_PIXELS:
            return None
        pixels = simplejpeg.decode_jpeg(
            data, colorspace="RGB", min_height=smallest_side, min_width=smallest_side
        )
    except ValueError:
        return None
    image = Image.fromarray(pixels)
    if b"Exif\0\0" not in data:
        return image
    try:
        header = Image.open(io.BytesIO(data), formats=("JPEG",))
    except Exception:  # see _read_with_pillow; the pixels are there all the same
        return image
    return _upright(image, _orientation(header))


def _read_with_pillow(data: bytes) -> Image.Image:
    formats: tuple[str, ...] = _FORMATS
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        _register_heif()
        formats = (*_FORMATS, "HEIF")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=formats)
        image.load()
        return _upright(_to_rgb(image), _orientation(image))
    except UnreadableImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise UnreadableImageError(_not_an_image(data)) from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(
            f"has more than {MAX_PIXELS:,} pixels and may be a decompression bomb"
        ) from error
    except MemoryError as error:
        raise UnreadableImageError("needs more memory than there is") from error
    except Exception as error:  # Pillow's plugins raise nearly every kind on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        cut = "is cut short" if "truncated" in reason.lower() else "is damaged"
        raise UnreadableImageError(f"{cut} ({reason})") from error


def _not_an_image(data: bytes) -> str:
    """Why no decoder knows these bytes, as well as their first ones tell."""
    start = data[:256].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "is an HTML page, not an image"
    if start.startswith((b"<svg", b"<?xml")):
        return "is an XML or SVG file, not a photo"
    if data[:3] == b"\xff\xd8\xff" or data[:8] == b"\x89PNG\r\n\x1a\n":
        return "is cut short or damaged in its first bytes"
    return f"is not an image that can be read (starts with {data[:8]!r})"


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB: 16 bits scaled rather than clipped, alpha composed on white."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_wide_pixels(image)
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        white = Image.new("RGBA", colours.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, colours).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_wide_pixels(image: Image.Image) -> Image.Image:
    """Grey pixels of 16 or 32 bits, or real numbers from 0 to 1, scaled to 8 bits."""
    pixels: Any = np.asarray(image)
    top = 1.0 if image.mode == "F" else 65535.0
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= top):
        raise UnreadableImageError(
            "has 32-bit pixels outside "
            + ("0 to 1" if image.mode == "F" else "0 to 65535")
            + ", whose range nothing tells; save it with 8 or 16 bits"
        )
    scaled = np.rint(pixels.astype(np.float64) * (255.0 / top)).astype(np.uint8)
    if isinstance(see_through := image.info.get("transparency"), int):
        scaled[pixels == see_through] = 255
    return Image.fromarray(scaled).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none that can be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
        return value if value in range(1, 9) else 1
    except Exception:  # damaged EXIF data does not make the pixels unreadable
        return 1


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image if orientation == 1 else image.transpose(_TURNS[orientation])


def _register_heif() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise UnreadableImageError(
            "is a HEIC photo, which needs the extra heif (pip install 'tltool[heif]')"
        ) from error
    register_heif_opener()
