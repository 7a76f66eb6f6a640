"""Several runs side by side, on the test images that they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
    said = [_said(content) for content in runs]
    common = [content for content in said[0] if all(content in one for one in said)]
    return render_page(
        "comparison.html.j2",
        title=f"{len(runs)} runs on {found.n:,} test images",
        found=found,
        runs=runs,
        heads=_heads([content.run.folder for content in runs]),
        names=METRIC_NAMES,
        settings=_differing(runs),
        classes=_by_class(runs[0].run.labels, said, common),
        disagreed=_disagreed(runs[0], said, common),
    )


@dataclass(frozen=True)
class _Answer:
    """What a run said of an image: the class, how sure, and whether that is right."""

    row: int
    true: str
    named: str
    sure: float

    @property
    def right(self) -> bool:
        return self.named == self.true


def _said(content: RunContent) -> dict[bytes, _Answer]:
    """By SHA-256 of the image."""
    tested = content.tested
    sure = tested.probabilities.max(axis=1)
    return {
        image: _Answer(i, tested.labels[t], tested.labels[p], float(sure[i]))
        for i, (image, t, p) in enumerate(
            zip(tested.hashes, tested.targets, tested.predicted, strict=True)
        )
    }


def _heads(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of paths that tell them apart."""
    for length in range(1, max(len(folder.parts) for folder in folders)):
        ends = [str(Path(*folder.parts[-length:])) for folder in folders]
        if len(set(ends)) == len(ends):
            return ends
    return [str(folder) for folder in folders]


def _differing(runs: Sequence[RunContent]) -> list[tuple[str, list[str]]]:
    """Settings that are not the same in all."""
    tables = [dict(content.settings) for content in runs]
    names = dict.fromkeys(name for table in tables for name in table)
    rows = [(name, [table.get(name, "-") for table in tables]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _by_class(
    labels: Sequence[str], said: Sequence[dict[bytes, _Answer]], common: Sequence[bytes]
) -> list[tuple[str, list[float | None]]]:
    """Recall of each class in each run, on common images; classes that differ most come first."""
    found = []
    for label in labels:
        own = [image for image in common if said[0][image].true == label]
        recalls: list[float | None] = [
            sum(one[image].right for image in own) / len(own) if own else None for one in said
        ]
        found.append((label, recalls))

    def spread(row: tuple[str, list[float | None]]) -> float:
        known = [value for value in row[1] if value is not None]
        return max(known) - min(known) if known else -1.0

    return sorted(found, key=lambda row: -spread(row))


def _disagreed(
    first: RunContent, said: Sequence[dict[bytes, _Answer]], common: Sequence[bytes]
) -> list[tuple[str, str, str, list[_Answer]]]:
    """Images that some name right and others wrong: picture, file, class, and what each said."""
    rows = []
    for image in common:
        answers = [one[image] for one in said]
        if len({answer.right for answer in answers}) > 1:
            surest = max(answer.sure for answer in answers if not answer.right)
            rows.append((surest, image, answers))
    rows.sort(key=lambda row: -row[0])
    tested = first.tested
    found = []
    for _, image, answers in rows[:_MOST_SHOWN]:
        i = answers[0].row
        picture = data_address(thumbnail(tested.paths[i], image))
        found.append((picture, tested.names[i], answers[0].true, answers))
    return found
