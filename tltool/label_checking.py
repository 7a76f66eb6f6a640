"""Labels of a data set that are probably wrong, found by a classifier that was not shown them."""

from __future__ import annotations

import csv
import io
import itertools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tltool._files import printable, write_atomically
from tltool._validation import TltoolError, storage_error
from tltool.data import check_listing, read_corrections
from tltool.features import FeatureStore
from tltool.label_errors import suspected_labels
from tltool.linear.linear_head import softmax
from tltool.report import DoubtedImage, check_page_name, default_page, render_doubted
from tltool.settings import AdaptSettings
from tltool.strategies import OffTheShelf

__all__ = ["LabelCheck", "check_labels"]

_log = logging.getLogger(__name__)

# Every image is held out once; the strength that calibrates and chooses least.
_CLASSIFIER = "lda"

_OF_LABELS = (
    "backbone",
    "weights",
    "tap",
    "input_size",
    "views",
    "seed",
    "engine",
    "precision",
    "bad_images",
    "relabel",
    "image_column",
    "label_column",
    "split_column",
)


@dataclass(frozen=True)
class LabelCheck:
    """What `check_labels` found.

    Args:
        source: the data as they were named.
        backbone: whose features told.
        images: that were looked at.
        accuracy: share of them whose label the cross-validated classifier gives, too.
        doubted: images whose labels are doubted, the most doubtful first.
        page: that shows them.
        corrections: the CSV file for corrections.
    """

    source: str
    backbone: str
    images: int
    accuracy: float
    doubted: tuple[DoubtedImage, ...]
    page: Path
    corrections: Path

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        rows = [
            {k: v for k, v in asdict(one).items() if k not in ("path", "content")}
            for one in self.doubted
        ]
        return asdict(self) | {
            "doubted": rows,
            "page": printable(str(self.page)),
            "corrections": printable(str(self.corrections)),
        }


def check_labels(
    data: str | Path,
    *,
    out: str | Path | None = None,
    force: bool = False,
    store: str | Path | None = None,
    **settings: Any,
) -> LabelCheck:
    """Find images that are confidently of another class than the one they are labelled with.

    A linear classifier on a backbone's features is cross-validated over all images, test images
    included: each is judged by a fit without it.

    Args:
        data: images, as for `adapt`.
        out: the page; None for `labels-NAME.html`. A CSV file of the same name is written beside
            it: in its column `correction` one writes a class, or `!leave out`, and
            `adapt --relabel FILE` takes that. The page writes such files, too.
        force: replace both; corrections that the file has stay in it.
        store: folder of the feature store; None for the user's.
        **settings: `backbone`, `weights`, `tap`, `input_size`, `views`, `seed`, `engine`,
            `precision`, `bad_images`, `relabel` and a table's columns, as in `AdaptSettings`.

    Raises:
        TltoolError: in one sentence, what is wrong and what to do.

    Source: Northcutt, Jiang, Chuang, "Confident Learning", 2021.

    Example:
        >>> tltool.check_labels("photos").doubted[0].suggested
        'tulip'
    """
    chosen = AdaptSettings.checked("check_labels", settings, _OF_LABELS)
    page = Path(out).expanduser() if out else default_page("labels", data)
    check_page_name(page, force=force)
    table = page.with_suffix(".csv")
    for what, given in (("DATA", data), ("--relabel", chosen.relabel)):
        if given is not None and Path(given).expanduser().resolve() == table.resolve():
            raise TltoolError(
                f"{table}, where corrections go, is {what} itself; name another page with --out."
            )
    made = _corrections_in(table) if force else {}
    if table.exists() and not force:
        raise TltoolError(
            f"{table} exists; name another place with --out, or add --force to replace it."
        )
    listing = chosen.listing(data)
    with FeatureStore(store) as kept:
        checked, _ = check_listing(listing, bad_images=chosen.bad_images, cache=kept)
        examples = tuple(replace(e, split="train") for e in checked.examples)
        dataset = replace(checked, examples=examples)
        source = chosen.make_source(kept)
        strategy = OffTheShelf(_CLASSIFIER)
        strategy.extract(source, dataset)
        held = strategy.fit(source, dataset, seed=chosen.seed).held_out
        kept.trim()
    if held is None or not held.examples:
        raise TltoolError(
            f"{dataset.source} has a single image of each class, so no label can be told from the "
            "others; add images."
        )
    probabilities = softmax(held.scores)
    targets = dataset.targets(held.examples)
    splits = {e.name: e.split for e in checked.examples}
    # of a class that is one picture, the fit that judges it was shown nothing
    sizes = Counter(label for label, _ in {(e.label, e.group) for e in held.examples})
    doubted = tuple(
        DoubtedImage(
            held.examples[one.row].name,
            held.examples[one.row].path,
            held.examples[one.row].hash,
            splits[held.examples[one.row].name],
            dataset.labels[one.given],
            dataset.labels[one.suggested],
            one.probability,
        )
        for one in suspected_labels(probabilities, targets)
        if sizes[dataset.labels[one.given]] > 1
    )
    right = float((probabilities.argmax(axis=1) == targets).mean())
    found = LabelCheck(
        dataset.source, source.backbone.preset.name, len(targets), right, doubted, page, table
    )
    try:
        write_atomically(table, _table(doubted, made))
        write_atomically(page, render_doubted(found.source, doubted, dataset.labels, len(targets)))
    except OSError as error:
        raise storage_error("write", page, error, "name another place with --out") from error
    return found


def _corrections_in(table: Path) -> dict[str, str]:
    """What somebody wrote into the file before; one that cannot be read is put aside."""
    try:
        return read_corrections(table) if table.is_file() else {}
    except TltoolError as error:
        numbered = (table.with_name(f"{table.name}.bak{n or ''}") for n in itertools.count())
        aside = next(path for path in numbered if not path.exists())
        try:
            table.replace(aside)
        except OSError as refused:
            raise storage_error(
                "write", aside, refused, "name another place with --out"
            ) from refused
        _log.warning("%s was put aside as %s: %s", table, aside.name, error)
        return {}


def _table(doubted: Sequence[DoubtedImage], made: Mapping[str, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "label", "suggested", "probability", "correction"))
    for d in doubted:
        row = (d.file, d.given, d.suggested, f"{d.probability:.4f}", made.get(d.file, ""))
        writer.writerow(row)
    shown = {d.file for d in doubted}
    writer.writerows((f, "", "", "", c) for f, c in made.items() if f not in shown)
    return text.getvalue()
