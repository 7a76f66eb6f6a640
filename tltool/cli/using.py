"""Commands that use runs or a network: predict, evaluate, compare, extract, similar."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tltool.cli.apps import app
from tltool.cli.options import (
    BadImagesOption,
    Data,
    Debug,
    EngineOption,
    ImageColumn,
    InputSize,
    Json,
    LabelColumn,
    Precision,
    Quiet,
    Recipe,
    Relabel,
    RunFolder,
    SplitColumn,
    StoreOption,
    Tap,
    TestViews,
    ViewsOption,
    Weights,
)
from tltool.cli.running import explained
from tltool.cli.showing import show_result

__all__ = ["compare", "evaluate", "extract", "predict", "similar"]


@app.command()
@explained
def predict(
    run: RunFolder,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATHS...",
            help="Files, folders and patterns; or one table of features that extract wrote.",
            show_default=False,
        ),
    ],
    top_k: Annotated[int, typer.Option(help="Classes to show an image.")] = 3,
    min_confidence: Annotated[
        float,
        typer.Option(metavar="P", help="Answer unsure where the likeliest class is less probable."),
    ] = 0.0,
    views: TestViews = None,
    format: Annotated[
        Literal["table", "csv", "json"], typer.Option(help="How to print.")
    ] = "table",
    engine: EngineOption = "auto",
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")] = False,
    debug: Debug = False,
) -> None:
    """Name what is on new photos."""
    from dataclasses import asdict

    from tltool._files import printable
    from tltool.display.console import print_json
    from tltool.display.runs import print_csv, print_predictions
    from tltool.inference import predict as predict_images

    predictions, bad = predict_images(
        run, paths, top_k=top_k, min_confidence=min_confidence, views=views, engine=engine
    )
    if json or format == "json":
        print_json(
            {
                "run": printable(str(run)),
                "predictions": [p.as_json() for p in predictions],
                "bad_files": [asdict(b) for b in bad],
            }
        )
    elif format == "csv":
        print_csv(predictions, answers=min_confidence > 0)
    elif predictions:
        print_predictions(predictions)
    asked = {printable(str(Path(path).expanduser())) for path in paths}
    if bad and (not predictions or asked & {b.file for b in bad}):
        raise typer.Exit(1)


@app.command()
@explained
def evaluate(
    run: RunFolder,
    data: Data,
    split: Annotated[
        Literal["all", "train", "val", "test"] | None,
        typer.Option(help="Images to score; default: test where DATA has splits, else all."),
    ] = None,
    views: TestViews = None,
    engine: EngineOption = "auto",
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
    """Score a run on labelled images."""
    from tltool.inference import evaluate as evaluate_run

    result = evaluate_run(
        run,
        data,
        split=split,
        views=views,
        engine=engine,
        store=store,
        bad_images=bad_images,
        relabel=relabel,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
    )
    show_result(result, json=json, quiet=quiet)


@app.command()
@explained
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUNS",
            help="Folders of finished runs of the same classes.",
            show_default=False,
        ),
    ],
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say whether a run is better than others, or merely lucky.

    On the test images that all have in common: the difference of the most accurate run from each
    of the others with its interval (paired bootstrap), McNemar's test, and how many test images
    would tell.
    """
    from tltool.comparing import compare as compare_runs
    from tltool.display.console import print_json
    from tltool.display.runs import print_comparison

    found = compare_runs(runs)
    if json:
        print_json(found.as_json())
    elif not quiet:
        print_comparison(found)


@app.command()
@explained
def extract(
    data: Data,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="File to write: .parquet, .npz or .csv.", show_default=False
        ),
    ],
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Pretrained network; default: as for adapt."),
    ] = None,
    weights: Weights = None,
    tap: Tap = None,
    input_size: InputSize = None,
    views: ViewsOption = None,
    recipe: Recipe = None,
    engine: EngineOption = "auto",
    precision: Precision = "float32",
    store: StoreOption = None,
    bad_images: BadImagesOption = "skip",
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write features of images to a file.

    One row a readable file, copies included: file, label, split, SHA-256, and the features of each
    tap. pandas and NumPy read it without tltool.
    """
    from tltool.display.console import print_json
    from tltool.display.images import print_extraction
    from tltool.gallery import extract as extract_features

    done = extract_features(
        data,
        out,
        store=store,
        backbone=backbone,
        weights=weights,
        tap=tap,
        input_size=input_size,
        views=views,
        recipe=recipe,
        engine=engine,
        precision=precision,
        bad_images=bad_images,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
    )
    if json:
        print_json(done.as_json())
    elif not quiet:
        print_extraction(done)


@app.command()
@explained
def similar(
    where: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|STORE",
            help="Run folder, or folder of a feature store (what was used last is searched).",
            show_default=False,
        ),
    ],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image file.", show_default=False)],
    n: Annotated[int, typer.Option("--n", help="How many to find.")] = 12,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Contact sheet, .png or .html; default: similar-IMAGE.html."
        ),
    ] = None,
    engine: EngineOption = "auto",
    store: StoreOption = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find the images that look most like one.

    Prints the nearest by the cosine distance of their features, and writes a contact sheet.
    """
    from tltool.display.console import print_json
    from tltool.display.images import print_neighbours
    from tltool.gallery import similar as find_similar

    found = find_similar(where, image, n=n, out=out, store=store, engine=engine)
    if json:
        print_json(found.as_json())
    elif not quiet:
        print_neighbours(found)
