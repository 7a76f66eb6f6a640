"""Several runs side by side, on the test images that they have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tltool.comparing import Comparison
from tltool.metrics import METRIC_NAMES
from tltool.report.content import RunContent
from tltool.report.pages import render_page
from tltool.report.thumbnails import data_address, thumbnail

__all__ = ["render_comparison"]

_MOST_SHOWN = 24


def render_comparison(contents: Sequence[RunContent], found: Comparison) -> str:
    """One page on several runs.

    Args:
        contents: of the runs.
        found: what `compare` told of them, the most accurate first.
    """
    order = {one.run: i for i, one in enumerate(found.runs)}
    runs = sorted(contents, key=lambda c: order.get(str(c.run.folder), len(order)))
    differing = _differing(runs)
    return render_page(
        "comparison.html.j2",
        title=f"{len(runs)} runs on {found.n:,} test images",
        found=found,
        runs=runs,
        names=METRIC_NAMES,
        settings=differing,
        classes=_by_class(runs),
        disagreed=_disagreed(runs),
    )


def _differing(runs: Sequence[RunContent]) -> list[tuple[str, list[str]]]:
    """Settings that are not the same in all."""
    tables = [dict(content.settings) for content in runs]
    names = dict.fromkeys(name for table in tables for name in table)
    rows = [(name, [table.get(name, "-") for table in tables]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _by_class(runs: Sequence[RunContent]) -> list[tuple[str, list[float | None]]]:
    """Recall of each class in each run; classes that differ most come first."""
    found = []
    for label in runs[0].run.labels:
        recalls: list[float | None] = []
        for content in runs:
            tested = content.tested
            own = tested.targets == content.run.labels.index(label)
            hits = (tested.predicted == tested.targets)[own]
            recalls.append(float(hits.mean()) if len(hits) else None)
        found.append((label, recalls))

    def spread(row: tuple[str, list[float | None]]) -> float:
        known = [value for value in row[1] if value is not None]
        return float(np.ptp(known)) if known else -1.0

    return sorted(found, key=lambda row: -spread(row))


def _disagreed(
    runs: Sequence[RunContent],
) -> list[tuple[str, str, str, list[tuple[str, float, bool]]]]:
    """Images that some name right and others wrong: picture, file, class, and what each said."""
    said: list[dict[str, tuple[str, float, bool]]] = []
    for content in runs:
        tested = content.tested
        sure = tested.probabilities.max(axis=1)
        said.append(
            {
                name: (tested.labels[p], float(s), bool(p == t))
                for name, p, t, s in zip(
                    tested.names, tested.predicted, tested.targets, sure, strict=True
                )
            }
        )
    first = runs[0].tested
    rows = []
    for name, path, target in zip(first.names, first.paths, first.targets, strict=True):
        if not all(name in one for one in said):
            continue
        answers = [one[name] for one in said]
        if len({right for *_, right in answers}) > 1:
            surest = max(sure for _, sure, right in answers if not right)
            rows.append((surest, name, path, first.labels[target], answers))
    rows.sort(key=lambda row: -row[0])
    return [
        (data_address(None if path is None else thumbnail(path)), name, label, answers)
        for _, name, path, label, answers in rows[:_MOST_SHOWN]
    ]
