"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = [
    "BadImagesOption",
    "Data",
    "Debug",
    "EngineOption",
    "Force",
    "ImageColumn",
    "InputSize",
    "Json",
    "LabelColumn",
    "Precision",
    "Quiet",
    "Recipe",
    "Relabel",
    "RunFolder",
    "SplitColumn",
    "StoreOption",
    "Tap",
    "TestViews",
    "ViewsOption",
    "Weights",
]

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Folder of class folders (under train/, val/, test/ or not), CSV or TSV file, or "
        "tfds:NAME[:VERSION].",
        show_default=False,
    ),
]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder that adapt wrote.", show_default=False)
]
EngineOption = Annotated[
    Literal["auto", "keras", "openvino"],
    typer.Option(help="What runs the network; auto takes OpenVINO on a CPU."),
]
Precision = Annotated[
    Literal["float32", "bfloat16"],
    typer.Option(help="bfloat16 is faster on some processors; features move by up to 10 %."),
]
StoreOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Feature store; default: in the user's cache folder."),
]
BadImagesOption = Annotated[
    Literal["skip", "fail"],
    typer.Option(help="Skip unreadable files, or fail at them (always beyond 10 %)."),
]
ImageColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="Table's column of image paths.")
]
LabelColumn = Annotated[str | None, typer.Option(metavar="NAME", help="Table's column of classes.")]
SplitColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="Table's column of train, val or test.")
]
Weights = Annotated[
    str | None,
    typer.Option(metavar="imagenet|none|FILE", help="Default: the backbone's own."),
]
InputSize = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS",
        help="Side of the network's input, or height and width: 160, 160x224. Default: the "
        "backbone's own.",
    ),
]
Tap = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Feature layers with an optional pooling (avg, max, grid2, grid3, flatten, "
        "or several: avg+max), such as "
        "stage3:max,avgpool, or last3:avg+max for the last three blocks; tltool backbones NAME "
        "lists them. Default: the backbone's own; of adapt what is advised.",
    ),
]
TestViews = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Pictures of an image whose probabilities are averaged: 1, 2, 10, 12, or auto by the "
        "size of the input. Default: what the run itself makes of an image.",
    ),
]
ViewsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Pictures of an image that features are averaged over: 1 (whole), 2 (and its mirror "
        "image), 10 (five crops and theirs), 12 (all of these), augmented-k, shifted-k, or auto by "
        "the size of the input. Default: the recipe's, else 1; of adapt what is advised.",
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Settings in one word, from tap to training: fast, recommended, decaf6-svm and "
        "others; options beside it win.",
    ),
]
Relabel = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="CSV file of corrected labels, as check --labels writes it."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No table, no progress bars.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and what is going on.")]
