"""Advice on a data set: measured, and put to the test where that is wished for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tltool._presets import advisor_rules, backbone_names, backbone_preset
from tltool._validation import TltoolError, check_fraction, check_option
from tltool.advice import Advice, Evidence
from tltool.advisor import advise_on, ranked
from tltool.backbones import of_any_backbone
from tltool.backbones.weights import is_at_hand
from tltool.data import Dataset
from tltool.evidence import TooFewImagesError, measure_evidence
from tltool.features import FeatureSource, FeatureStore
from tltool.race import race
from tltool.settings import AUTO, AdaptSettings, seconds_of

__all__ = ["advise", "settle"]

_log = logging.getLogger(__name__)

# Settings of `adapt` that advice follows from.
_OF_ADVICE = (
    "backbone",
    "weights",
    "tap",
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

# Where nothing is said of how long a race may take.
_BUDGET = "10m"


def advise(
    data: str | Path,
    *,
    backbones: str | Sequence[str] | None = None,
    target: float | None = None,
    verify: bool = False,
    budget: str | None = None,
    store: str | Path | None = None,
    **settings: Any,
) -> Advice:
    """Which strategy, which backbone and how many more images, told from stored features.

    Test images, those of the data or those that `adapt` would draw, are not looked at.

    Args:
        data: a folder of class folders; one of `train/`, `val/`, `test/` of class folders; a
            `.csv` or `.tsv` file; or `tfds:NAME[:VERSION]`.
        backbones: several to compare, "mobilenet-0.25,resnet50", or "auto" for all whose weights
            are on this machine; the advice is then on the best. None for the one of `settings`.
        target: an accuracy that is wished for, 0 to 1: how many images would it take?
        verify: race the strategies against each other on images held out.
        budget: how long that may take: "90s", "10m" or "1h"; None for ten minutes.
        store: folder of the feature store; None for the user's.
        **settings: `backbone`, `weights`, `tap`, `input_size`, `seed`, `test`, `val`, `engine`,
            `precision`, `bad_images` and a table's columns, as in `AdaptSettings`.

    Raises:
        TltoolError: in one sentence, what is wrong and what to do.

    Example:
        >>> tltool.advise("photos").strategy
        'off-the-shelf'
    """
    if settings.get("backbone") == "auto":
        raise TltoolError("--backbone auto is for adapt; here, --backbones auto compares them all.")
    chosen = AdaptSettings.checked("advise", settings, _OF_ADVICE, strategy=AUTO)
    if target is not None:
        target = check_fraction("--target", target, zero=False)
    if budget is not None and not verify:
        raise TltoolError(f"--budget {budget} is for --verify; give that too, or leave it out.")
    limit = seconds_of(budget or _BUDGET)
    candidates = _candidates(backbones, chosen)
    listing = chosen.listing(data)
    with FeatureStore(store) as kept:
        dataset, _, _ = chosen.checked_images(listing, kept)
        found, skipped = compare_backbones(candidates, kept, dataset)
        order = ranked([evidence for evidence, _, _ in found])
        evidence, own, source = next(f for f in found if f[0].backbone == order[0].backbone)
        advice = advise_on(evidence, target=target)
        if len(candidates) > 1:
            advice = replace(advice, ranking=order, skipped=skipped)
        advice = replace(advice, settings={**_differing(own, advice), **advice.settings})
        if verify:
            advice = race(advice, own, source, dataset, limit)
        kept.trim()
    return advice


def settle(
    settings: AdaptSettings, store: FeatureStore, dataset: Dataset, *, any_backbone: bool = False
) -> tuple[AdaptSettings, Advice | None]:
    """Settings whose strategy is open, with the one that is advised among their candidates.

    Args:
        settings: of `adapt`.
        store: where features are kept.
        dataset: checked and split; its test images are not looked at.
        any_backbone: whether the network is open, too: of all whose weights are on this machine.

    Returns:
        Settings with nothing open, and the advice; None where nothing was, or where there are too
        few images to tell: then the simplest strategy is taken.
    """
    if settings.strategy != AUTO and not any_backbone:
        return settings, None
    compared = _candidates("auto", settings) if any_backbone else [settings]
    try:
        found, skipped = compare_backbones(compared, store, dataset)
    except TooFewImagesError:
        if any_backbone:
            raise
        simplest = settings.candidates[0]
        _log.warning("There are too few images to advise on, so %s was taken.", simplest)
        return replace(settings, strategy=simplest), None
    order = ranked([evidence for evidence, _, _ in found])
    best = order[0].backbone
    evidence = next(evidence for evidence, _, _ in found if evidence.backbone == best)
    # of a strategy that is never advised the network alone is open
    known = [name for name in settings.candidates if name in advisor_rules().order]
    advice = advise_on(evidence, strategies=known or None)
    if any_backbone:
        advice = replace(advice, ranking=order, skipped=skipped)
    told: Mapping[str, Any] = advice.settings if known else {"backbone": best}
    advised: dict[str, Any] = {k: v for k, v in told.items() if getattr(settings, k) is None}
    if settings.strategy == AUTO:
        advised["strategy"] = advice.strategy
    return replace(settings, **advised), advice


_Compared = tuple[Evidence, AdaptSettings, FeatureSource]


def compare_backbones(
    candidates: Sequence[AdaptSettings], store: FeatureStore, dataset: Dataset
) -> tuple[list[_Compared], dict[str, str]]:
    """What each is worth; those that cannot be had are left out, and named.

    Raises:
        TltoolError: none is left.
    """
    found: list[_Compared] = []
    skipped: dict[str, str] = {}
    for settings in candidates:
        try:
            source = settings.make_source(store)
        except TltoolError as error:
            if len(candidates) == 1:
                raise
            skipped[str(settings.backbone)] = str(error)
            _log.warning("%s was left out: %s", settings.backbone, error)
            continue
        found.append((measure_evidence(source, dataset, seed=settings.seed), settings, source))
    if not found:
        raise TltoolError(
            f"None of {', '.join(skipped)} could be compared; the first: "
            f"{next(iter(skipped.values()))}"
        )
    return found, skipped


def _candidates(
    backbones: str | Sequence[str] | None, settings: AdaptSettings
) -> list[AdaptSettings]:
    """The settings with each backbone that is to be compared."""
    if backbones is None:
        return [settings]
    names = backbones.split(",") if isinstance(backbones, str) else backbones
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TltoolError(
            f"--backbones must be names of networks, such as resnet50,vgg16, got {backbones!r}."
        )
    names = [name.strip() for name in names if name.strip()]
    if names == ["auto"]:
        names = [name for name in backbone_names() if is_at_hand(backbone_preset(name))]
    if not names:
        raise TltoolError("--backbones names no network; give names, such as resnet50,vgg16.")
    any_tap = settings.tap is None or of_any_backbone(settings.tap)
    for name, given in (
        ("backbone", settings.backbone),
        ("weights", settings.weights if len(names) > 1 else None),
        ("tap", None if any_tap else settings.tap),
    ):
        if given is not None:
            raise TltoolError(
                f"--{name} {given} is for one network, and several are to be compared; leave it "
                "out, or name that network alone."
            )
    for name in names:
        check_option("--backbones", name, backbone_names())
    return [replace(settings, backbone=name) for name in dict.fromkeys(names)]


def _differing(settings: AdaptSettings, advice: Advice) -> dict[str, Any]:
    """What was asked for and is not what `adapt` would take unasked, for the network measured."""
    of_network = ("weights", "tap", "input_size") if "views" in advice.settings else ()
    others = ("seed", "test", "val", "engine", "precision", "bad_images", "relabel")
    columns = ("image_column", "label_column", "split_column")
    usual = {field.name: field.default for field in fields(AdaptSettings)}
    given = {name: getattr(settings, name) for name in (*of_network, *others, *columns)}
    return {name: value for name, value in given.items() if value != usual[name]}
