"""The report of a run: one HTML file that fetches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tltool.report.advice import advice_figures
from tltool.report.atlas_figures import atlas_figures
from tltool.report.confidence import confidence_charts
from tltool.report.content import DoubtedImage, RunContent
from tltool.report.curves import training_charts
from tltool.report.findings import findings_of
from tltool.report.overlays import overlay
from tltool.report.pages import render_page
from tltool.report.predictions import class_rows, largest_confusions, pictured
from tltool.report.thumbnails import data_address, thumbnail

__all__ = ["MOST_MISTAKES", "render_report"]

MOST_MISTAKES = 24
"""Mistakes that are shown, the surest ones."""

_MOST_DOUBTED = 24
_MOST_BARS = 40


@dataclass(frozen=True)
class _Shown:
    """An image, its map and what is said of it."""

    picture: str
    map: str
    name: str
    true: str
    predicted: str
    probability: float


def render_report(
    content: RunContent,
    maps: Mapping[str, np.ndarray] | None = None,
    atlas: Mapping[str, Any] | None = None,
    card: str = "model_card.md",
) -> str:
    """The page. Everything that comes from file or class names is escaped.

    Args:
        content: of the run.
        maps: of images that were named wrong, by file: what spoke for the class that was named.
        atlas: of the layers, as `Atlas.as_json` gives it, where it was made.
        card: name of the model card beside the page.
    """
    facts, tested = content.facts, content.tested
    data = pictured(tested)
    check = facts["check"]
    sizes = content.class_sizes
    advice = facts.get("advice")
    return render_page(
        "report.html.j2",
        title=content.title,
        content=content,
        facts=facts,
        check=check,
        labels=content.run.labels,
        metrics=content.metrics,
        tested=tested,
        data=data,
        card=card,
        classes=class_rows(tested, check["classes"]),
        confusions=largest_confusions(tested),
        confidence=confidence_charts(tested.probabilities, tested.targets),
        mistakes=_mistakes(content, maps or {}),
        maps=bool(maps),
        findings=findings_of(check, content.folder_of_data),
        sizes=sizes[:_MOST_BARS],
        imbalance=sizes[0][1] / max(sizes[-1][1], 1),
        advice=None if advice is None else advice_figures(advice),
        curves=training_charts(content.history, facts.get("choices", {}).get("best_epoch", 0)),
        doubted=[_doubted(one) for one in content.doubted[:_MOST_DOUBTED]],
        atlas=None if atlas is None else atlas_figures(atlas),
    )


def _mistakes(content: RunContent, maps: Mapping[str, np.ndarray]) -> list[_Shown]:
    tested = content.tested
    found = []
    for i in tested.mistakes[:MOST_MISTAKES]:
        name = tested.names[i]
        picture = thumbnail(tested.paths[i], tested.hashes[i])
        drawn: Image.Image | None = None
        if picture is not None and name in maps:
            drawn = overlay(picture, maps[name])
        found.append(
            _Shown(
                data_address(picture),
                data_address(drawn),
                name,
                tested.labels[tested.targets[i]],
                tested.labels[tested.predicted[i]],
                float(tested.probabilities[i].max()),
            )
        )
    return found


def _doubted(one: DoubtedImage) -> tuple[str, DoubtedImage]:
    return data_address(thumbnail(one.path, one.content)), one
