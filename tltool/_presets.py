"""presets/*.toml -> frozen dataclasses: the facts about each backbone."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from tltool._validation import TltoolError, check_option

__all__ = [
    "BackbonePreset",
    "Preprocessing",
    "backbone_names",
    "backbone_preset",
    "packaged_weights",
]


@dataclass(frozen=True)
class Preprocessing:
    """How raw pixels become a network's input: reorder the channels, then `x * scale + offset`.

    Args:
        channels: "RGB", or "BGR" for networks trained on OpenCV's order.
        scale: one factor a channel, in the order after reordering.
        offset: one summand a channel.
    """

    channels: str
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]

    def __post_init__(self) -> None:
        check_option("preprocessing.channels", self.channels, ("RGB", "BGR"))


@dataclass(frozen=True)
class BackbonePreset:
    """A fact card: what is known of one pretrained network.

    Args:
        name: as the user writes it, `resnet50`.
        title: as a person would.
        builder: a function of `keras.applications`, or `cifar_resnet`.
        arguments: keyword arguments of that function.
        input_size: height and width in pixels of the canvas it was trained on.
        preprocessing: what happens to the pixels.
        tap: the Keras layer whose average-pooled activations are the features.
        features: how many of them.
        parameters: of the network up to that layer.
        weights_from: "keras" for those of Keras Applications, "package" for those shipped here.
        weights_source: whom the weights come from and what they were trained on.
        weights_file: the official file name, or the packaged one.
        weights_md5: checksum of that file; empty where nobody publishes one.
        weights_command: how packaged weights were made; empty for others.
        licence: of the weights.
        citation: the paper.
        published_accuracy: figure and what it was measured on.
    """

    name: str
    title: str
    builder: str
    input_size: tuple[int, int]
    preprocessing: Preprocessing
    tap: str
    features: int
    parameters: int
    weights_from: str
    weights_source: str
    weights_file: str
    licence: str
    citation: str
    published_accuracy: str
    arguments: dict[str, Any] = field(default_factory=dict)
    weights_md5: str = ""
    weights_command: str = ""

    @property
    def packaged(self) -> bool:
        """Whether the weights come with tltool."""
        return self.weights_from == "package"


def backbone_names() -> list[str]:
    """The names of all backbone presets, sorted."""
    folder = resources.files("tltool.presets.backbones")
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


@cache
def backbone_preset(name: str) -> BackbonePreset:
    """The preset of that name.

    Raises:
        TltoolError: there is none; the sentence offers the nearest names.
    """
    check_option("backbone", name, backbone_names())
    text = resources.files("tltool.presets.backbones").joinpath(f"{name}.toml").read_text("utf-8")
    return _parse(name, tomllib.loads(text))


def packaged_weights(preset: BackbonePreset) -> Path:
    """The file of the weights that come with tltool."""
    folder = resources.files("tltool.presets.weights")
    return Path(str(folder.joinpath(preset.weights_file)))


def _parse(name: str, card: dict[str, Any]) -> BackbonePreset:
    """A preset from its TOML table; a missing or unknown key is an error that names it."""
    known = {f.name for f in fields(BackbonePreset)} - {"name"}
    unknown = set(card) - known
    if unknown:
        raise TltoolError(f"presets/backbones/{name}.toml has unknown keys: {sorted(unknown)}.")
    pixels = card.pop("preprocessing")
    try:
        return BackbonePreset(
            name=name,
            preprocessing=Preprocessing(
                pixels["channels"], tuple(pixels["scale"]), tuple(pixels["offset"])
            ),
            **card | {"input_size": tuple(card["input_size"])},
        )
    except (KeyError, TypeError) as error:
        raise TltoolError(f"presets/backbones/{name}.toml is incomplete: {error}.") from error
