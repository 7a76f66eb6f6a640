"""The command and its groups, which the modules beside this one fill."""

from __future__ import annotations

import typer

__all__ = ["app", "store_app", "weights_app"]

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
