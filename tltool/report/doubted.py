"""Labels in doubt, as a page on which they are corrected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tltool.data import LEFT_OUT
from tltool.report.content import DoubtedImage
from tltool.report.pages import render_page
from tltool.report.thumbnails import data_address, thumbnail

__all__ = ["render_doubted"]

_MOST_PICTURED = 300


def render_doubted(
    source: str, doubted: Sequence[DoubtedImage], labels: Sequence[str], images: int
) -> str:
    """The page; the most doubtful images have a picture.

    Args:
        source: the data as they were named.
        doubted: images, the most doubtful first.
        labels: all classes.
        images: how many were looked at.
    """
    shown = (thumbnail(one.path, one.content) for one in doubted[:_MOST_PICTURED])
    pictures = [data_address(picture) for picture in shown]
    name = Path(source).name or source
    return render_page(
        "doubted.html.j2",
        title=f"Labels in doubt: {name}",
        source=source,
        images=images,
        doubted=[*zip(doubted, pictures + [""] * (len(doubted) - len(pictures)), strict=True)],
        data={
            "labels": list(labels),
            "leftOut": LEFT_OUT,
            "name": f"corrections-{Path(name).stem}.csv",
            "rows": [[one.file, one.given, one.suggested] for one in doubted],
        },
    )
