"""What each layer of a network knows of some images, and what it overlooks when they change."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tltool._files import write_atomically
from tltool._progress import progress
from tltool._validation import TltoolError, check_int, storage_error
from tltool.backbones import Backbone
from tltool.backbones.kept import with_source_classes
from tltool.backbones.layers import layer_table
from tltool.changes import CHANGES
from tltool.data import Dataset
from tltool.features import FeatureSource, FeatureStore
from tltool.layer_facts import Atlas, ChangeCurve, LayerFacts
from tltool.layer_probes import Changed, Layer, Probe, layers_of, named, probed, sample_of
from tltool.linear import Problem
from tltool.metrics import Interval, is_clearly_lower, wilson_interval
from tltool.report import check_page_name, default_page, render_atlas
from tltool.reporting import finish_report
from tltool.runs import Run
from tltool.settings import AdaptSettings
from tltool.strategies import FromScratch
from tltool.strategies.folds import stratified_folds
from tltool.trained_networks import trained_arrays

__all__ = ["atlas"]

_FOLDS = 5

_OF_ATLAS = (
    "backbone",
    "weights",
    "input_size",
    "seed",
    "test",
    "val",
    "engine",
    "precision",
    "bad_images",
    "relabel",
    "image_column",
    "label_column",
    "split_column",
)


def atlas(
    where: str | Path,
    *,
    out: str | Path | None = None,
    images: int = 48,
    force: bool = False,
    store: str | Path | None = None,
    **settings: Any,
) -> Atlas:
    """Look at a data set through every layer of a network; test images are left out.

    Of each tap's features, those of the classification layers included where the weights hold them
    (of a run, of those up to its own): a linear probe, and how they and its probability for the
    right class change as images are moved, scaled, turned or spoiled.

    Args:
        where: images, as for `adapt`; or a run folder, whose images and backbone are taken and
            whose report then shows the atlas.
        out: the page; None for `atlas-NAME.html`, or for the run's report.
        images: how many are changed.
        force: replace the page.
        store: folder of the feature store; None for the user's.
        **settings: `backbone`, `weights`, `input_size`, `seed`, `test`, `val`, `engine`,
            `precision`, `bad_images`, `relabel` and a table's columns, as in `AdaptSettings`; of a
            run, none.

    Raises:
        TltoolError: in one sentence, what is wrong and what to do.

    Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014;
    Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions", 2019.

    Example:
        >>> tltool.atlas("photos", backbone="resnet50").best
        'stage4'
    """
    check_int("--images", images, low=2)
    started = time.perf_counter()
    folder = Path(where).expanduser()
    run = Run(folder) if (folder / "run.json").is_file() else None
    page = _page_of(where, run, out, force)
    if run is not None:
        run.tested()  # without which it has no report to show the atlas in
    with FeatureStore(store) as kept:
        if run is None:
            chosen = AdaptSettings.checked("atlas", settings, _OF_ATLAS)
            data: str | Path = where
        else:
            data, chosen = _of_run(run, settings)
        listing = chosen.listing(data)
        source = chosen.make_source(kept)
        weights = "pretrained" if source.backbone.weights.seed is None else "random"
        if run is not None and run.trained_network:
            weights = "trained"
            trained = source.backbone.with_weights(trained_arrays(run), str(run.folder))
            source = source.of_backbone(trained)
        dataset, _, _ = chosen.checked_images(listing, kept)
        left_out: tuple[str, ...] = ()
        if run is None:
            whole = with_source_classes(source.backbone)
            source = source if whole is None else source.of_backbone(whole)
            left_out = () if whole is not None else tuple(source.backbone.preset.head_taps)
        every = run is None
        found = _measured(source, dataset, images, chosen.seed, page, started, every=every)
        found = replace(found, weights=weights, left_out=left_out)
        kept.trim()
    _write(found, run, page)
    return found


def _page_of(where: str | Path, run: Run | None, out: str | Path | None, force: bool) -> Path:
    if out is None and run is not None:
        return run.folder / "report.html"
    page = Path(out).expanduser() if out else default_page("atlas", where)
    check_page_name(page, force=force)
    return page


def _of_run(run: Run, settings: dict[str, Any]) -> tuple[str, AdaptSettings]:
    """The images and settings of a run.

    Raises:
        TltoolError: others were named, or it is an ensemble.
    """
    for name, value in settings.items():
        if value is not None and value != getattr(AdaptSettings, name, None):
            raise TltoolError(
                f"--{name.replace('_', '-')} {value} is for images; {run.folder} is a run, which "
                "has its own."
            )
    if run.facts.get("members"):
        raise TltoolError(
            f"{run.folder} is an ensemble of several networks; name a member, such as "
            f"{run.facts['members'][0]['run']}."
        )
    begun = run.facts.get("begun") or {}
    given = begun.get("settings") or {}
    if not given:
        raise TltoolError(f"{run.folder} does not say how it was begun; name its images instead.")
    wanted = (*_OF_ATLAS, "tap", "split_seed")
    kept: dict[str, Any] = {n: given[n] for n in wanted if given.get(n) is not None}
    own = {"backbone": run.facts["backbone"], "relabel": run.relabel}
    if run.facts["strategy"] == FromScratch.name:  # its random weights are no more
        own["strategy"] = FromScratch.name
    return begun["data"], AdaptSettings(**kept | own)


def _measured(
    source: FeatureSource,
    dataset: Dataset,
    images: int,
    seed: int,
    page: Path,
    started: float,
    *,
    every: bool,
) -> Atlas:
    examples = dataset.of("train", "val")
    folds = stratified_folds(examples, _FOLDS, seed) if examples else None
    sample = sample_of(examples, images, seed)
    if folds is None or len(sample) < 2 or len({e.label for e in examples}) < 2:
        raise TltoolError(
            "An atlas needs at least two classes of two images each besides the test images; give "
            "more images."
        )
    backbone = source.backbone
    layers = layers_of(backbone, every=every)
    pooled = list(dict.fromkeys(part for layer in layers for part in layer.pooled))
    source.of_backbone(backbone.tapping(named(pooled))).extract(examples)  # in one pass
    changed = Changed(source, layers, [examples[i] for i in sample], seed)
    targets, k = dataset.targets(examples), len(dataset.labels)
    shown_changed = {examples[i].group for i in sample}
    others = np.flatnonzero([e.group not in shown_changed for e in examples])
    probes = []
    with progress("probing", len(layers)) as advance:
        for layer in layers:
            shown = source.of_backbone(backbone.tapping(named(layer.pooled)))
            features = shown.features(examples)
            problem = Problem(features.values, targets, k, features.widths)
            probes.append(probed(problem, folds, sample, others, changed.pooled[layer.name]))
            advance(1)
    return _atlas(backbone, dataset, layers, probes, changed, page, started)


def _atlas(
    backbone: Backbone,
    dataset: Dataset,
    layers: Sequence[Layer],
    probes: Sequence[Probe],
    changed: Changed,
    page: Path,
    started: float,
) -> Atlas:
    accuracies = [float(probe.hits.mean()) for probe in probes]
    top = int(np.argmax(accuracies))
    best = probes[top].hits
    rows = layer_table(backbone.preset, backbone.input_size)
    order = [row.name for row in rows]
    total = [sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows)]
    facts = []
    for layer, probe, accuracy in zip(layers, probes, accuracies, strict=True):
        upto = rows[: order.index(layer.end) + 1]
        low, high = wilson_interval(int(probe.hits.sum()), len(best))
        moves, spoils = _by_kind(changed.distances[layer.name])
        pooled_moves, _ = _by_kind(changed.pooled_distances[layer.name])
        said_moved, said_spoiled = _by_kind(probe.probabilities)
        facts.append(
            LayerFacts(
                layer.name,
                probe.width,
                Interval(accuracy, min(low, accuracy), max(high, accuracy)),
                sum(row.parameters for row in upto) / max(total[0], 1),
                sum(row.multiply_adds for row in upto) / max(total[1], 1),
                accuracies[top] - accuracy,
                not is_clearly_lower(1.0 - best, 1.0 - probe.hits),
                1.0 - moves,
                1.0 - spoils,
                1.0 - pooled_moves,
                said_moved,
                said_spoiled,
            )
        )
    turns = None if facts[-1].as_good else next(x.tap for x in reversed(facts) if x.as_good)
    curves = tuple(
        ChangeCurve(
            change.name,
            change.unit,
            change.amounts,
            {x.name: tuple(changed.distances[x.name][i]) for x in layers},
            {
                x.name: tuple(map(float, p.probabilities[i]))
                for x, p in zip(layers, probes, strict=True)
            },
        )
        for i, change in enumerate(CHANGES)
    )
    return Atlas(
        backbone.preset.name,
        len(best),
        changed.images,
        len(dataset.labels),
        tuple(facts),
        layers[top].name,
        turns,
        curves,
        page,
        time.perf_counter() - started,
    )


def _by_kind(values: Sequence[Sequence[float] | np.ndarray]) -> tuple[float, float]:
    """Means over the changes that move an image, and over those that spoil it.

    Args:
        values: of each change `(amounts,)`, the first of which leaves the image as it is.
    """
    means = [float(np.mean(one[1:])) for one in values]
    kinds = [
        [mean for mean, change in zip(means, CHANGES, strict=True) if change.moves == moves]
        for moves in (True, False)
    ]
    return float(np.mean(kinds[0])), float(np.mean(kinds[1]))


def _write(found: Atlas, run: Run | None, page: Path) -> None:
    facts = found.as_json()
    try:
        if run is not None:
            text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
            write_atomically(run.folder / "atlas.json", text)
            run.add(finish_report(run))
        if run is None or page.resolve() != (run.folder / "report.html").resolve():
            write_atomically(page, render_atlas(facts))
    except OSError as error:
        raise storage_error("write", page, error, "name another place with --out") from error
