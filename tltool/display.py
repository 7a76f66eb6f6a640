"""What the command line prints: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import json
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tltool._files import counted
from tltool._presets import views
from tltool.advisor import Advice, TapEvidence
from tltool.backbones.catalogue import BackboneEntry, BackbonePage
from tltool.comparing import Comparison
from tltool.data import CheckReport, kinds_in_words
from tltool.ensembles import EnsembleResult
from tltool.explaining import Explanations
from tltool.features import StoreInfo
from tltool.gallery import Extraction, Neighbours
from tltool.label_checking import LabelCheck
from tltool.layer_facts import Atlas
from tltool.looking import Look
from tltool.mapping import FeatureMap
from tltool.metrics import METRIC_NAMES, Interval
from tltool.results import TRIED, Prediction, RunResult, tried_in_words

__all__ = [
    "print_advice",
    "print_atlas",
    "print_backbone",
    "print_backbones",
    "print_check",
    "print_comparison",
    "print_csv",
    "print_ensemble",
    "print_explanations",
    "print_extraction",
    "print_json",
    "print_label_check",
    "print_look",
    "print_map",
    "print_neighbours",
    "print_predictions",
    "print_result",
    "print_store",
    "size_in_words",
]


def print_json(value: dict[str, Any]) -> None:
    """One JSON object."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def _print_rich(table: Any, *, whole: bool = False) -> None:
    """A table as wide as the terminal; with `whole` wider, rather than with figures cut off."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    if whole:
        wide = console.measure(table, options=console.options.update(max_width=1000)).maximum
        console.width = max(console.width, wide)
    console.print(table)


def print_result(result: RunResult) -> None:
    """Figures of a run as a table."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    bad = f", {len(result.bad_files)} unreadable" if result.bad_files else ""
    table.add_row("Found", f"{result.n_images:,} images of {len(result.labels)} classes{bad}")
    size = "{}x{} pixels".format(*result.input_size)
    table.add_row("Backbone", ", ".join((result.backbone, *result.taps, size)))
    if result.views != "1":
        table.add_row("Views", f"{result.views}: {views(result.views).title}")
    table.add_row("Strategy", result.strategy)
    for name, value in result.described:
        table.add_row(name, value)
    table.add_row("Fitted on", f"{result.n_train:,} images ({result.n_val:,} for validation)")
    table.add_row("Tested on", f"{result.n_test:,} images")
    for name, interval in result.evaluation.metrics.items():
        table.add_row(
            METRIC_NAMES[name].title,
            f"{interval.value:.3f}   95 % interval {interval.low:.3f} to {interval.high:.3f}",
        )
    baselines = result.evaluation.baselines
    table.add_row(
        "To compare",
        f"most frequent class {baselines['majority_class']:.3f}, chance {baselines['chance']:.3f}",
    )
    table.add_row("Seconds", ", ".join(f"{name} {s:.1f}" for name, s in result.seconds.items()))
    for note in result.notes:
        table.add_row("Note", escape(note))
    table.add_row("Run", escape(result.as_json()["run"]))
    _print_rich(table)
    tried = tried_in_words(result.choices)
    if len(tried) > 1:
        typer.echo("")
        _print_tried(tried)


def _print_tried(tried: Sequence[tuple[str, ...]]) -> None:
    """The best value of each classifier and transforms, the most accurate first."""
    table = Table(box=None, pad_edge=False)
    for heading in TRIED:
        table.add_column(
            heading, justify="right" if heading in TRIED[-2:] else "left", no_wrap=True
        )
    for row in tried:
        table.add_row(*row)
    _print_rich(table)


def print_comparison(found: Comparison) -> None:
    """Figures of each run, and what can be said of the best one against the others."""
    table = Table(box=None, pad_edge=False)
    table.add_column("Run", overflow="fold")
    table.add_column("Strategy", no_wrap=True)
    table.add_column("Backbone", no_wrap=True)
    for heading in ("Accuracy", "95 % interval", "Log loss", "Calibration error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found.runs:
        figures = one.evaluation.metrics
        accuracy = figures["accuracy"]
        table.add_row(
            escape(one.run),
            one.strategy,
            one.backbone,
            f"{accuracy.value:.3f}",
            f"{accuracy.low:.3f} to {accuracy.high:.3f}",
            f"{figures['log_loss'].value:.3f}",
            f"{figures['expected_calibration_error'].value:.3f}",
        )
    _print_rich(table, whole=True)
    corrected = f" (p for {len(found.pairs)} comparisons)" if len(found.pairs) > 1 else ""
    typer.echo(f"\nOn {counted(found.n, 'test image')} that they have in common{corrected}:")
    for pair in found.pairs:
        typer.echo(f"- {pair.in_words()}")
        typer.echo(
            f"  difference in accuracy {_interval(pair.accuracy, 3)}, in log loss "
            f"{_interval(pair.log_loss, 3)}"
        )
    for note in found.notes:
        typer.echo(note)


def print_ensemble(found: EnsembleResult) -> None:
    """Figures as of any run, its members, and how it compares with them."""
    print_result(found.result)
    table = Table(box=None, pad_edge=False)
    table.add_column("Member", overflow="fold")
    for heading in ("Strategy", "Backbone"):
        table.add_column(heading, no_wrap=True)
    for heading in ("Weight", "Accuracy", "Log loss"):
        table.add_column(heading, justify="right", no_wrap=True)
    for m in found.members:
        figures = ("" if value is None else f"{value:.3f}" for value in (m.accuracy, m.log_loss))
        table.add_row(escape(m.run), m.strategy, m.backbone, f"{m.weight:.2f}", *figures)
    typer.echo("\nOn the images that members were weighed by:")
    _print_rich(table, whole=True)
    if found.growth is not None:
        grown = found.growth
        memory = (
            ""
            if grown.peak_memory is None
            else f"; the largest took {grown.peak_memory / 1e9:.1f} GB"
        )
        typer.echo(f"{grown.trained} trained, {grown.at_a_time} at a time{memory}")
    if found.student is not None:
        typer.echo(f"Its student: {found.student.as_json()['run']}")
    typer.echo("\nAgainst its members:" if found.student is None else "\nAll of them:")
    print_comparison(found.comparison)


def print_check(report: CheckReport) -> None:
    """Findings as a table; long lists are cut."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("Images", f"{report.n_images:,} of {report.n_files:,} files can be used")
    counts = sorted(report.classes.values())
    table.add_row("Classes", f"{len(counts)}, {counts[0]:,} to {counts[-1]:,} images each")
    if report.splits:
        table.add_row("Splits", ", ".join(f"{s} {n:,}" for s, n in report.splits.items()))
    table.add_row("Sizes", "{}x{} to {}x{} pixels".format(*report.smallest, *report.largest))
    if report.ignored:
        table.add_row("Other files", escape(kinds_in_words(report.ignored)))
    table.add_row("Unreadable", str(len(report.bad_files)))
    for heading, groups in (
        ("Identical", report.duplicates),
        ("Contradictory", report.contradictions),
        ("Near-duplicates", report.near_duplicates),
    ):
        table.add_row(heading, counted(len(groups), "group"))
        for group in groups[:10]:
            table.add_row("", escape(" = ".join(group)))
        if len(groups) > 10:
            table.add_row("", f"and {len(groups) - 10} more (--json shows all)")
    if report.leaks:
        table.add_row("Copies across splits", f"{len(report.leaks)} left out of the earlier splits")
    for note in report.notes:
        table.add_row("Note", escape(note))
    _print_rich(table)


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
        far = _interval(found.similarity.distance, 3)
        rows.append(("Similarity", f"{advice.cell[1]}: distance {far}, {where}"))
        apart = f"from {advice.parts_at} on" if advice.parts_at else "nowhere"
        rows.append(("", f"domains part {apart}; measured with {found.similarity.measured_with}"))
    follows = f"recipe {advice.recipe}" if advice.recipe else "the strategy's own settings"
    tap = advice.settings.get("tap", f"{found.probe.tap}, the network's own")
    rows.append(("Follows", f"{follows}; features of {tap}"))
    low, high = advice.learning_rate
    rows.append(("Learning rate", f"{low:g} to {high:g} are worth trying (SGD, momentum 0.9)"))
    if advice.race is not None:
        rows.append(("Race", advice.race.said))
    _print_pairs(rows)
    _print_columns(
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
    _print_columns(("Off-the-shelf with", "Expected accuracy", "90 % interval"), more)
    if advice.needed is not None:
        needed = advice.needed
        most = f"{needed.high:,.0f}" if needed.high < 1e9 else "any number"
        typer.echo(
            f"\n{advice.target:.3g} takes about {needed.value:,.0f} images of each class to learn "
            f"from ({needed.low:,.0f} to {most}); there are {size.of_each_class:.0f}."
        )
    headings = ("Accuracy", "95 % interval", "Neighbours", "LogME", "H-score", "LEEP", "NCE")
    looked_at = (*found.taps, *([] if found.pixels is None else [found.pixels]))
    _print_columns(("Features", *headings), [(t.tap, *_scores(t)) for t in looked_at])
    if advice.ranking:
        _print_columns(
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
        _print_columns(
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


def _interval(found: Interval, digits: int) -> str:
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def _print_pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, escape(value))
    _print_rich(table)


def _print_columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of names and figures, after an empty line."""
    table = Table(box=None, pad_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    typer.echo("")
    _print_rich(table, whole=True)


def print_predictions(predictions: Sequence[Prediction]) -> None:
    """A row an image."""
    table = Table(box=None, pad_edge=False)
    table.add_column("File", overflow="fold")
    for rank in range(len(predictions[0].top)):
        table.add_column("Predicted" if rank == 0 else f"{rank + 1}.", overflow="fold")
    for prediction in predictions:
        first, *others = (f"{escape(label)} {p:.3f}" for label, p in prediction.top)
        first = f"unsure ({first})" if prediction.unsure else first
        table.add_row(escape(prediction.file), first, *others)
    _print_rich(table)


def print_extraction(done: Extraction) -> None:
    """What was written, and of what."""
    taps = ", ".join(f"{name} ({width:,})" for name, width in done.taps.items())
    typer.echo(f"{done.as_json()['out']}: {counted(done.n_images, 'image')}, {taps}")
    bad = f"; {len(done.bad_files)} unreadable files left out" if done.bad_files else ""
    typer.echo(
        f"{done.backbone}, views {done.views}; {done.computed:,} computed, "
        f"{done.n_images - done.computed:,} stored before or copies{bad}"
    )


def print_neighbours(found: Neighbours) -> None:
    """A row an image, the nearest first."""
    table = Table(box=None, pad_edge=False)
    for heading in ("Distance", "Label", "Split", "File"):
        table.add_column(heading, overflow="fold")
    for one in found.neighbours:
        table.add_row(f"{one.distance:.3f}", escape(one.label), one.split, escape(one.file))
    _print_rich(table)
    typer.echo(
        f"\nOf {found.searched:,} images, by features: {found.features}; "
        f"{found.as_json()['sheet']} shows them."
    )


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
    _print_pairs([*rows, ("Page", facts["out"])])
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
        _print_rich(table)


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


def print_csv(predictions: Sequence[Prediction], *, answers: bool = False) -> None:
    """A line an image: file, label and probability of each class shown; and the answer."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    ranks = range(1, len(predictions[0].top) + 1) if predictions else range(1, 2)
    shown = (f"{what}_{r}" for r in ranks for what in ("label", "probability"))
    writer.writerow(["file", *shown, *(["answer"] if answers else [])])
    for prediction in predictions:
        pairs = (value for label, p in prediction.top for value in (label, f"{p:.7g}"))
        writer.writerow([prediction.file, *pairs, *([prediction.answer] if answers else [])])


def size_in_words(n: float) -> str:
    """Bytes with a unit a person would use."""
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"


def print_store(info: StoreInfo) -> None:
    """What a store holds, a row a space."""
    headings = ("Backbone", "Tap", "Views", "Canvas", "Precision", "Images", "Size", "Last used")
    table = Table(*headings, box=None)
    for space in info.spaces:
        table.add_row(
            f"{space['backbone']} ({space['weights'][:8]})",
            space["tap"],
            space["views"],
            "".join(re.findall(r"\d+x\d+", space["canvas"])),
            f"{space['precision']} {space['engine']}",
            f"{space['images']:,}",
            size_in_words(space["bytes"]),
            space["last_used"],
        )
    used, most = size_in_words(info.bytes), size_in_words(info.max_bytes)
    typer.echo(f"{info.path}: {used} of {most}, {info.inspections:,} images checked")
    _print_rich(table)


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
    _print_rich(table, whole=True)
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
    _print_rich(facts)
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
    _print_rich(table, whole=True)
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
    _print_rich(table)
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
    _print_rich(table)
    for sentence in found.in_words:
        typer.echo(sentence)
    typer.echo(f"Page: {found.page}")


def print_label_check(found: LabelCheck) -> None:
    """The most doubtful labels."""
    shown = found.doubted[:20]
    typer.echo(
        f"{len(found.doubted)} of {found.images:,} labels are in doubt; the features of "
        f"{found.backbone} tell {found.accuracy:.1%} of them."
    )
    if shown:
        table = Table(box=None, pad_edge=False)
        table.add_column("File", overflow="fold")
        table.add_column("Labelled", overflow="fold")
        table.add_column("Looks like", overflow="fold")
        table.add_column("Probability", justify="right")
        for one in shown:
            row = (one.file, one.given, one.suggested)
            table.add_row(*(escape(text) for text in row), f"{one.probability:.3f}")
        _print_rich(table)
    if len(found.doubted) > len(shown):
        typer.echo(f"and {len(found.doubted) - len(shown)} more")
    typer.echo(f"Page: {found.page}")
    typer.echo(f"Corrections: fill the column correction of {found.corrections}, or use the page.")
