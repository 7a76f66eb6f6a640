"""What a look at a network shows, as one HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tltool._files import counted
from tltool.filters import FirstFilters, filter_pixels
from tltool.maximal import ExcitedChannel
from tltool.receptive_fields import ReceptiveField, crops
from tltool.report.pages import render_page
from tltool.report.thumbnails import data_address

__all__ = [
    "LookSection",
    "Tile",
    "TileRow",
    "excited_section",
    "filters_section",
    "map_picture",
    "maps_section",
    "render_look",
]

# Sides in pixels to which small and large pictures are brought.
_FILTER_SIDE = 64
_MAP_SIDE = 112
_CROP_SIDES = (48, 160)

# Of all crops together, and of a pixel of one: with these the page stays under 5 MB.
_CROPS_BYTES = 3_000_000
_BYTES_A_PIXEL = 0.45


@dataclass(frozen=True)
class Tile:
    """A picture and what stands below it.

    Args:
        picture: of mode RGB or L.
        alt: what it shows, in words.
        lines: below it.
        exact: whether it is kept pixel for pixel (PNG), as drawings are; photos are not (JPEG).
    """

    picture: Image.Image
    alt: str
    lines: tuple[str, ...] = ()
    exact: bool = True

    @property
    def address(self) -> str:
        """What the page shows it by."""
        if not self.exact:
            return data_address(self.picture, quality=82)
        buffer = io.BytesIO()
        self.picture.save(buffer, "PNG", optimize=True)
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@dataclass(frozen=True)
class TileRow:
    """Tiles that belong together.

    Args:
        tiles: in order.
        size: "small", "middle" or "large", how wide they are at least.
        title: above them; "" for none.
        note: below the title; "" for none.
    """

    tiles: Sequence[Tile]
    size: str
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class LookSection:
    """A part of the page.

    Args:
        anchor: a name for links to it.
        title: above it.
        notes: how to read it, a paragraph each.
        rows: what it shows.
    """

    anchor: str
    title: str
    notes: Sequence[str]
    rows: Sequence[TileRow]


def excited_section(
    title: str,
    excited: Sequence[ExcitedChannel],
    field: ReceptiveField,
    searched: int,
    notes: Sequence[str] = (),
) -> LookSection:
    """The images that excite channels most, each cropped to its receptive field.

    Args:
        title: of the layer.
        excited: the channels.
        field: of the layer.
        searched: how many images were looked through.
        notes: what else is to be known, a sentence each.

    Raises:
        TltoolError: an image that changed or went meanwhile.
    """
    shown = [one for channel in excited for one in channel.images]
    pixels = _CROPS_BYTES / _BYTES_A_PIXEL / max(1, len(shown))
    side = int(min(max(pixels**0.5, _CROP_SIDES[0]), _CROP_SIDES[1]))
    pictures = iter(crops([(one.example, one.box) for one in shown], field.canvas, side))
    rows = [
        TileRow(
            [
                Tile(
                    next(pictures),
                    f"Part of {one.file}, class {one.label}, exciting channel {channel.channel}",
                    (f"{one.value:.2f}", one.label, one.file),
                    exact=False,
                )
                for one in channel.images
            ],
            "large",
            f"Channel {channel.channel}",
            "" if channel.images else "It is 0 everywhere in all images.",
        )
        for channel in excited
    ]
    height, width = field.canvas
    whole = field.side is None or field.side >= max(height, width)
    part = (
        "Each value depends on the whole image, which is shown in full."
        if whole
        else f"Each is cropped to the receptive field of the place of that value: {field.side} x "
        f"{field.side} of the {width} x {height} pixels that the network sees, less at the edges."
    )
    return LookSection(
        "excited",
        f"What excites {title}",
        (
            f"Of {counted(searched, 'different image')} those on which the channel becomes "
            f"largest, with that value, the class and the file. {part} The crops are cut out of "
            "the original pictures, which may show more detail than the network sees.",
            *notes,
        ),
        rows,
    )


def render_look(
    title: str, summary: Sequence[str], warnings: Sequence[str], sections: Sequence[LookSection]
) -> str:
    """The page; all that comes from file or class names is escaped.

    Args:
        title: of the page.
        summary: facts of the network, a few words each.
        warnings: sentences to put on top.
        sections: what is shown.
    """
    return render_page(
        "look.html.j2", title=title, summary=summary, warnings=warnings, sections=sections
    )


def filters_section(found: FirstFilters) -> LookSection:
    """The first layer's filters, each enlarged pixel by pixel."""
    n, height, width, channels = found.kernels.shape
    colours = (
        "The weights of the red, green and blue channel are shown as red, green and blue."
        if channels == 3
        else "The network sees grey pixels."
    )
    pictures = (_picture(pixels) for pixels in filter_pixels(found.kernels))
    tiles = [
        Tile(_enlarged(picture, _FILTER_SIDE), f"First-layer filter {i}", (str(i),))
        for i, picture in enumerate(pictures)
    ]
    down, across = found.stride
    return LookSection(
        "filters",
        f"First layer: {counted(n, 'filter')} of {height} x {width} pixels",
        (
            f"Kernels of the layer {found.layer}, stride {down} x {across}, numbered from 0. "
            f"{colours} Each filter is scaled to its own range: its smallest weight is 0, its "
            "largest 255.",
        ),
        (TileRow(tiles, "small"),),
    )


def maps_section(
    title: str, picture: Image.Image, name: str, maps: np.ndarray, channels: Sequence[int]
) -> LookSection:
    """What a layer makes of an image.

    Args:
        title: of the layer.
        picture: what the network saw.
        name: of the image.
        maps: `(height, width, all channels)`.
        channels: those that are shown, in order.
    """
    height, width, count = maps.shape
    shown = [
        Tile(
            map_picture(maps[..., c]),
            f"Activations of channel {c}",
            (f"channel {c}", f"{maps[..., c].min():.2f} to {maps[..., c].max():.2f}"),
        )
        for c in channels
    ]
    some = "All channels" if len(channels) == count else f"{len(channels)} of {count:,} channels"
    return LookSection(
        "maps",
        f"Activations of {title}",
        (
            f"{some}, those with the largest mean activation first: maps of {height} x {width} "
            "places. Each map is scaled to its own range, which stands below it: black is its "
            "smallest value, white its largest.",
        ),
        (
            TileRow([Tile(picture, f"The image {name}", (name,), exact=False)], "one"),
            TileRow(shown, "middle"),
        ),
    )


def map_picture(activations: np.ndarray) -> Image.Image:
    """One channel's activations `(height, width)` in grey, from the smallest to the largest.

    Small maps are enlarged place by place, large ones averaged. A map of equal values is black.
    """
    low, high = float(activations.min()), float(activations.max())
    scaled = (activations - low) / (high - low) if high > low else np.zeros_like(activations)
    picture = _picture(np.rint(255 * scaled).astype(np.uint8)[..., None])
    if max(picture.size) > _MAP_SIDE:
        picture.thumbnail((_MAP_SIDE, _MAP_SIDE), Image.Resampling.BOX)
        return picture
    return _enlarged(picture, _MAP_SIDE)


def _picture(pixels: np.ndarray) -> Image.Image:
    """Pixels `(height, width, 1 or 3)`, uint8."""
    return Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0])


def _enlarged(picture: Image.Image, side: int) -> Image.Image:
    """By the largest whole factor that keeps to a side, so that all pixels stay equal squares."""
    factor = max(1, side // max(picture.size))
    size = (picture.width * factor, picture.height * factor)
    return picture.resize(size, Image.Resampling.NEAREST)
