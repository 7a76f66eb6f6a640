"""Which activations of a network are its features, and how they are pooled."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tltool._presets import BackbonePreset, backbone_names, backbone_preset
from tltool._validation import TltoolError, nearest
from tltool.backbones.pooling import check_pooling

__all__ = ["Tap", "TapPart", "backbones_with", "of_any_backbone", "parse_taps"]


@dataclass(frozen=True)
class TapPart:
    """What is computed and stored apart: one layer's activations, pooled in one way.

    Args:
        layer: name of a Keras layer.
        pooling: one of `POOLINGS`.
    """

    layer: str
    pooling: str

    def __str__(self) -> str:
        return f"{self.layer}:{self.pooling}"


@dataclass(frozen=True)
class Tap:
    """A feature layer as the user named it.

    Args:
        name: `avgpool`, `stage4:max`.
        parts: what it consists of; two for "avg+max".
        in_head: whether it lies among the classification layers.
    """

    name: str
    parts: tuple[TapPart, ...]
    in_head: bool


def parse_taps(
    preset: BackbonePreset,
    wanted: str | Sequence[str] | None,
    layers: Callable[[], dict[str, tuple[bool, bool]]],
) -> tuple[Tap, ...]:
    """The feature layers that a user asked for.

    Args:
        preset: the backbone.
        wanted: names of taps or Keras layers, each with an optional `:pooling` (several with
            `+`); in one text with commas or one by one. `last3` stands for the last three blocks.
            None for the preset's own.
        layers: gives, for every Keras layer, whether its output is one vector an image, and
            whether it lies among the classification layers; asked only for what the preset does
            not tell.

    Raises:
        TltoolError: an unknown name or pooling; the sentence offers the nearest ones.
    """
    if wanted is None:
        wanted = preset.tap
    if not isinstance(wanted, str | list | tuple):
        raise TltoolError(f"Taps are given as text, or as a list of texts, not as {wanted!r}.")
    names = wanted.split(",") if isinstance(wanted, str) else list(wanted)
    names = [one for name in names for one in _expanded(preset, name.strip())]
    if not names or not all(names):
        raise TltoolError(
            f"--tap {','.join(names)!r} names no layer; expected names such as {preset.tap}."
        )
    taps = [_parse(preset, name, layers) for name in names]
    seen: set[str] = set()
    for tap in taps:
        if tap.name in seen:
            raise TltoolError(f"--tap names {tap.name} twice; name each layer once.")
        seen.add(tap.name)
    return tuple(taps)


def of_any_backbone(wanted: str) -> bool:
    """Whether taps can be had of every backbone: the last blocks alone."""
    return all(_LAST.fullmatch(name.strip()) for name in wanted.split(","))


def backbones_with(wanted: str) -> list[str]:
    """The backbones that name all of these taps themselves, sorted."""
    names = {name.strip().partition(":")[0] for name in wanted.split(",")}
    return [one for one in backbone_names() if names <= set(backbone_preset(one).named_taps)]


_LAST = re.compile(r"last([1-9]\d?)((?::.*)?)")


def _expanded(preset: BackbonePreset, text: str) -> list[str]:
    """The names of the last blocks, where `last3` or `last3:max` asks for them."""
    found = _LAST.fullmatch(text)
    if found is None:
        return [text]
    return [name + found[2] for name in list(preset.blocks)[-int(found[1]) :]]


def _parse(
    preset: BackbonePreset, text: str, layers: Callable[[], dict[str, tuple[bool, bool]]]
) -> Tap:
    name, colon, pooling = text.partition(":")
    if colon:
        check_pooling(pooling)
    named = preset.named_taps.get(name)
    if named is not None:
        layer, _, usual = named.partition(":")
        in_head = name in preset.head_taps
        is_vector = in_head and not usual
    else:
        known = layers()
        if name not in known:
            near = nearest(name, dict.fromkeys([*preset.named_taps, *known]))
            if not near.startswith("did"):  # a hundred layers would hide the few that matter
                near = nearest(name, preset.named_taps)
            raise TltoolError(
                f"{preset.name} has no tap or layer {name!r}: {near} (tltool backbones "
                f"{preset.name} --by layer lists them)"
            )
        layer, usual = name, ""
        is_vector, in_head = known[name]
    if is_vector and pooling not in ("", "flatten"):
        raise TltoolError(
            f"{name} gives one vector an image, which {pooling!r} cannot pool; write {name} alone."
        )
    chosen = "flatten" if is_vector else pooling or usual or "avg"
    return Tap(text, tuple(TapPart(layer, one) for one in chosen.split("+")), in_head)
