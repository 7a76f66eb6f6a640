"""The command that adapts a network."""

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
    ImageColumn,
    InputSize,
    Json,
    LabelColumn,
    Precision,
    Quiet,
    Recipe,
    Relabel,
    SplitColumn,
    StoreOption,
    Tap,
    ViewsOption,
    Weights,
)
from tltool.cli.running import explained
from tltool.cli.showing import show_result

__all__ = ["adapt"]


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
            "be had, else the embedded cifar-resnet20; from scratch cifar-resnet20.",
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
            help="lda, ridge, logistic-regression, svm, or auto: cross-validated. Default: "
            "the recipe's, of fine-tuning lda, else auto.",
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
            help="off-the-shelf (a linear classifier on features), feature-ensemble (many such), "
            "frozen-head (a trained head on features), fine-tune (upper layers trained, too), "
            "from-scratch (random weights) or auto (what tltool advise says, one of four). "
            "Default: the recipe's, or auto.",
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
        typer.Option(
            metavar="NAME", help="Training of a network: batch normalisation, frozen or adapt."
        ),
    ] = None,
    layer_decay: Annotated[
        float | None,
        typer.Option(
            metavar="FACTOR",
            help="Training of a network: on the learning rate, from block to block downwards.",
        ),
    ] = None,
    l2_sp: Annotated[
        bool | None,
        typer.Option(
            "--l2-sp",
            help="Fine-tuning: weights decay towards the pretrained ones instead of zero (L2-SP).",
        ),
    ] = None,
    train_precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Training of a network: float32, bfloat16, or auto for what pays here.",
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
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Training of a network: a finished run, such as an ensemble, to learn from beside "
            "the labels.",
        ),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Training: logs in the run folder, too.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Run folder to write; default: a new one under runs/."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of splits, folds, intervals and training.")] = 0,
    split_seed: Annotated[
        int | None, typer.Option(metavar="N", help="Of splits, where it is another than --seed.")
    ] = None,
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
    relabel: Relabel = None,
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
        l2_sp=l2_sp,
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
        teacher=teacher,
        tensorboard=tensorboard,
        seed=seed,
        split_seed=split_seed,
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
    show_result(result, json=json, quiet=quiet)
