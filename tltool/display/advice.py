"""What is printed of advice."""

from __future__ import annotations

import math
import shlex

import typer

from tltool.advice import Advice, TapEvidence
from tltool.display.console import interval_in_words, print_columns, print_pairs

__all__ = ["print_advice"]


def print_advice(advice: Advice) -> None:
    """The advice first, then all that it follows from."""
    found = advice.evidence
    words = [(f"--{k.replace('_', '-')}", str(v)) for k, v in advice.settings.items()]
    options = shlex.join(word for pair in words for word in pair)
    rows = [
        ("Advice", f"{advice.strategy}: tltool adapt DATA {options}"),
        *(("Why" if i == 0 else "", reason) for i, reason in enumerate(advice.reasons)),
    ]
    if advice.table_in_words:
        rows.append(("", advice.table_in_words))
    rows += [("Note", note) for note in advice.notes]
    size = found.size
    rows.append(
        (
            "Size",
            f"{advice.cell[0]}: {size.images:,} images to learn from, {size.classes} classes, the "
            f"smallest of {size.smallest_class}; {size.effective:,} without near-duplicates",
        )
    )
    if found.similarity is not None:
        where = f"nearest to {advice.nearest} ({advice.references[str(advice.nearest)]:.3f})"
        far = interval_in_words(found.similarity.distance, 3)
        rows.append(("Similarity", f"{advice.cell[1]}: distance {far}, {where}"))
        apart = f"from {advice.parts_at} on" if advice.parts_at else "nowhere"
        rows.append(("", f"domains part {apart}; measured with {found.similarity.measured_with}"))
    follows = f"recipe {advice.recipe}" if advice.recipe else "the strategy's own settings"
    tap = advice.settings.get("tap", f"{found.probe.tap}, the network's own")
    rows.append(("Follows", f"{follows}; features of {tap}"))
    if advice.learning_rate is not None:
        low, high = advice.learning_rate
        rows.append(
            (
                "Learning rate",
                f"the recipe's; with --optimizer sgd, {low:g} to {high:g} are worth trying",
            )
        )
    if advice.race is not None:
        rows.append(("Race", advice.race.said))
    print_pairs(rows)
    print_columns(
        ("Strategy", "Expected accuracy", "90 % interval", "Seconds", "90 % interval"),
        [
            (
                one.strategy,
                f"{one.accuracy.value:.3f}",
                f"{one.accuracy.low:.3f} to {one.accuracy.high:.3f}",
                f"{one.seconds.value:,.0f}",
                f"{one.seconds.low:,.0f} to {one.seconds.high:,.0f}",
            )
            for one in advice.forecasts
        ],
    )
    more = [
        (f"{times} times the images", f"{one.value:.3f}", f"{one.low:.3f} to {one.high:.3f}")
        for times, one in advice.more.items()
    ]
    print_columns(("Off-the-shelf with", "Expected accuracy", "90 % interval"), more)
    if advice.needed is not None:
        needed = advice.needed
        most = f"{needed.high:,.0f}" if math.isfinite(needed.high) else "any number"
        typer.echo(
            f"\n{advice.target:g} takes about {needed.value:,.0f} images of each class to learn "
            f"from ({needed.low:,.0f} to {most}); there are {size.of_each_class:.0f}."
        )
    headings = ("Accuracy", "95 % interval", "Neighbours", "LogME", "H-score", "LEEP", "NCE")
    looked_at = (*found.taps, *([] if found.pixels is None else [found.pixels]))
    print_columns(("Features", *headings), [(t.tap, *_scores(t)) for t in looked_at])
    if advice.ranking:
        print_columns(
            ("Backbone", *headings, "Distance", "ms an image"),
            [
                (
                    one.backbone,
                    *_scores(one.probe),
                    "" if one.distance is None else f"{one.distance:.3f}",
                    f"{1000 * one.seconds:.1f}",
                )
                for one in advice.ranking
            ],
        )
    for name, reason in advice.skipped.items():
        typer.echo(f"\n{name} was left out: {reason}")
    if advice.race is not None:
        print_columns(
            ("Lap", "Images", "Accuracy", "Seconds"),
            [
                (lap.strategy, f"{lap.images:,}", f"{lap.accuracy:.3f}", f"{lap.seconds:.0f}")
                for lap in advice.race.laps
            ],
        )


def _scores(tap: TapEvidence) -> tuple[str, ...]:
    leep = "" if tap.leep is None else f"{tap.leep:.3f}"
    return (
        f"{tap.accuracy.value:.3f}",
        f"{tap.accuracy.low:.3f} to {tap.accuracy.high:.3f}",
        f"{tap.neighbours:.3f}",
        f"{tap.log_evidence:.3f}",
        f"{tap.h_score:.2f}",
        leep,
        "" if tap.nce is None else f"{tap.nce:.3f}",
    )
