"""The command line: parse, call, print."""

from __future__ import annotations

import functools
import json as json_format
import logging
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tltool.data import CheckReport
    from tltool.results import Prediction, RunResult

__all__ = ["app", "main"]

_INTERRUPTED = 130

_METRIC_NAMES = {"macro_f1": "Macro F1"}

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


class PredictFormat(StrEnum):
    """How predictions are printed."""

    table = "table"
    csv = "csv"
    json = "json"


class Split(StrEnum):
    """Which images are scored."""

    all = "all"
    train = "train"
    val = "val"
    test = "test"


class Engine(StrEnum):
    """What runs the network."""

    auto = "auto"
    keras = "keras"
    openvino = "openvino"


class Precision(StrEnum):
    """What the network computes in."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class BadImages(StrEnum):
    """What happens to unreadable files."""

    skip = "skip"
    fail = "fail"


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
    Engine, typer.Option(help="What runs the network; auto takes OpenVINO on a CPU.")
]
StoreOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Feature store; default: in the user's cache folder."),
]
BadImagesOption = Annotated[
    BadImages, typer.Option(help="Skip unreadable files, or fail at them (always beyond 10 %).")
]
ImageColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="Table's column of image paths.")
]
LabelColumn = Annotated[str | None, typer.Option(metavar="NAME", help="Table's column of classes.")]
SplitColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="Table's column of train, val or test.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No table, no progress bars.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and what is going on.")]


def main() -> None:
    """The entry point of the `tltool` command."""
    app()


def _explained(command: Callable[..., None]) -> Callable[..., None]:
    """Errors as one sentence and exit status 1; tracebacks under --debug alone."""

    @functools.wraps(command)
    def run(**options: Any) -> None:
        from tltool._validation import TltoolError

        debug = options.get("debug", False)
        _set_up_logging(debug=debug)
        try:
            _show_progress(not options.get("quiet", False))
            command(**options)
        except KeyboardInterrupt:
            _say("Interrupted; what was stored is kept, and the same command goes on from there.")
            _leave(_INTERRUPTED)
        except BrokenPipeError:  # the reader of a pipe has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except TltoolError as error:
            if debug:
                raise
            _say(f"Error: {error}")
            raise typer.Exit(1) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            if debug:
                raise
            text = " ".join(str(error).split())[:300]
            _say(f"Error: {type(error).__name__}: {text} (unforeseen; add --debug to see where).")
            raise typer.Exit(1) from None

    return run


@app.command()
@_explained
def adapt(
    data: Data,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Pretrained network; default: the best of resnet50 and mobilenet-0.25 whose "
            "weights can be had, else the embedded cifar-resnet20.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="imagenet|none|FILE", help="Default: the backbone's own."),
    ] = None,
    strategy: Annotated[str, typer.Option(help="How to adapt it.")] = "off-the-shelf",
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
    engine: EngineOption = Engine.auto,
    precision: Annotated[
        Precision,
        typer.Option(help="bfloat16 is faster on some processors; features move by up to 10 %."),
    ] = Precision.float32,
    store: StoreOption = None,
    bad_images: BadImagesOption = BadImages.skip,
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
    them, evaluates it on images held out, and writes a run folder with a report.
    """
    from tltool.workflow import adapt as adapt_network

    result = adapt_network(
        data,
        out=out,
        store=store,
        force=force,
        backbone=backbone,
        weights=weights,
        strategy=strategy,
        seed=seed,
        test=test,
        val=val,
        engine=engine.value,
        precision=precision.value,
        bad_images=bad_images.value,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
    )
    _print_result(result, json=json, quiet=quiet)


@app.command()
@_explained
def check(
    data: Data,
    store: StoreOption = None,
    bad_images: BadImagesOption = BadImages.skip,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find what is wrong with a data set.

    Unreadable files, identical and nearly identical ones, contradicting labels, classes that are
    too small.
    """
    from dataclasses import asdict

    from tltool.workflow import check as check_data

    report = check_data(
        data,
        store=store,
        bad_images=bad_images.value,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
    )
    if json:
        _print_json(asdict(report))
    elif not quiet:
        _print_check(report)


@app.command()
@_explained
def predict(
    run: RunFolder,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATHS...", help="Files, folders and patterns.", show_default=False),
    ],
    top_k: Annotated[int, typer.Option(help="Classes to show an image.")] = 3,
    format: Annotated[PredictFormat, typer.Option(help="How to print.")] = PredictFormat.table,
    engine: EngineOption = Engine.auto,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Name what is on new photos."""
    from dataclasses import asdict

    from tltool._files import printable
    from tltool.workflow import predict as predict_images

    predictions, bad = predict_images(run, paths, top_k=top_k, engine=engine.value)
    if json or format is PredictFormat.json:
        _print_json(
            {
                "run": str(run),
                "predictions": [p.as_json() for p in predictions],
                "bad_files": [asdict(b) for b in bad],
            }
        )
    elif format is PredictFormat.csv:
        _print_csv(predictions)
    elif predictions:
        _print_predictions(predictions)
    asked = {printable(str(Path(path).expanduser())) for path in paths}
    if bad and (not predictions or asked & {b.file for b in bad}):
        raise typer.Exit(1)


@app.command()
@_explained
def evaluate(
    run: RunFolder,
    data: Data,
    split: Annotated[
        Split | None,
        typer.Option(help="Images to score; default: test where DATA has splits, else all."),
    ] = None,
    engine: EngineOption = Engine.auto,
    store: StoreOption = None,
    bad_images: BadImagesOption = BadImages.skip,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score a run on labelled images."""
    from tltool.workflow import evaluate as evaluate_run

    result = evaluate_run(
        run,
        data,
        split=split.value if split else None,
        engine=engine.value,
        store=store,
        bad_images=bad_images.value,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
    )
    _print_result(result, json=json, quiet=quiet)


@app.command()
@_explained
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
    _print_result(result, json=json, quiet=quiet)
    if not (json or quiet):
        typer.echo(f"\nThe report: {(result.run / 'report.html').resolve()}")
        typer.echo(f"Name a photo:      tltool predict {result.run} {out}/digits/3/0003.png")
        typer.echo("On your own photos, sorted into a folder a class:  tltool adapt PHOTOS")


@store_app.command("info")
@_explained
def store_info(
    store: StoreOption = None, json: Json = False, quiet: Quiet = False, debug: Debug = False
) -> None:
    """Show what the feature store holds."""
    from dataclasses import asdict

    from tltool.features import FeatureStore, default_store_folder

    with FeatureStore(store or default_store_folder(), create=False) as opened:
        info = opened.info()
    if json:
        _print_json(asdict(info))
        return
    if quiet:
        return
    from rich.table import Table

    table = Table("Backbone", "Tap", "Precision", "Images", "Size", "Last used", box=None)
    for space in info.spaces:
        table.add_row(
            f"{space['backbone']} ({space['weights'][:8]})",
            space["tap"],
            f"{space['precision']} {space['engine']}",
            f"{space['images']:,}",
            _size(space["bytes"]),
            space["last_used"],
        )
    used, most = _size(info.bytes), _size(info.max_bytes)
    typer.echo(f"{info.path}: {used} of {most}, {info.inspections:,} images checked")
    _print_rich(table)


@store_app.command("prune")
@_explained
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
    from tltool.features import FeatureStore, default_store_folder

    limit = _bytes(max_size) if max_size else None
    with FeatureStore(store or default_store_folder(), create=False) as opened:
        freed = opened.trim(limit)
        info = opened.info()
    if json:
        _print_json({"freed": freed, "bytes": info.bytes})
    elif not quiet:
        typer.echo(f"{_size(freed)} removed, {_size(info.bytes)} left in {info.path}")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        from tltool import __version__

        typer.echo(f"tltool {__version__}")
        raise typer.Exit()


def _set_up_logging(*, debug: bool) -> None:
    """The package's messages to standard error, a line each, never wrapped."""
    logger = logging.getLogger("tltool")
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)


def _show_progress(shown: bool) -> None:
    from tltool._progress import show_progress

    show_progress(shown)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _leave(status: int) -> None:
    """End at once: threads that still decode are not waited for."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json_format.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def _print_rich(table: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def _print_result(result: RunResult, *, json: bool, quiet: bool) -> None:
    if json:
        _print_json(result.as_json())
        return
    if quiet:
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    bad = f", {len(result.bad_files)} unreadable" if result.bad_files else ""
    table.add_row("Found", f"{result.n_images:,} images of {len(result.labels)} classes{bad}")
    table.add_row("Backbone", result.backbone)
    table.add_row("Strategy", result.strategy)
    table.add_row("Fitted on", f"{result.n_train:,} images ({result.n_val:,} for validation)")
    table.add_row("Tested on", f"{result.n_test:,} images")
    for name, interval in result.evaluation.metrics.items():
        table.add_row(
            _METRIC_NAMES.get(name, name.replace("_", " ").capitalize()),
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


def _print_check(report: CheckReport) -> None:
    from rich.markup import escape
    from rich.table import Table

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
        others = ", ".join(
            f"{n} {kind or 'without extension'}" for kind, n in report.ignored.items()
        )
        table.add_row("Other files", escape(others))
    table.add_row("Unreadable", str(len(report.bad_files)))
    for heading, groups in (
        ("Identical", report.duplicates),
        ("Contradictory", report.contradictions),
        ("Near-duplicates", report.near_duplicates),
    ):
        table.add_row(heading, f"{len(groups)} groups")
        for group in groups[:10]:
            table.add_row("", escape(" = ".join(group)))
        if len(groups) > 10:
            table.add_row("", f"and {len(groups) - 10} more (--json shows all)")
    if report.leaks:
        table.add_row("Copies across splits", f"{len(report.leaks)} left out of the earlier splits")
    for note in report.notes:
        table.add_row("Note", escape(note))
    _print_rich(table)


def _print_predictions(predictions: list[Prediction]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("File", overflow="fold")
    for rank in range(len(predictions[0].top)):
        table.add_column("Predicted" if rank == 0 else f"{rank + 1}.", overflow="fold")
    for prediction in predictions:
        named = (f"{escape(label)} {p:.3f}" for label, p in prediction.top)
        table.add_row(escape(prediction.file), *named)
    _print_rich(table)


def _print_csv(predictions: list[Prediction]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    ranks = range(1, len(predictions[0].top) + 1) if predictions else range(1, 2)
    writer.writerow(["file", *(f"{what}_{r}" for r in ranks for what in ("label", "probability"))])
    for prediction in predictions:
        pairs = (value for label, p in prediction.top for value in (label, f"{p:.7g}"))
        writer.writerow([prediction.file, *pairs])


def _size(n: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"


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
