"""Commands about what is at hand: backbones, weights, the store, the version."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tltool.cli.apps import app, store_app, weights_app
from tltool.cli.options import (
    Debug,
    InputSize,
    Json,
    Quiet,
    StoreOption,
)
from tltool.cli.running import explained

__all__ = ["backbones", "store_info", "store_prune", "weights_import"]

# Networks of up to so many layers are shown layer by layer.
_FEW_LAYERS = 60


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
    from tltool.display.console import print_json
    from tltool.display.networks import print_backbone, print_backbones

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
    from tltool.display.console import print_json

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

    from tltool.display.console import print_json
    from tltool.display.images import print_store
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
    from tltool.display.console import print_json, size_in_words
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
