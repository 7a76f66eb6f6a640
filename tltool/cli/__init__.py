"""The command line: parse, call, print."""

# Each module adds its commands, in the order in which help lists them.
from tltool.cli import making

# isort: split
from tltool.cli import using

# isort: split
from tltool.cli import keeping
from tltool.cli.apps import app

__all__ = ["app", "keeping", "main", "making", "using"]


def main() -> None:
    """The entry point of the `tltool` command."""
    app()
