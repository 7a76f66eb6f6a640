"""Many small pictures in a few files: one address serves a whole sheet of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from PIL import Image

from tltool._cores import cores
from tltool.data import UnreadableImageError, read_image
from tltool.report.thumbnails import data_address, known_bytes

__all__ = ["Sprites", "sprites_of"]

# Of a JPEG of photos this small, at the quality used: 0.17 to 0.22 on Caltech-101.
_BYTES_A_PIXEL = 0.25
_QUALITY = 62
_COLUMNS = 32
_A_SHEET = 1024


@dataclass(frozen=True)
class Sprites:
    """Square thumbnails side by side on sheets.

    Picture `i` is on sheet `i // per_sheet`, there in row `i % per_sheet // columns` and column
    `i % columns`.

    Args:
        side: of a thumbnail in pixels.
        columns: thumbnails a row.
        per_sheet: thumbnails a sheet.
        sheets: addresses that a page shows them by.
        missing: numbers of those whose image is gone; they are blank.
    """

    side: int
    columns: int
    per_sheet: int
    sheets: tuple[str, ...]
    missing: frozenset[int]

    def as_json(self) -> dict[str, object]:
        """What a script needs to show them."""
        return {
            "side": self.side,
            "columns": self.columns,
            "perSheet": self.per_sheet,
            "sheets": list(self.sheets),
        }


def sprites_of(
    paths: Sequence[Path | None],
    budget: int,
    contents: Sequence[bytes] | None = None,
    *,
    smallest: int = 24,
    largest: int = 96,
) -> Sprites:
    """Thumbnails of images, all of a size that keeps them within a number of bytes.

    Args:
        paths: of image files; None, or one that is gone, leaves a blank.
        budget: bytes that the addresses may take, roughly.
        contents: SHA-256 of each file; one that has changed leaves a blank. None if any will do.
        smallest: side in pixels that is never gone below.
        largest: the side that is enough.
    """
    pixels = 0.75 * budget / _BYTES_A_PIXEL / max(1, len(paths))  # base64 takes a third more
    side = int(min(largest, max(smallest, pixels**0.5)))
    with ThreadPoolExecutor(cores()) as pool:
        small = list(pool.map(_square, paths, contents or repeat(None), repeat(side)))
    sheets = []
    for start in range(0, len(small), _A_SHEET):
        part = small[start : start + _A_SHEET]
        rows = -(-len(part) // _COLUMNS)
        sheet = Image.new("RGB", (_COLUMNS * side, rows * side), (128, 128, 128))
        for i, picture in enumerate(part):
            if picture is not None:
                sheet.paste(picture, (i % _COLUMNS * side, i // _COLUMNS * side))
        sheets.append(data_address(sheet, quality=_QUALITY))
    gone = frozenset(i for i, picture in enumerate(small) if picture is None)
    return Sprites(side, _COLUMNS, _A_SHEET, tuple(sheets), gone)


def _square(path: Path | None, content: bytes | None, side: int) -> Image.Image | None:
    """A picture in the middle of a grey square; None if the image is gone or has changed."""
    data = known_bytes(path, content)
    try:
        image = None if data is None else read_image(data, smallest_side=side)
    except UnreadableImageError:
        return None
    if image is None:
        return None
    factor = side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    square = Image.new("RGB", (side, side), (128, 128, 128))
    square.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
    return square
