"""Commands that make a run, or say what one would be."""

from __future__ import annotations

import shlex
import shutil
import sys
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
    Recipe,
    Relabel,
    SplitColumn,
    StoreOption,
    Tap,
    TestViews,
    ViewsOption,
    Weights,
)
from tltool.cli.running import explained
from tltool.cli.showing import show_result

__all__ = ["adapt", "advise", "check", "demo", "ensemble", "resume"]


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
        typer.Option(metavar="NAME", help="Training: batch normalisation, frozen or adapt."),
    ] = None,
    layer_decay: Annotated[
        float | None,
        typer.Option(
            metavar="FACTOR", help="Training: on the learning rate, from block to block downwards."
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
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Training: a finished run, such as an ensemble, to learn from beside the labels.",
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


@app.command()
@explained
def ensemble(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA|RUNS",
            help="Images, as for adapt, to train members on; or folders of finished runs.",
            show_default=False,
        ),
    ],
    combine: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="mean, geometric-mean, weights, greedy, stacking, or auto: cross-validated on "
            "images that no member was fitted on.",
        ),
    ] = "auto",
    views: TestViews = None,
    soup: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Average the weights of fine-tunings of one network into one member more: greedy, "
            "uniform or none. Default: greedy with --combine auto, else none.",
        ),
    ] = None,
    backbones: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Members' networks, with commas; NAME=FILE for weights of your own. Default: the "
            "one that adapt would take.",
        ),
    ] = None,
    strategies: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="How each network is adapted, with commas: fine-tune, off-the-shelf, frozen-head, "
            "from-scratch. Default: fine-tune.",
        ),
    ] = None,
    recipes: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Recipes that members of a strategy follow, one after the other, with commas. "
            "Default: the strategy's own, and its variants for members beyond the first.",
        ),
    ] = None,
    members: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="How many; those beyond one of each network and strategy get other seeds, too.",
        ),
    ] = None,
    snapshots: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Cycles of each training; the network at the end of each is a member. Default: 1.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Members at a time. Default: as cores, memory and GPUs allow."
        ),
    ] = None,
    distill_into: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Fine-tune this network on what the ensemble says, too, as its student.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="An option of adapt for all members, such as epochs=5 (several times).",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="Of runs: their images, where they are no longer where they were."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Run folder to write; default: a new one under runs/."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of splits, folds and intervals.")] = 0,
    engine: EngineOption = "auto",
    store: StoreOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a finished run.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make several models into one.

    Trains members on your images, several at a time, or takes finished runs; weighs them by images
    that none of them was fitted on; saves one model, and says whether it is better than its
    members.
    """
    from tltool.ensembles import ensemble as make_ensemble
    from tltool.settings import settings_of

    result = make_ensemble(
        sources,
        out=out,
        combine=combine,
        views=views,
        soup=soup,
        backbones=backbones,
        strategies=strategies,
        recipes=recipes,
        members=members,
        snapshots=snapshots,
        jobs=jobs,
        distill_into=distill_into,
        data=data,
        store=store,
        engine=engine,
        seed=seed,
        force=force,
        settings=settings_of(settings or []),
    )
    show_result(result, json=json, quiet=quiet)


@app.command()
@explained
def resume(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="Run folder of an interrupted run.", show_default=False),
    ],
    data: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Its images, where they are no longer where they were."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Go on with an interrupted run or ensemble.

    Features that were stored and epochs that were finished are not computed again; the outcome is
    that of an unbroken run.
    """
    from tltool.ensembles import resume as resume_run

    show_result(resume_run(run, data=data), json=json, quiet=quiet)


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
    from tltool.display import print_check, print_json, print_label_check
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
        relabel=relabel,
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
    show_result(result, json=json, quiet=quiet)
    if not (json or quiet):
        typer.echo(f"\nThe report: {(result.run / 'report.html').resolve()}")
        photo = shlex.join([str(result.run), str(out / "digits" / "3" / "0003.png")])
        typer.echo(f"Name a photo: {_own_name()} predict {photo}")
        typer.echo(f"On your own photos, sorted into a folder a class: {_own_name()} adapt PHOTOS")


def _own_name() -> str:
    """How the user can call this command again: its name, or its path where the shell has none."""
    return "tltool" if shutil.which("tltool") else shlex.quote(sys.argv[0])
