"""Commands that make a run of others, of what was begun, or of digits."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from tltool.cli.apps import app
from tltool.cli.options import (
    Debug,
    EngineOption,
    Json,
    Quiet,
    StoreOption,
    TestViews,
)
from tltool.cli.running import explained
from tltool.cli.showing import show_result

__all__ = ["demo", "ensemble", "resume"]


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
            help="How each network is adapted, with commas: fine-tune, off-the-shelf, "
            "feature-ensemble, frozen-head, from-scratch. Default: fine-tune.",
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
            help="An option of adapt for all members and the student, such as epochs=5 (several "
            "times).",
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
