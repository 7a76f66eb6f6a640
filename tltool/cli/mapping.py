"""The command that draws a map of images: map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tltool.cli.apps import app
from tltool.cli.options import (
    BadImagesOption,
    Debug,
    EngineOption,
    ImageColumn,
    Json,
    LabelColumn,
    Quiet,
    SplitColumn,
    StoreOption,
    Tap,
    Weights,
)
from tltool.cli.running import explained

__all__ = ["map_images"]


@app.command("map")
@explained
def map_images(
    where: Annotated[
        str,
        typer.Argument(
            metavar="RUN|DATA",
            help="Run folder; or data as adapt takes it: folder of class folders, CSV or TSV file, "
            "or tfds:NAME[:VERSION].",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="HTML page to write; default: map-NAME.html."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a page that is there.")] = False,
    layout: Annotated[
        Literal["tsne", "umap"],
        typer.Option(help="How to lay out; umap needs pip install 'tltool[umap]'."),
    ] = "tsne",
    seed: Annotated[int, typer.Option(help="The same one gives the same map.")] = 0,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of DATA: the pretrained network; default: as for adapt."
        ),
    ] = None,
    weights: Weights = None,
    tap: Tap = None,
    engine: EngineOption = "auto",
    store: StoreOption = None,
    bad_images: BadImagesOption = "skip",
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw a map on which images lie near those that look like them.

    Writes one HTML page with thumbnails that needs no network: zoom, search, the nearest neighbours
    of an image on a click. Test images that a run named wrong and labels that seem wrong are
    marked.
    """
    from tltool.display.console import print_json
    from tltool.display.networks import print_map
    from tltool.mapping import map_features

    done = map_features(
        where,
        out=out,
        force=force,
        store=store,
        layout=layout,
        seed=seed,
        backbone=backbone,
        weights=weights,
        tap=tap,
        engine=engine,
        bad_images=bad_images,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
    )
    if json:
        print_json(done.as_json())
    elif not quiet:
        print_map(done)
