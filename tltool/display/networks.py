"""What is printed of networks, and of what they look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from tltool._files import counted
from tltool.backbones.catalogue import BackboneEntry, BackbonePage
from tltool.display.console import print_pairs, print_rich
from tltool.explaining import Explanations
from tltool.layer_facts import Atlas
from tltool.looking import Look
from tltool.mapping import FeatureMap

__all__ = [
    "print_atlas",
    "print_backbone",
    "print_backbones",
    "print_explanations",
    "print_look",
    "print_map",
]


def print_backbones(entries: Sequence[BackboneEntry]) -> None:
    """A row a backbone."""
    right = ("Parameters", "Multiply-adds", "Features", "Top-1", "Top-5")
    table = Table(box=None, pad_edge=False)
    for heading in ("Name", *right[:2], "Input", *right[2:], "Licence", "Weights"):
        table.add_column(heading, justify="right" if heading in right else "left", no_wrap=True)
    for entry in entries:
        preset = entry.preset
        table.add_row(
            preset.name,
            _short(preset.parameters),
            _short(preset.multiply_adds),
            "{}x{}".format(*preset.input_size),
            f"{preset.features:,}",
            *(
                "" if top is None else f"{top:.1f}"
                for top in (preset.accuracy.top1, preset.accuracy.top5)
            ),
            preset.weights.licence or "-",
            entry.weights,
        )
    print_rich(table, whole=True)
    typer.echo(
        "\nTop-1 and top-5 in percent, on the set that tltool backbones NAME tells. Weights: where "
        "they would be taken from; none: with --weights FILE, or random."
    )


def print_backbone(page: BackbonePage, by: str) -> None:
    """The fact card of a backbone, and a row for each layer or block."""
    preset, accuracy = page.entry.preset, page.entry.preset.accuracy
    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    tops = [
        f"{top:g} % {n}" for n, top in (("top-1", accuracy.top1), ("top-5", accuracy.top5)) if top
    ]
    published = f"{', '.join(tops)} on {accuracy.on} ({accuracy.source})" if tops else "nothing"
    for name, value in (
        ("Backbone", f"{preset.title} ({preset.name})"),
        ("Parameters", f"{page.parameters:,}"),
        ("Input", "{}x{} pixels".format(*page.input_size) + f", from {preset.smallest_input} on"),
        ("Features", f"{preset.features:,} from tap {preset.tap}"),
        ("Published", published),
        ("Weights", f"{preset.weights.source}; now: {page.entry.weights}"),
        *([("Licence", preset.weights.licence)] if preset.weights.licence else []),
        ("Source", preset.citation),
    ):
        facts.add_row(name, escape(value))
    print_rich(facts)
    typer.echo("")
    rows: Iterable[Any] = page.layers if by == "layer" else page.blocks
    table = Table(box=None, pad_edge=False)
    first = ("Layer", "Kind") if by == "layer" else ("Block", "Layers")
    numbers = ("Parameters", "Multiply-adds", "Field", "Stride")
    for heading in (*first, "Output", *numbers, "Taps", "Freeze boundary"):
        table.add_column(heading, justify="right" if heading in numbers else "left", no_wrap=True)
    for row in rows:
        boundary = (row.block if row.boundary else "") if by == "layer" else row.name
        table.add_row(
            row.name,
            row.kind if by == "layer" else str(row.layers),
            "x".join(map(str, row.output_shape)),
            f"{row.parameters:,}" if row.parameters else "",
            f"{row.multiply_adds:,}" if row.multiply_adds else "",
            "all" if row.receptive_field is None else str(row.receptive_field),
            "" if row.stride is None else str(row.stride),
            " ".join(row.taps),
            "" if boundary == "head" else boundary,
        )
    print_rich(table, whole=True)
    if by == "block":
        typer.echo(f"\nEvery layer, with its name: tltool backbones {preset.name} --by layer")
    typer.echo(
        "\nField: side in pixels of the square of the image that one output depends on; stride: "
        "pixels between neighbouring outputs."
    )


def _short(n: float) -> str:
    """A count with three digits and a unit: 25.6 M."""
    for unit in ("", " k", " M"):
        if n < 1000:
            return f"{n:.3g}{unit}"
        n /= 1000
    return f"{n:.3g} G"


def print_look(done: Look) -> None:
    """The first layer, what was looked at beyond it, and the page."""
    facts = done.as_json()
    rows = [
        ("Network", f"{done.network}, weights: {done.weights}"),
        (
            "First layer",
            "{}: {}, {} x {}, stride {} x {}".format(
                done.first_layer,
                counted(done.n_filters, "filter"),
                *done.kernel_size,
                *done.stride,
            ),
        ),
    ]
    if done.mapped:
        rows.append(("Activations", f"{counted(len(done.mapped), 'channel')} of {done.tap}"))
    if done.searched:
        rows.append(("Searched", f"{counted(done.searched, 'image')} with {done.tap}"))
    if done.bad_files:
        rows.append(("Left out", counted(len(done.bad_files), "unreadable file")))
    print_pairs([*rows, ("Page", facts["out"])])
    if done.excited:
        table = Table(box=None, pad_edge=False)
        table.add_column("Channel", justify="right", no_wrap=True)
        table.add_column("Largest", justify="right", no_wrap=True)
        table.add_column("Class", overflow="fold")
        table.add_column("File", overflow="fold")
        for channel in done.excited:
            for one in channel.images[:1]:
                cells = (escape(one.label), escape(one.file))
                table.add_row(str(channel.channel), f"{one.value:.2f}", *cells)
        typer.echo("")
        print_rich(table)


def print_map(done: FeatureMap) -> None:
    """The page, what it marks, and how long it took."""
    seconds = ", ".join(f"{name} {spent:.1f}" for name, spent in done.seconds.items())
    typer.echo(
        f"{done.as_json()['page']}: {counted(done.n_images, 'image')} of "
        f"{counted(len(done.classes), 'class', 'classes')}, "
        f"{counted(len(done.mistakes), 'test mistake')} and "
        f"{counted(len(done.suspects), 'doubted label')} marked"
    )
    typer.echo(f"Seconds: {seconds}")


def print_explanations(found: Explanations) -> None:
    """What each image was taken for, and how its maps fared."""
    table = Table(box=None, pad_edge=False)
    table.add_column("Image", overflow="fold")
    table.add_column("Explained", overflow="fold")
    table.add_column("Probability", justify="right")
    table.add_column("Map", no_wrap=True)
    for heading in ("Covered", "random", "Put in", "random"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found.images:
        for i, kind in enumerate(one.maps):
            named = (escape(one.file), escape(one.explained), f"{one.probability:.3f}")
            areas = [""] * 4
            if one.deletion is not None and one.insertion is not None:
                areas = [
                    f"{found_areas[name]:.3f}"
                    for found_areas in (one.deletion, one.insertion)
                    for name in (kind, "random")
                ]
            table.add_row(*(named if i == 0 else ("", "", "")), kind, *areas)
    print_rich(table)
    for check in found.checks:
        steps = ", ".join(
            f"{layer} {'blank' if value is None else f'{value:.2f}'}"
            for layer, value in zip(check.layers, check.likeness, strict=True)
        )
        typer.echo(f"{check.map}, likeness after shuffling down to: {steps}")
    for verdict in found.verdicts:
        typer.echo(verdict)
    if found.checks:
        typer.echo(
            "Covered: area under the probability as places go, lower is better; put in: as they "
            "come, higher is better."
        )
    typer.echo(f"Page: {found.page}")


def print_atlas(found: Atlas) -> None:
    """A row a layer, and what they tell."""
    table = Table(box=None, pad_edge=False)
    table.add_column("Layer", no_wrap=True)
    for heading in (
        "Features",
        "Probe",
        "95 % interval",
        "Parameters",
        "Moved",
        "averaged",
        "Spoiled",
        "Right, moved",
        "spoiled",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in found.layers:
        table.add_row(
            layer.tap,
            f"{layer.features:,}",
            f"{layer.accuracy.value:.3f}",
            f"{layer.accuracy.low:.3f} to {layer.accuracy.high:.3f}",
            f"{layer.parameters:.0%}",
            f"{layer.invariance:.3f}",
            f"{layer.pooled_invariance:.3f}",
            f"{layer.robustness:.3f}",
            f"{layer.moved:.3f}",
            f"{layer.spoiled:.3f}",
        )
    print_rich(table)
    for sentence in found.in_words:
        typer.echo(sentence)
    typer.echo(f"Page: {found.page}")
