"""Commands that show what a network looks at: explain, atlas, report."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tltool.cli.apps import app
from tltool.cli.options import (
    BadImagesOption,
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
    RunFolder,
    SplitColumn,
    StoreOption,
    Weights,
)
from tltool.cli.running import explained

__all__ = ["atlas", "explain", "report"]


@app.command()
@explained
def explain(
    run: RunFolder,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...", help="Files, folders and patterns.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write; default: explain-RUN."),
    ] = None,
    maps: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="occlusion, grad-cam, class-activation, several with commas; auto: all that the "
            "run has.",
        ),
    ] = "auto",
    label: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="Class to explain; default: the likeliest."),
    ] = None,
    patch: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Side of the grey square; default: a seventh."),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Between its places; default: a 28th of the side."),
    ] = None,
    checks: Annotated[
        int, typer.Option(metavar="N", help="Images to put the maps to the test on.")
    ] = 3,
    engine: EngineOption = "auto",
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show what an answer rests on.

    Maps over each image, as PNG files and one page; and whether the maps can be believed: what
    happens when the places they mark are covered, and when the network's weights are shuffled.
    """
    from tltool.display.console import print_json
    from tltool.display.networks import print_explanations
    from tltool.explaining import explain as explain_images

    found, bad = explain_images(
        run,
        paths,
        out=out,
        maps=maps,
        label=label,
        patch=patch,
        stride=stride,
        checks=checks,
        engine=engine,
        force=force,
    )
    if json:
        print_json(found.as_json() | {"bad_files": [asdict(one) for one in bad]})
    elif not quiet:
        print_explanations(found)
    if bad:
        raise typer.Exit(1)


@app.command()
@explained
def atlas(
    where: Annotated[
        str,
        typer.Argument(
            metavar="DATA|RUN",
            help="Images, as for adapt; or a run folder, whose report then shows the atlas.",
            show_default=False,
        ),
    ],
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Pretrained network; default: as for adapt."),
    ] = None,
    weights: Weights = None,
    input_size: InputSize = None,
    images: Annotated[int, typer.Option(metavar="N", help="Images to change.")] = 48,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Page to write; default: atlas-NAME.html; of a run its report."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of splits, folds and what is drawn.")] = 0,
    engine: EngineOption = "auto",
    precision: Precision = "float32",
    store: StoreOption = None,
    bad_images: BadImagesOption = "skip",
    relabel: Relabel = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Look at images through every layer of a network.

    How well a linear probe does on each layer's features, and what becomes of them when images are
    moved, scaled, turned or spoiled.
    """
    from tltool.display.console import print_json
    from tltool.display.networks import print_atlas
    from tltool.layer_atlas import atlas as make_atlas

    found = make_atlas(
        where,
        out=out,
        images=images,
        force=force,
        store=store,
        backbone=backbone,
        weights=weights,
        input_size=input_size,
        seed=seed,
        engine=engine,
        precision=precision,
        bad_images=bad_images,
        relabel=relabel,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
    )
    if json:
        print_json(found.as_json())
    elif not quiet:
        print_atlas(found)


@app.command()
@explained
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Finished runs; several are shown side by side.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Page to write; default: report.html in RUN, comparison.html of several.",
        ),
    ] = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a run's report once more, or several side by side.

    A model card, model_card.md, is written beside the report of one run.
    """
    from tltool._files import printable
    from tltool.display.console import print_json
    from tltool.reporting import write_report

    page = printable(str(write_report(runs, out=out, force=force)))
    if json:
        print_json({"report": page})
    elif not quiet:
        typer.echo(page)
