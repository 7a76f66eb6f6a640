"""The command line: parse, call, print."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

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
    RunFolder,
    SplitColumn,
    StoreOption,
    Tap,
    ViewsOption,
    Weights,
)
from tltool.cli.running import explained

if TYPE_CHECKING:
    from tltool.results import RunResult

__all__ = ["app", "main"]

# Networks of up to so many layers are shown layer by layer.
_FEW_LAYERS = 60

app = typer.Typer(
    name="tltool",
    help="Transfer learning for Keras: from a folder of photos to a saved, evaluated model.",
    epilog="Start with: tltool demo, then: tltool adapt PHOTOS (a folder with one folder a class).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # help in rich's frames takes three times as long
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
store_app = typer.Typer(help="Show and trim the feature store.", no_args_is_help=True)
app.add_typer(store_app, name="store")
weights_app = typer.Typer(help="Take in pretrained weights.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")


def main() -> None:
    """The entry point of the `tltool` command."""
    app()


@app.command()
@explained
def adapt(
    data: Data,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Pretrained network; auto for the best on these images of all whose weights are "
            "on this machine. Default: the first of resnet50 and mobilenet-0.25 whose weights can "
            "be had, else the embedded cifar-resnet20.",
        ),
    ] = None,
    weights: Weights = None,
    tap: Tap = None,
    input_size: InputSize = None,
    views: ViewsOption = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="lda, ridge, logistic-regression, svm, or auto: cross-validated. Default: auto.",
        ),
    ] = None,
    transforms: Annotated[
        str | None,
        typer.Option(
            metavar="STEPS",
            help="Steps before the classifier (sqrt, l2, standardise, dropout, whiten), such as "
            "sqrt,l2; or none. Default: cross-validated.",
        ),
    ] = None,
    recipe: Recipe = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="off-the-shelf (a linear classifier on features), frozen-head (a trained head "
            "on features), fine-tune (upper layers trained, too), from-scratch (random weights) or "
            "auto (what tltool advise says). Default: the recipe's, or off-the-shelf.",
        ),
    ] = None,
    unfreeze: Annotated[
        str | None,
        typer.Option(
            metavar="BLOCK",
            help="Fine-tuning: the lowest block to train (tltool backbones NAME lists them), "
            "last2, all, or auto. Default: auto.",
        ),
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Fine-tuning: store what the frozen blocks give: auto, on or off. Default: auto.",
        ),
    ] = None,
    train_views: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Training: what is shown of an image: 1 (all of it), auto (a random view each "
            "epoch) or auto-4 (one of four). This and what follows up to --budget is for "
            "strategies that train; default: the recipe's.",
        ),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Training: what is done to that: mixup, cutmix, randaugment, erasing, "
            "colour-jitter, rotation (several with commas), or none.",
        ),
    ] = None,
    norms: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Training: batch normalisation, frozen or adapt."),
    ] = None,
    layer_decay: Annotated[
        float | None,
        typer.Option(
            metavar="FACTOR", help="Training: on the learning rate, from block to block downwards."
        ),
    ] = None,
    train_precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Training: float32, bfloat16, or auto for what pays here."
        ),
    ] = None,
    units: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS", help="Frozen head: its hidden layers, such as 512,256, or none."
        ),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(metavar="FRACTION", help="Training: of what reaches each layer of the head."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(metavar="N", help="Training: times an image is seen, at most."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Training: images a step.")
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Training: sgd (Nesterov momentum 0.9) or adamw."),
    ] = None,
    learning_rate: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="Training: the highest, or auto to find it by a test."),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Training: as a share of the learning rate."),
    ] = None,
    balance: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Training: for classes of unequal size, none, weights (images of small ones count "
            "more) or sampling (each is drawn as often).",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Training: epochs without gain on the validation images that end it; 0 for never.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Training: end in time with the best so far, after 90s, 10m or 1h.",
        ),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Training: logs in the run folder, too.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Run folder to write; default: a new one under runs/."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of splits, folds and intervals.")] = 0,
    test: Annotated[
        float, typer.Option(metavar="FRACTION", help="Share to test on, where none is given.")
    ] = 0.2,
    val: Annotated[
        float, typer.Option(metavar="FRACTION", help="Share to validate on, where none is given.")
    ] = 0.1,
    engine: EngineOption = "auto",
    precision: Precision = "float32",
    store: StoreOption = None,
    bad_images: BadImagesOption = "skip",
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a finished run.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Adapt a pretrained network to your images.

    Checks and splits the images, extracts features (once: they are stored), fits a classifier on
    them or trains the network, evaluates it on images held out, and writes a run folder with a
    report.
    """
    from tltool.workflow import adapt as adapt_network

    result = adapt_network(
        data,
        out=out,
        store=store,
        force=force,
        backbone=backbone,
        weights=weights,
        tap=tap,
        input_size=input_size,
        views=views,
        classifier=classifier,
        transforms=transforms,
        recipe=recipe,
        strategy=strategy,
        unfreeze=unfreeze,
        cache=cache,
        train_views=train_views,
        augment=augment,
        norms=norms,
        layer_decay=layer_decay,
        train_precision=train_precision,
        units=units,
        dropout=dropout,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        balance=balance,
        patience=patience,
        budget=budget,
        tensorboard=tensorboard,
        seed=seed,
        test=test,
        val=val,
        engine=engine,
        precision=precision,
        bad_images=bad_images,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
    )
    _show(result, json=json, quiet=quiet)


@app.command()
@explained
def resume(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="Run folder of an interrupted run.", show_default=False),
    ],
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Go on with an interrupted run.

    Features that were stored and epochs that were finished are not computed again; the outcome is
    that of an unbroken run.
    """
    from tltool.workflow import resume as resume_run

    _show(resume_run(run), json=json, quiet=quiet)


@app.command()
@explained
def check(
    data: Data,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Check this network on the images, too."),
    ] = None,
    weights: Weights = None,
    input_size: InputSize = None,
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
    too small; with --backbone, untrained weights, wrong scales and swapped colours.
    """
    from dataclasses import asdict

    from tltool.display import print_check, print_json
    from tltool.workflow import check as check_data

    report = check_data(
        data,
        backbone=backbone,
        weights=weights,
        input_size=input_size,
        store=store,
        bad_images=bad_images,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
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
    from tltool.display import print_advice, print_json

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
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
    )
    if json:
        print_json(advice.as_json())
    elif not quiet:
        print_advice(advice)


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
    format: Annotated[
        Literal["table", "csv", "json"], typer.Option(help="How to print.")
    ] = "table",
    engine: EngineOption = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Name what is on new photos."""
    from dataclasses import asdict

    from tltool._files import printable
    from tltool.display import print_csv, print_json, print_predictions
    from tltool.inference import predict as predict_images

    predictions, bad = predict_images(run, paths, top_k=top_k, engine=engine)
    if json or format == "json":
        print_json(
            {
                "run": printable(str(run)),
                "predictions": [p.as_json() for p in predictions],
                "bad_files": [asdict(b) for b in bad],
            }
        )
    elif format == "csv":
        print_csv(predictions)
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
    """Score a run on labelled images."""
    from tltool.inference import evaluate as evaluate_run

    result = evaluate_run(
        run,
        data,
        split=split,
        engine=engine,
        store=store,
        bad_images=bad_images,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
    )
    _show(result, json=json, quiet=quiet)


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
    from tltool.display import print_extraction, print_json
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
    from tltool.display import print_json, print_neighbours
    from tltool.gallery import similar as find_similar

    found = find_similar(where, image, n=n, out=out, store=store, engine=engine)
    if json:
        print_json(found.as_json())
    elif not quiet:
        print_neighbours(found)


@app.command()
@explained
def demo(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the images and the run.")
    ] = Path("tltool-demo"),
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Try it all on handwritten digits.

    Writes the 1,797 digits of scikit-learn as image files and adapts the embedded network to them;
    needs no network connection.
    """
    from tltool.demo import run_demo

    result = run_demo(out)
    _show(result, json=json, quiet=quiet)
    if not (json or quiet):
        typer.echo(f"\nThe report: {(result.run / 'report.html').resolve()}")
        photo = shlex.join([str(result.run), str(out / "digits" / "3" / "0003.png")])
        typer.echo(f"Name a photo: {_own_name()} predict {photo}")
        typer.echo(f"On your own photos, sorted into a folder a class: {_own_name()} adapt PHOTOS")


@app.command()
@explained
def backbones(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Backbone to show; default: list all.", show_default=False
        ),
    ] = None,
    by: Annotated[
        Literal["layer", "block"] | None,
        typer.Option(help="A row a layer, or a row a block; default: layer, if there are few."),
    ] = None,
    input_size: InputSize = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List the networks, or show the layers of one.

    Sizes, costs, published figures and where the weights are; of one network each layer's output,
    parameters, multiply-adds and receptive field, the taps and the freeze boundaries.
    """
    from tltool.backbones.catalogue import backbone_page, list_backbones
    from tltool.display import print_backbone, print_backbones, print_json

    if name is None:
        if by or input_size:
            raise typer.BadParameter("--by and --input-size need the NAME of a backbone.")
        entries = list_backbones()
        if json:
            print_json({"backbones": [entry.as_json() for entry in entries]})
        elif not quiet:
            print_backbones(entries)
        return
    page = backbone_page(name, input_size)
    if json:
        print_json(page.as_json())
    elif not quiet:
        print_backbone(page, by or ("layer" if len(page.layers) <= _FEW_LAYERS else "block"))


@weights_app.command("import")
@explained
def weights_import(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Keras .h5, .weights.h5 or .keras, .safetensors, or a CIFAR ResNet's .npz.",
            show_default=False,
        ),
    ],
    backbone: Annotated[
        str, typer.Option(metavar="NAME", help="Network that they are of.", show_default=False)
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Replace weights imported before.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Convert a weights file, and use it from now on.

    It goes into the folder named by TLTOOL_WEIGHTS, or the user's own, with its source and hash.
    """
    from dataclasses import asdict

    from tltool.backbones.importing import import_weights
    from tltool.display import print_json

    done = import_weights(file, backbone, force=force)
    if json:
        print_json(asdict(done) | {"path": str(done.path)})
    elif not quiet:
        head = "with" if done.head else "without"
        typer.echo(f"{done.path}: weights of {backbone}, {head} classification layers")
        if done.head_missing:
            typer.echo(f"(the file's own do not fit: {done.head_missing})")
        typer.echo(f"sha256 {done.hash}, from {done.source} (sha256 {done.source_hash})")
        typer.echo(f"They are taken for {backbone} from now on; remove that file to undo it.")


@store_app.command("info")
@explained
def store_info(
    store: StoreOption = None, json: Json = False, quiet: Quiet = False, debug: Debug = False
) -> None:
    """Show what the feature store holds."""
    from dataclasses import asdict

    from tltool.display import print_json, print_store
    from tltool.features import FeatureStore

    with FeatureStore(store, create=False) as opened:
        info = opened.info()
    if json:
        print_json(asdict(info))
    elif not quiet:
        print_store(info)


@store_app.command("prune")
@explained
def store_prune(
    max_size: Annotated[
        str,
        typer.Option(
            metavar="SIZE", help="Keep at most so much, such as 500MB or 2GB; 0: nothing."
        ),
    ] = "",
    store: StoreOption = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Remove what was used longest ago."""
    from tltool.display import print_json, size_in_words
    from tltool.features import FeatureStore

    limit = _bytes(max_size) if max_size else None
    with FeatureStore(store, create=False) as opened:
        freed = opened.trim(limit)
        info = opened.info()
    if json:
        print_json({"freed": freed, "bytes": info.bytes})
    elif not quiet:
        typer.echo(
            f"{size_in_words(freed)} removed, {size_in_words(info.bytes)} left in {info.path}"
        )


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        from tltool import __version__

        typer.echo(f"tltool {__version__}")
        raise typer.Exit()


def _own_name() -> str:
    """How the user can call this command again: its name, or its path where the shell has none."""
    return "tltool" if shutil.which("tltool") else shlex.quote(sys.argv[0])


def _show(result: RunResult, *, json: bool, quiet: bool) -> None:
    """A result as the options ask for it."""
    from tltool.display import print_json, print_result

    if json:
        print_json(result.as_json())
    elif not quiet:
        print_result(result)


def _bytes(text: str) -> int:
    """A size such as 500MB, 2 GB or 0 in bytes."""
    units = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
    number = text.strip().rstrip("BKMGTbkmgt ")
    unit = text.strip()[len(number) :].strip().upper()
    unit = unit if unit in units else unit + "B"
    try:
        size = int(float(number) * units[unit])
        if size < 0:
            raise ValueError
        return size
    except (ValueError, KeyError, OverflowError):
        raise typer.BadParameter(f"{text!r} is not a size such as 500MB or 2GB.") from None
