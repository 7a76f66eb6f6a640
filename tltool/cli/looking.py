"""The command that looks at a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    Weights,
)
from tltool.cli.running import explained

__all__ = ["look"]


@app.command()
@explained
def look(
    where: Annotated[
        str,
        typer.Argument(
            metavar="BACKBONE|RUN",
            help="Name of a network, or a run folder: the network that it has.",
            show_default=False,
        ),
    ],
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Image to show the activations of.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Images to search for those that excite filters most; as for adapt.",
        ),
    ] = None,
    tap: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Layer of --image and --data, without pooling; tltool backbones NAME lists them. "
            "Default: the highest block whose receptive field has at most half the image's side.",
        ),
    ] = None,
    filters: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Filters of --data, from 0: 3,17. Default: the 12 that vary most between images.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="Images of each filter, up to 25.")] = 9,
    weights: Weights = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Page; default: look-NAME.html.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
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
    """Look into a network: its filters, and what they respond to.

    Writes a page with the filters of the first layer; of an image, the activations of a layer; of
    a data set, the images that excite each filter most, cropped to what it sees of them.
    """
    from tltool.display.console import print_json
    from tltool.display.networks import print_look
    from tltool.looking import look as look_into

    done = look_into(
        where,
        image=image,
        data=data,
        tap=tap,
        filters=filters,
        top=top,
        weights=weights,
        out=out,
        force=force,
        engine=engine,
        store=store,
        bad_images=bad_images,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
    )
    if json:
        print_json(done.as_json())
    elif not quiet:
        print_look(done)
