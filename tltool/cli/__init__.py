"""The command line: parse, call, print."""

# Each module adds its commands, in the order in which help lists them.
from tltool.cli import adapting

# isort: split
from tltool.cli import making

# isort: split
from tltool.cli import asking

# isort: split
from tltool.cli import using

# isort: split
from tltool.cli import explaining

# isort: split
from tltool.cli import looking

# isort: split
from tltool.cli import mapping

# isort: split
from tltool.cli import keeping
from tltool.cli.apps import app

__all__ = [
    "adapting",
    "app",
    "asking",
    "explaining",
    "keeping",
    "looking",
    "main",
    "making",
    "mapping",
    "using",
]


def main() -> None:
    """The entry point of the `tltool` command."""
    app()
