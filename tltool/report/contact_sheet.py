"""Pictures side by side, each with a few words: a PNG, or an HTML page that fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from PIL import Image, ImageDraw, ImageFont

from tltool._files import atomic_path, write_atomically
from tltool._validation import TltoolError, storage_error
from tltool.report.thumbnails import THUMBNAIL_SIDE, data_address

__all__ = ["Picture", "check_sheet_name", "write_contact_sheet"]

_COLUMNS = 6
_GAP = 12
_LINE = 16
_LINES = 3

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'"><title>{{ title }}</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.4 system-ui, "DejaVu Sans", sans-serif; margin: 1.5rem; }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; }
ul { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr));
  list-style: none; margin: 0; padding: 0; }
img { display: block; max-width: 100%; border-radius: 4px; }
li:first-child img { outline: 3px solid #2563a8; }
p { margin: .25rem 0 0; overflow-wrap: anywhere; }
</style></head><body><h1>{{ title }}</h1><ul>
{% for address, lines in pictures %}<li>{% if address %}<img src="{{ address }}"
 alt="{{ lines[0] }}">{% endif %}{% for line in lines %}<p>{{ line }}</p>{% endfor %}</li>
{% endfor %}</ul></body></html>
"""


@dataclass(frozen=True)
class Picture:
    """An image, None if it is gone, and up to three lines below it."""

    image: Image.Image | None
    lines: tuple[str, ...]


def check_sheet_name(path: Path) -> None:
    """Refuse a name whose ending says neither PNG nor HTML.

    Raises:
        TltoolError: it does not, or its folder is not there.
    """
    if path.suffix.lower() not in (".png", ".html"):
        raise TltoolError(f"--out {path}: a contact sheet is a .png or an .html file.")
    if path.is_dir():
        raise TltoolError(f"--out {path} is a folder; name a file.")
    if not path.parent.is_dir():
        raise TltoolError(f"--out {path}: the folder {path.parent} does not exist; make it first.")


def write_contact_sheet(path: Path, title: str, pictures: Sequence[Picture]) -> None:
    """Write pictures, the first one marked, to a `.png` or `.html` file.

    Raises:
        TltoolError: it cannot be written.
    """
    try:
        if path.suffix.lower() == ".html":
            page = jinja2.Environment(autoescape=True).from_string(_PAGE)
            shown = [(data_address(picture.image), picture.lines) for picture in pictures]
            write_atomically(path, page.render(title=title, pictures=shown))
            return
        sheet = _sheet(pictures)
        with atomic_path(path) as temporary:
            sheet.save(temporary, "PNG")
    except OSError as error:
        raise storage_error("write", path, error, "name another file with --out") from error


def _sheet(pictures: Sequence[Picture]) -> Image.Image:
    font = ImageFont.load_default(12)
    across, down = THUMBNAIL_SIDE + _GAP, THUMBNAIL_SIDE + _LINES * _LINE + _GAP
    columns = min(_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * across + _GAP, rows * down + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, picture in enumerate(pictures):
        left = _GAP + number % columns * across
        top = _GAP + number // columns * down
        if picture.image is not None:
            sheet.paste(picture.image, (left, top))
        if number == 0:
            corner = (left + THUMBNAIL_SIDE + 2, top + THUMBNAIL_SIDE + 2)
            draw.rectangle((left - 3, top - 3, *corner), outline="#2563a8", width=3)
        for line, text in enumerate(picture.lines[:_LINES]):
            place = (left, top + THUMBNAIL_SIDE + 4 + line * _LINE)
            draw.text(place, _cut(text, font), "black", font)
    return sheet


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """A line's end, where it is too long to fit: files differ there."""
    if font.getlength(text) <= THUMBNAIL_SIDE:
        return text
    while text and font.getlength("..." + text) > THUMBNAIL_SIDE:
        text = text[1:]
    return "..." + text
