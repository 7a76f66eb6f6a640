"""presets/*.toml -> frozen dataclasses: facts about backbones, view recipes, whole recipes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tltool._validation import TltoolError, check_option

__all__ = [
    "Accuracy",
    "AdvisorRules",
    "Augmentation",
    "BackbonePreset",
    "Preprocessing",
    "PublishedWeights",
    "RandomCrops",
    "Recipe",
    "Views",
    "advisor_rules",
    "augmentation",
    "augmentation_names",
    "backbone_names",
    "backbone_preset",
    "packaged_weights",
    "recipe",
    "recipe_names",
    "training_views",
    "views",
    "views_for",
    "views_names",
]


@dataclass(frozen=True)
class Preprocessing:
    """How raw pixels become a network's input: `x * scale + offset`, channels in its own order.

    Args:
        channels: "RGB"; "BGR" for networks trained on OpenCV's order; "grey" for the luminance
            of the scaled RGB channels.
        scale: one factor a channel, in the network's order.
        offset: one summand a channel.
    """

    channels: str
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]

    def __post_init__(self) -> None:
        check_option("preprocessing.channels", self.channels, ("RGB", "BGR", "grey"))


@dataclass(frozen=True)
class PublishedWeights:
    """What trained weights there are of a network.

    Args:
        origin: "keras" for those of Keras Applications, "package" for those shipped here, "none"
            where nobody publishes any that could be fetched.
        source: whom they come from and what they were trained on.
        licence: theirs.
        file: official name of the file without the classification layers, or the packaged one.
        md5: checksum of that file; empty where nobody publishes one.
        full_file: official name of the file with the classification layers.
        full_md5: its checksum.
        command: how packaged weights were made.
    """

    origin: str
    source: str
    licence: str = ""
    file: str = ""
    md5: str = ""
    full_file: str = ""
    full_md5: str = ""
    command: str = ""

    def __post_init__(self) -> None:
        check_option("weights.origin", self.origin, ("keras", "package", "none"))


@dataclass(frozen=True)
class Accuracy:
    """Published figures of a trained network, in percent; None where there is none.

    Args:
        on: the test images.
        source: who measured it, and how.
        top1: share of images whose likeliest class is right.
        top5: share of images whose five likeliest classes hold the right one.
    """

    on: str
    source: str
    top1: float | None = None
    top5: float | None = None


@dataclass(frozen=True)
class BackbonePreset:
    """A fact card: what is known of one network.

    Args:
        name: as the user writes it, `resnet50`.
        title: as a person would.
        builder: a function of `keras.applications`, or one of `tltool.backbones`.
        arguments: keyword arguments of that function.
        input_size: height and width in pixels of the canvas it was trained on.
        smallest_input: the fewest pixels a side that it can take.
        classes: outputs of its published classification layers.
        preprocessing: what happens to the pixels.
        tap: the named feature layer that is used where the user names none.
        features: how many numbers it gives.
        parameters: of the whole network with its classification layers.
        multiply_adds: of one image through all of it, at `input_size`.
        blocks: the freeze boundaries from the input up, name to the Keras layer that ends the
            block. Each is a tap too; the last one is the last layer before classification.
        taps: further feature layers, name to `layer` or `layer:pooling`.
        head_taps: the classification layers that have weights, in the same form; they need
            weights that include them.
        fixed_head: whether those take the features of `input_size` alone.
        weights: what trained weights there are.
        accuracy: what they reach.
        citation: the paper.
    """

    name: str
    title: str
    builder: str
    input_size: tuple[int, int]
    smallest_input: int
    classes: int
    preprocessing: Preprocessing
    tap: str
    features: int
    parameters: int
    multiply_adds: int
    blocks: Mapping[str, str]
    taps: Mapping[str, str]
    head_taps: Mapping[str, str]
    weights: PublishedWeights
    accuracy: Accuracy
    citation: str
    fixed_head: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def packaged(self) -> bool:
        """Whether the weights come with tltool."""
        return self.weights.origin == "package"

    @property
    def named_taps(self) -> dict[str, str]:
        """Every named feature layer, blocks first, to `layer` or `layer:pooling`."""
        return {**self.blocks, **self.taps, **self.head_taps}


@dataclass(frozen=True)
class RandomCrops:
    """How random views are drawn.

    Args:
        mirrored: probability of a mirror image.
        area: smallest and largest share of the image.
        ratio: smallest and largest factor on the image's own width to height.
        shift: share of the side by which the whole image is padded, and then cut out at a random
            place, instead.
    """

    mirrored: float
    area: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0


@dataclass(frozen=True)
class Views:
    """Which pictures of an image the network is shown; their features are averaged.

    Args:
        name: as the user writes it, `12`, `augmented-16`.
        title: in words.
        source: where it is from.
        whole: whether the whole image is one of them.
        crops: places of crops of the network's input size.
        mirrored: whether each comes mirrored, too.
        canvas: side of the resized image to side of the network's input.
        random: how seeded random views are drawn, instead of all these.
        drawn: how many of those; 0 where each is drawn once, as often as one is asked for.
        predict: for random views, which to use wherever nothing is learned.
    """

    name: str
    title: str
    source: str
    whole: bool = False
    crops: tuple[str, ...] = ()
    mirrored: bool = False
    canvas: tuple[int, int] = (1, 1)
    random: RandomCrops | None = None
    drawn: int = 0
    predict: str = ""

    @property
    def count(self) -> int:
        """How many views there are of an image."""
        return self.drawn or (self.whole + len(self.crops)) * (1 + self.mirrored)

    def canvas_size(self, input_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the resized image, for a network's input."""
        larger, smaller = self.canvas
        height, width = (round(side * larger / smaller) for side in input_size)
        return height, width


@dataclass(frozen=True)
class Recipe:
    """A named combination of settings; None leaves one open.

    Args:
        name: as the user writes it.
        title: in words.
        source: where it is from.
        backbone: the network that it is for.
        tap: feature layers, `decaf6`; `last3:avg+max` for the last three blocks of any backbone.
        views: a view recipe.
        transforms: steps between features and classifier.
        classifier: a classifier, or "auto".
        strategy: the one that it is for.
        training: how its network is trained, see `tltool.training.TrainingPlan`.
        variants: recipes that members of an ensemble follow which would otherwise be trained like
            another one.
    """

    name: str
    title: str
    source: str
    backbone: str | None = None
    tap: str | None = None
    views: str | None = None
    transforms: str | None = None
    classifier: str | None = None
    strategy: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Augmentation:
    """A way to change the pictures of a batch.

    Args:
        name: as the user writes it.
        title: in words.
        source: where it is from.
        layer: of `keras.layers`, or of the package's.
        package: "keras", or one that is an extra.
        arguments: of the layer.
        mixes: whether it mixes images with each other and changes nothing else, so that
            features can be mixed by it as well.
    """

    name: str
    title: str
    source: str
    layer: str
    package: str = "keras"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    mixes: bool = False


@dataclass(frozen=True)
class DistanceScale:
    """How distances from what networks were trained on are read.

    Args:
        unit: in which thresholds and gains take them.
        references: named distances.
    """

    unit: float
    references: Mapping[str, float]


@dataclass(frozen=True)
class AdvisorRules:
    """What the advice follows from; where each number comes from stands in `presets/advisor.toml`.

    Args:
        order: the strategies, from the simplest to the costliest.
        margin: of accuracy, below which a costlier strategy is not worth its trouble.
        worth_collecting: of accuracy, what twice the images must bring for that to be the advice.
        views_multiply_adds: what averaging over views may cost.
        curve_widening: factor on the width of a learning curve's interval.
        backbones: of strategies that bring their own.
        small: images of each class below which a set is small.
        far: distance in units of the source from which on images are not similar to it.
        apart: the same of one block of the network.
        table: of size ("small", "big") and similarity ("similar", "not similar") to a strategy.
        sources: scales of distances, by what networks were trained on.
        learning_rates: up to a distance (`below`) in units of the source the `low` and `high` ends
            of the range.
        gains: of each strategy the coefficients of its gain over the linear probe.
        spreads: the standard deviation of what is left of it.
        costs: of each strategy `start`, `image` and `passes`, and the `spread` of its logarithm.
    """

    order: tuple[str, ...]
    margin: float
    worth_collecting: float
    views_multiply_adds: float
    curve_widening: float
    backbones: Mapping[str, str]
    small: float
    far: float
    apart: float
    table: Mapping[tuple[str, str], str]
    sources: Mapping[str, DistanceScale]
    learning_rates: tuple[Mapping[str, float], ...]
    gains: Mapping[str, Mapping[str, float]]
    spreads: Mapping[str, float]
    costs: Mapping[str, Mapping[str, float]]


# View recipes that are drawn by lot.
_RANDOM = ("augmented", "shifted")

# Random views an image, at most: beyond it storing them costs more than it can bring.
_MOST_DRAWN = 100

# Pixels a side of images that cuts of parts of them lose too much of.
_SMALL = 64


def backbone_names() -> list[str]:
    """The names of all backbone presets, sorted."""
    return _names("backbones")


@cache
def backbone_preset(name: str) -> BackbonePreset:
    """The preset of that name.

    Raises:
        TltoolError: there is none; the sentence offers the nearest names.
    """
    check_option("backbone", name, backbone_names())
    return _parse(name, _card("backbones", name))


def views_names() -> list[str]:
    """The names of all view recipes, `k` standing for a number."""
    return [f"{n}-k" if n in _RANDOM else n for n in sorted(_names("views"), key=len)]


@cache
def views(name: str) -> Views:
    """The view recipe of that name.

    Raises:
        TltoolError: there is none; the sentence names those there are.
    """
    found = _named_views(str(name))
    if found is None or (found.random and not found.drawn):
        raise TltoolError(
            f"Unknown --views {str(name)!r}: known are {', '.join(views_names())} (k from 1 to "
            f"{_MOST_DRAWN}, such as augmented-16)."
        )
    return found


def views_for(name: str, input_size: tuple[int, int]) -> Views:
    """The view recipe of that name; "auto" for the one that suits images of that size.

    That is "10", or "2" for images of at most 64 pixels a side, of which crops lose too much.
    """
    return views(("2" if _is_small(input_size) else "10") if name == "auto" else name)


def training_views(name: str, input_size: tuple[int, int]) -> Views:
    """What a network that is trained is shown.

    Args:
        name: "augmented" or "shifted" for a random view drawn anew each epoch, "augmented-4" for
            one of four, "1" for the whole image; "auto" and "auto-4" for "shifted" where images
            have at most 64 pixels a side, and for "augmented" above.
        input_size: height and width of what the network is given.

    Raises:
        TltoolError: it is none of these.
    """
    suited = "shifted" if _is_small(input_size) else "augmented"
    found = _named_views(re.sub("^auto(?=$|-)", suited, str(name)))
    if found is None or not (found.random or found.name == "1"):
        raise TltoolError(
            f"Unknown --train-views {str(name)!r}: known are 1, auto, {', '.join(_RANDOM)}, and "
            f"these with a number of views to choose from, such as auto-4 (up to {_MOST_DRAWN})."
        )
    return found


def _named_views(name: str) -> Views | None:
    """A view recipe, of which "augmented" without a number is one, too."""
    random = re.fullmatch(rf"({'|'.join(_RANDOM)})(?:-([1-9]\d{{0,2}}))?", name, re.ASCII)
    drawn = int(random[2] or 0) if random else 0
    stem = random[1] if random else name
    if stem not in _names("views") or drawn > _MOST_DRAWN:
        return None
    card = _card("views", stem)
    card |= {key: tuple(card[key]) for key in ("crops", "canvas") if key in card}
    if random:
        drawing: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in card["random"].items()
        }
        card |= {"random": RandomCrops(**drawing), "drawn": drawn}
    return Views(name=name, **card)


def _is_small(size: tuple[int, int]) -> bool:
    return max(size) <= _SMALL


def augmentation_names() -> list[str]:
    """The names of all augmentations, sorted."""
    return _names("augmentations")


@cache
def augmentation(name: str) -> Augmentation:
    """The augmentation of that name.

    Raises:
        TltoolError: there is none; the sentence offers the nearest names.
    """
    check_option("--augment", name, augmentation_names())
    return Augmentation(name=name, **_card("augmentations", name))


def recipe_names() -> list[str]:
    """The names of all recipes, sorted."""
    return _names("recipes")


@cache
def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        TltoolError: there is none; the sentence offers the nearest names.
    """
    check_option("--recipe", name, recipe_names())
    card = _card("recipes", name)
    return Recipe(name=name, variants=tuple(card.pop("variants", ())), **card)


@cache
def advisor_rules() -> AdvisorRules:
    """What the advice follows from."""
    card = tomllib.loads(_file("advisor.toml").read_text("utf-8"))
    table, thresholds = card.pop("table"), card.pop("thresholds")
    gains, sources = card.pop("gains"), card.pop("sources")
    return AdvisorRules(
        order=tuple(card.pop("order")),
        learning_rates=tuple(card.pop("learning_rates")),
        table={(s, d): table[s][d] for s in ("small", "big") for d in ("similar", "not similar")},
        spreads={name: gain.pop("spread") for name, gain in gains.items()},
        gains=gains,
        sources={name: DistanceScale(**scale) for name, scale in sources.items()},
        curve_widening=card.pop("curve")["widening"],
        margin=card.pop("choice")["margin"],
        **thresholds,
        **card,
    )


def _names(folder: str) -> list[str]:
    """The presets of a kind, sorted."""
    files = resources.files(f"tltool.presets.{folder}").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def _card(folder: str, name: str) -> dict[str, Any]:
    """What a preset's file holds."""
    return tomllib.loads(_file(f"{folder}/{name}.toml").read_text("utf-8"))


def _file(name: str) -> Traversable:
    """A file of the presets."""
    return resources.files("tltool.presets").joinpath(*name.split("/"))


def packaged_weights(preset: BackbonePreset) -> Path:
    """The file of the weights that come with tltool."""
    folder = resources.files("tltool.presets.weights")
    return Path(str(folder.joinpath(preset.weights.file)))


def _parse(name: str, card: dict[str, Any]) -> BackbonePreset:
    """A preset from its TOML table; a missing or unknown key is an error that names it."""
    known = {f.name for f in fields(BackbonePreset)} - {"name"}
    unknown = set(card) - known
    if unknown:
        raise TltoolError(f"presets/backbones/{name}.toml has unknown keys: {sorted(unknown)}.")
    try:
        pixels = card.pop("preprocessing")
        how = Preprocessing(pixels["channels"], tuple(pixels["scale"]), tuple(pixels["offset"]))
        parsed: dict[str, Any] = {
            "preprocessing": how,
            "input_size": tuple(card.pop("input_size")),
            "weights": PublishedWeights(**card.pop("weights")),
            "accuracy": Accuracy(**card.pop("accuracy")),
        }
        for tables in ("blocks", "taps", "head_taps", "arguments"):
            parsed[tables] = MappingProxyType(card.pop(tables, {}))
        return BackbonePreset(name=name, **parsed, **card)
    except (KeyError, TypeError) as error:
        raise TltoolError(f"presets/backbones/{name}.toml is incomplete: {error}.") from error
