"""The command line: parse, call, print."""

from tltool.cli.commands import app, main

__all__ = ["app", "main"]
