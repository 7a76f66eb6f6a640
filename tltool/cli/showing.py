"""What several commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tltool.ensembles import EnsembleResult
    from tltool.results import RunResult

__all__ = ["show_result"]


def show_result(result: RunResult | EnsembleResult, *, json: bool, quiet: bool) -> None:
    """A result as the options ask for it."""
    from tltool.display.console import print_json
    from tltool.display.runs import print_ensemble, print_result
    from tltool.results import RunResult

    if json:
        print_json(result.as_json())
    elif isinstance(result, RunResult):
        if not quiet:
            print_result(result)
    elif not quiet:
        print_ensemble(result)
