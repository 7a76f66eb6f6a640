"""Templates -> HTML files that fetch nothing."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from tltool._validation import TltoolError

__all__ = ["check_page_name", "default_page", "name_of", "render_page"]


def render_page(template: str, *, title: str, **values: Any) -> str:
    """A page that fetches nothing; all that comes from file or class names is escaped.

    Args:
        template: name of a file in `templates/` that extends `base.html.j2`.
        title: of the page, plain text.
        **values: what else the template names. Give a script its data as
            `<script type="application/json" id="data">{{ data | tojson }}</script>`.
    """
    return _environment().get_template(template).render(title=title, **values)


def check_page_name(path: Path, *, force: bool = False) -> None:
    """Refuse a place where no page can be written, before anything is computed for it.

    Args:
        path: of the page.
        force: whether one that is there may be replaced.

    Raises:
        TltoolError: no .html file, a folder, in a folder that is not there, or there already.
    """
    if path.suffix.lower() != ".html":
        raise TltoolError(f"--out {path}: a page is an .html file.")
    if path.is_dir():
        raise TltoolError(f"--out {path} is a folder; name a file.")
    if not path.parent.is_dir():
        raise TltoolError(f"--out {path}: the folder {path.parent} does not exist; make it first.")
    if path.exists() and not force:
        raise TltoolError(f"{path} exists; name another with --out, or add --force to replace it.")


def name_of(where: str | Path) -> str:
    """What images or a run are called, fit for the name of a file."""
    text = str(where)
    if text.startswith("tfds:"):
        named = text.removeprefix("tfds:")
    else:
        path = Path(text).expanduser().resolve()
        named = path.stem if path.suffix.lower() in (".csv", ".tsv") else path.name
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in named) or "data"


def default_page(kind: str, where: str | Path) -> Path:
    """Where a page goes if nobody says it: `map-photos.html` in the current folder.

    Args:
        kind: of page.
        where: images or a run, as the user named them.
    """
    return Path(f"{kind}-{name_of(where)}.html")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tltool.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals["asset"] = _asset
    return environment


def _asset(name: str) -> Markup:
    """A style sheet or script of `templates/`, as it is."""
    text = (resources.files("tltool.report") / "templates" / name).read_text("utf-8")
    return Markup(text)  # noqa: S704 - our own file, and nothing is put into it
