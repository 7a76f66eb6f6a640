"""Commands that say what to make of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tltool.cli.apps import app
from tltool.cli.options import (
    BadImagesOption,
    Data,
    Debug,
    EngineOption,
    Force,
    ImageColumn,
    InputSize,
    Json,
    LabelColumn,
    Precision,
    Quiet,
    Relabel,
    SplitColumn,
    StoreOption,
    Tap,
    Weights,
)
from tltool.cli.running import explained

__all__ = ["advise", "check"]


@app.command()
@explained
def check(
    data: Data,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Check this network on the images, too; with --labels, the one whose features "
            "tell.",
        ),
    ] = None,
    weights: Weights = None,
    input_size: InputSize = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Find labels that are probably wrong.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --labels: the page, and beside it a CSV file for corrections; default: "
            "labels-NAME.html.",
        ),
    ] = None,
    force: Force = False,
    relabel: Relabel = None,
    store: StoreOption = None,
    bad_images: BadImagesOption = "skip",
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find what is wrong with a data set.

    Unreadable files, identical and nearly identical ones, contradicting labels, classes that are
    too small; with --backbone, untrained weights, wrong scales and swapped colours; with --labels,
    labels that are probably wrong, for correction.
    """
    from dataclasses import asdict

    from tltool._validation import TltoolError
    from tltool.display.console import print_json
    from tltool.display.images import print_check, print_label_check
    from tltool.workflow import check as check_data

    columns = {
        "image_column": image_column,
        "label_column": label_column,
        "split_column": split_column,
    }
    if labels:
        from tltool.label_checking import check_labels

        found = check_labels(
            data,
            out=out,
            force=force,
            store=store,
            backbone=backbone,
            weights=weights,
            input_size=input_size,
            bad_images=bad_images,
            relabel=relabel,
            **columns,
        )
        if json:
            print_json(found.as_json())
        elif not quiet:
            print_label_check(found)
        return
    for option, given in (("--out", out), ("--force", force), ("--relabel", relabel)):
        if given:
            raise TltoolError(f"{option} is for --labels; give that too, or leave it out.")

    report = check_data(
        data,
        backbone=backbone,
        weights=weights,
        input_size=input_size,
        store=store,
        bad_images=bad_images,
        **columns,
    )
    if json:
        print_json(asdict(report))
    elif not quiet:
        print_check(report)


@app.command()
@explained
def advise(
    data: Data,
    backbones: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Networks to compare, with commas; or auto, all whose weights are on this "
            "machine. The advice is then on the best.",
        ),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            metavar="ACCURACY", help="Wished for, such as 0.9: how many images would it take?"
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Race the strategies on images held out.")
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long that may take: 90s, 10m, 1h. Default: 10m."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Pretrained network; default: as for adapt."),
    ] = None,
    weights: Weights = None,
    tap: Tap = None,
    input_size: InputSize = None,
    seed: Annotated[int, typer.Option(help="Of splits, folds and intervals.")] = 0,
    test: Annotated[
        float, typer.Option(metavar="FRACTION", help="Share that adapt would test on.")
    ] = 0.2,
    val: Annotated[
        float, typer.Option(metavar="FRACTION", help="Share that adapt would validate on.")
    ] = 0.1,
    engine: EngineOption = "auto",
    precision: Precision = "float32",
    store: StoreOption = None,
    bad_images: BadImagesOption = "skip",
    relabel: Relabel = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say which strategy suits your images, and why.

    Measures how many they are, how near to those that the network was trained on, what its
    features tell without training, and what more images would bring. Images that adapt would test
    on are not looked at.
    """
    from tltool.advising import advise as advise_on_data
    from tltool.display.advice import print_advice
    from tltool.display.console import print_json

    advice = advise_on_data(
        data,
        backbones=backbones,
        target=target,
        verify=verify,
        budget=budget,
        store=store,
        backbone=backbone,
        weights=weights,
        tap=tap,
        input_size=input_size,
        seed=seed,
        test=test,
        val=val,
        engine=engine,
        precision=precision,
        bad_images=bad_images,
        relabel=relabel,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
    )
    if json:
        print_json(advice.as_json())
    elif not quiet:
        print_advice(advice)
