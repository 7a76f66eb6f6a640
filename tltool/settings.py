"""What a run follows from, besides the data."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from tltool._presets import backbone_names, recipe, recipe_names, views, views_for
from tltool._validation import TltoolError, check_int, check_option, nearest
from tltool.backbones import Backbone, WeightsMissingError, backbones_with, of_any_backbone
from tltool.data import (
    CheckReport,
    Dataset,
    Listing,
    SplitReport,
    TableColumns,
    check_listing,
    check_shares,
    read_listing,
    split_dataset,
)
from tltool.features import ENGINES, PRECISIONS, FeatureSource, FeatureStore
from tltool.linear import check_transforms
from tltool.strategies import (
    CLASSIFIER_OPTIONS,
    STRATEGIES,
    FeatureEnsemble,
    FineTune,
    FromScratch,
    FrozenHead,
    OffTheShelf,
    Strategy,
    Teacher,
)
from tltool.training import TrainingPlan
from tltool.training.augmentation import check_augmentations

__all__ = [
    "AUTO",
    "AdaptSettings",
    "adapt_options",
    "own_settings",
    "seconds_of",
    "settings_of",
    "takes",
]

_log = logging.getLogger(__name__)

# Tried in this order where the user names no backbone; the embedded one comes last.
_PREFERRED_BACKBONES = ("resnet50", "mobilenet-0.25")
_EMBEDDED_BACKBONE = "cifar-resnet20"


AUTO = "auto"
"""The strategy that is chosen by what is measured of the data."""

# The strategies that a setting is for, where it is not for all.
_TRAINING = (FrozenHead.name, FineTune.name, FromScratch.name)
_NETWORK_TRAINING = (FineTune.name, FromScratch.name)
_ON_FEATURES = (OffTheShelf.name, FeatureEnsemble.name)
_ONLY_FOR = {
    "classifier": (*_ON_FEATURES, FineTune.name),
    "transforms": _ON_FEATURES,
    "units": (FrozenHead.name,),
    "unfreeze": (FineTune.name,),
    "cache": (FineTune.name,),
    "norms": _NETWORK_TRAINING,
    "layer_decay": _NETWORK_TRAINING,
    "train_precision": _NETWORK_TRAINING,
    "teacher": _NETWORK_TRAINING,
    "l2_sp": (FineTune.name,),
    **dict.fromkeys(
        (
            "train_views",
            "augment",
            "dropout",
            "epochs",
            "batch_size",
            "optimizer",
            "learning_rate",
            "weight_decay",
            "balance",
            "patience",
            "budget",
        ),
        _TRAINING,
    ),
}

# Of these, those that are no part of a `TrainingPlan`, and those called differently there.
_NOT_OF_PLAN = ("classifier", "transforms", "unfreeze", "cache", "budget", "teacher")
_CALLED_IN_PLAN = {"train_views": "views", "train_precision": "precision"}


@dataclass(frozen=True)
class AdaptSettings:
    """What a run follows from, besides the data.

    Args:
        backbone: name of a preset; None for the best of resnet50 and mobilenet-0.25 whose weights
            can be had, else the embedded network.
        weights: "imagenet", "none" (random), a file, or None for the backbone's own.
        tap: feature layers with their pooling, `stage3:max,avgpool`; None for the backbone's own.
        input_size: height and width in pixels of what the network is given, `160` or `160x224`;
            None for the backbone's own.
        views: which pictures of an image the network is shown: "1", "2", "10", "12" or
            "augmented-k", or "auto" by the size of the input; None for the recipe's, else the whole
            image alone.
        classifier: "lda", "ridge", "logistic-regression", "svm", or "auto" to choose by
            cross-validation; None for the recipe's, else "auto". Fine-tuning begins with it; "lda"
            where nothing is said.
        transforms: steps between features and classifier, such as "sqrt,l2", or "none"; None for
            the recipe's, else to choose by cross-validation.
        recipe: a named combination of settings; what is set beside it wins.
        strategy: how to adapt, "off-the-shelf", "feature-ensemble", "frozen-head", "fine-tune" or
            "from-scratch"; or "auto" for what is measured to suit the images, unless one strategy
            alone takes what is set here. None for the recipe's, else "off-the-shelf".
        unfreeze: of fine-tuning, the lowest block that is trained; "last2" for the last two, "all",
            or "auto". This and what follows up to `budget` is for strategies that train; None for
            the recipe's.
        cache: of fine-tuning, whether activations at the freeze boundary are stored: "auto", "on"
            or "off".
        train_views: what is shown of an image in training, see `tltool._presets.training_views`.
        augment: what is done to that, "mixup,erasing"; see `presets/augmentations/`.
        norms: batch normalisation, "frozen" or "adapt".
        layer_decay: from each block of the network to the one below, the factor on the learning
            rate.
        l2_sp: of fine-tuning, whether weights decay towards the pretrained ones instead of zero.
        train_precision: "float32", "bfloat16" for mixed precision, or "auto" for what is measured
            to pay on this machine.
        units: of the hidden layers of a frozen network's head, "512" or "512,256"; "none" for a
            linear one.
        dropout: share of what reaches each layer of the head that is dropped.
        epochs: times that every image is seen, at most.
        batch_size: images a step.
        optimizer: "sgd" or "adamw".
        learning_rate: its peak, or "auto" for what a range test finds.
        weight_decay: a share of the learning rate.
        balance: of classes of unequal size: "none", "weights" or "sampling".
        patience: epochs without improvement on the validation images that end it; 0 for never.
        budget: time after which training ends with the best so far: "90s", "10m", "1h".
        teacher: folder of a finished run whose probabilities are learned from, beside the labels.
        relabel: CSV file of corrected labels, with the columns file and correction, as
            `tltool check DATA --labels` writes it.
        tensorboard: whether a training's figures are written for TensorBoard, too.
        seed: of the splits, the folds, what is drawn in training, and the intervals.
        split_seed: of the splits, where it is another; None for the same.
        test: share of the images to test on, where the data brings no test split.
        val: share of the images to validate on, where the data brings no such split.
        engine: "auto", "keras" or "openvino".
        precision: "float32", or "bfloat16": faster on processors that have it, and features are
            up to a tenth off.
        bad_images: "skip" unreadable files, or "fail".
        image_column, label_column, split_column: of a table; None for the usual names, and no
            splits.

    Raises:
        TltoolError: an unknown option.
    """

    backbone: str | None = None
    weights: str | None = None
    tap: str | None = None
    input_size: str | None = None
    views: str | None = None
    classifier: str | None = None
    transforms: str | None = None
    recipe: str | None = None
    strategy: str | None = None
    unfreeze: str | None = None
    cache: str | None = None
    train_views: str | None = None
    augment: str | None = None
    norms: str | None = None
    layer_decay: float | None = None
    l2_sp: bool | None = None
    train_precision: str | None = None
    units: str | None = None
    dropout: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    optimizer: str | None = None
    learning_rate: float | str | None = None
    weight_decay: float | None = None
    balance: str | None = None
    patience: int | None = None
    budget: str | None = None
    teacher: str | None = None
    relabel: str | None = None
    tensorboard: bool = False
    seed: int = 0
    split_seed: int | None = None
    test: float = 0.2
    val: float = 0.1
    engine: str = "auto"
    precision: str = "float32"
    bad_images: str = "skip"
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None

    def __post_init__(self) -> None:
        if self.backbone is not None:
            check_option("--backbone", self.backbone, backbone_names())
        named = None if self.recipe is None else recipe(self.recipe)
        strategy = self.strategy or (named and named.strategy) or OffTheShelf.name
        if strategy == AUTO and named and (named.strategy or named.classifier):
            strategy = named.strategy or OffTheShelf.name
        check_option("--strategy", strategy, (AUTO, *STRATEGIES))
        self._check_common()
        if strategy == AUTO:
            for name in ("backbone", "tap", "views") if named else ():
                if getattr(self, name) is None:
                    object.__setattr__(self, name, getattr(named, name))
            self._check_candidates()
            if len(self.candidates) > 1:
                return
            strategy = self.candidates[0]
        if named and named.strategy not in (None, strategy):
            raise TltoolError(
                f"--recipe {self.recipe} is for --strategy {named.strategy}, not {strategy}; leave "
                "one of them out."
            )
        self._refuse_foreign(strategy)
        if self.tensorboard and strategy in _ON_FEATURES:
            raise TltoolError(
                f"--tensorboard is for strategies that train; {strategy} has no epochs to show."
            )
        object.__setattr__(self, "strategy", strategy)
        names = ["backbone", "tap", "views"]
        names += [n for n in ("classifier", "transforms") if strategy in _ONLY_FOR[n]]
        for chosen in (named, recipe(strategy) if strategy in recipe_names() else None):
            for name in names if chosen else ():
                if getattr(self, name) is None:
                    object.__setattr__(self, name, getattr(chosen, name))
        self._check_views(strategy)
        if strategy == FromScratch.name:
            if self.weights not in (None, "none"):
                raise TltoolError(
                    f"--weights {self.weights}: --strategy from-scratch takes random ones, "
                    "so leave it out, or take fine-tune."
                )
            object.__setattr__(self, "weights", "none")
        if strategy in _ONLY_FOR["classifier"]:
            usual = "auto" if strategy in _ON_FEATURES else "lda"
            object.__setattr__(self, "classifier", self.classifier or usual)
            check_option("--classifier", str(self.classifier), CLASSIFIER_OPTIONS)
        if self.transforms is not None:
            check_transforms(self.transforms)
        self.make_strategy()

    def _check_common(self) -> None:
        """What does not depend on the strategy."""
        check_option("--engine", self.engine, ENGINES)
        check_option("--precision", self.precision, PRECISIONS)
        check_option("--bad-images", self.bad_images, ("skip", "fail"))
        check_shares(self.test, self.val)
        if self.relabel is not None:
            object.__setattr__(self, "relabel", str(self.relabel))
        object.__setattr__(self, "seed", check_int("--seed", self.seed, low=0, high=2**32 - 1))
        if self.split_seed is not None:
            checked = check_int("--split-seed", self.split_seed, low=0, high=2**32 - 1)
            object.__setattr__(self, "split_seed", checked)

    @property
    def candidates(self) -> tuple[str, ...]:
        """The strategies that have all the options that were set, where one is to be chosen."""
        if self.strategy != AUTO:
            return (str(self.strategy),)
        named = None if self.recipe is None else recipe(self.recipe)
        found = [name for name in STRATEGIES if name != FeatureEnsemble.name]  # never advised
        for name, strategies in _ONLY_FOR.items():
            if getattr(self, name) is not None or getattr(named, name, None) is not None:
                found = [n for n in found if n in strategies]
        if self.tensorboard:
            found = [n for n in found if n in _TRAINING]
        if {self.backbone, self.weights, self.tap, self.input_size} != {None}:
            # from scratch would be another network than the one that was named
            found = [n for n in found if n != FromScratch.name]
        return tuple(found)

    def _check_candidates(self) -> None:
        """Each of them takes the options as they are."""
        if not self.candidates:
            raise TltoolError(
                "No --strategy takes all of these options; name one, and leave out what it has no "
                "use for."
            )
        for name in self.candidates:
            replace(self, strategy=name)

    def _check_views(self, strategy: str) -> None:
        """Random views are for training; where that is not their only use they say which others."""
        shown = "1" if self.views is None else str(self.views)
        if shown != "auto":
            found = views(shown)
            if found.random and strategy in _TRAINING:
                object.__setattr__(self, "train_views", self.train_views or found.name)
                shown = found.predict
        object.__setattr__(self, "views", shown)

    def _refuse_foreign(self, strategy: str) -> None:
        """Options of another strategy would do nothing."""
        for name, strategies in _ONLY_FOR.items():
            if getattr(self, name) is not None and strategy not in strategies:
                raise TltoolError(
                    f"--{name.replace('_', '-')} is for --strategy {' or '.join(strategies)}; with "
                    f"{strategy} it would do nothing, so leave it out."
                )

    @classmethod
    def checked(
        cls,
        function: str,
        given: Mapping[str, Any],
        known: Sequence[str] | None = None,
        **fixed: Any,
    ) -> AdaptSettings:
        """Settings from a function's keyword arguments.

        Args:
            function: its name.
            given: the arguments.
            known: the settings that it takes; None for all.
            **fixed: settings that it does not take.

        Raises:
            TltoolError: an unknown one; the sentence offers the nearest.
        """
        known = [f.name for f in fields(cls)] if known is None else known
        for name in given:
            if name not in known:
                raise TltoolError(f"{function}() has no setting {name!r}: {nearest(name, known)}")
        return cls(**{**given, **fixed})

    def as_options(self) -> list[str]:
        """The options of `tltool adapt` that give these settings."""
        return adapt_options(asdict(self))

    def listing(self, data: str | Path) -> Listing:
        """The images of a data set, as its table and corrections say.

        Raises:
            TltoolError: it cannot be read.
        """
        return read_listing(data, self.columns, self.relabel)

    def checked_images(
        self, listing: Listing, cache: FeatureStore
    ) -> tuple[Dataset, CheckReport, SplitReport]:
        """What can be used of these images, with splits; and what was found on the way.

        Raises:
            TltoolError: too little of it can.
        """
        checked, report = check_listing(listing, bad_images=self.bad_images, cache=cache)
        seed = self.seed_of_splits
        dataset, splits = split_dataset(checked, seed=seed, test=self.test, val=self.val)
        return dataset, report, splits

    def make_backbone(self, warnings: list[str]) -> Backbone:
        """The backbone asked for, or the best whose weights can be had; says so in `warnings`."""
        layers: dict[str, Any] = {"taps": self.tap, "input_size": self.input_size}
        if self.backbone is not None:
            if self.weights == "none" and self.strategy != FromScratch.name:
                warnings.append(
                    "The weights are random: figures tell what the bare network is worth."
                )
            return Backbone(self.backbone, self.weights, self.seed, **layers)
        if self.weights not in (None, "imagenet"):
            raise TltoolError(
                f"--weights {self.weights} needs --backbone to say of which network: one of "
                f"{', '.join(backbone_names())}."
            )
        if self.tap is not None and not of_any_backbone(self.tap):
            by_recipe = self.recipe is not None and self.tap == recipe(self.recipe).tap
            named = f"--recipe {self.recipe}" if by_recipe else f"--tap {self.tap}"
            having = backbones_with(self.tap) or backbone_names()
            raise TltoolError(
                f"{named} needs --backbone to say of which network: one of {', '.join(having)}."
            )
        missing: list[str] = []
        for name in _PREFERRED_BACKBONES:
            try:
                found = Backbone(name, **layers)
            except WeightsMissingError as error:
                _log.debug("%s", error)
                missing.append(name)
                continue
            if missing:
                warnings.append(
                    f"The weights of {', '.join(missing)} could not be had, so {name} was taken; "
                    "name one with --backbone to see where they were looked for."
                )
            return found
        warnings.append(
            f"No ImageNet weights could be had, so the embedded {_EMBEDDED_BACKBONE} was taken; "
            "it suits images of about 32 pixels, and larger photos lose most of their detail. Put "
            f"the weights of {_PREFERRED_BACKBONES[0]} into a folder named by TLTOOL_WEIGHTS for "
            "better figures."
        )
        return Backbone(_EMBEDDED_BACKBONE, **layers)

    def make_source(self, store: FeatureStore, backbone: Backbone | None = None) -> FeatureSource:
        """Where features come from, for these settings."""
        if backbone is None:
            warnings: list[str] = []
            backbone = self.make_backbone(warnings)
            for warning in warnings:
                _log.warning(warning)
        shown = views_for(str(self.views or "1"), backbone.input_size)
        return FeatureSource(backbone, store, self.engine, self.precision, shown)

    def make_strategy(self, teacher: Teacher | None = None) -> Strategy:
        """The strategy with its own settings.

        Args:
            teacher: what the run that `teacher` names says of the images.

        Raises:
            ValueError: it has not been chosen yet.
        """
        if self.strategy == AUTO:
            raise ValueError("no strategy was chosen yet")
        if self.strategy == OffTheShelf.name:
            return OffTheShelf(str(self.classifier), self.transforms)
        if self.strategy == FeatureEnsemble.name:
            return FeatureEnsemble(str(self.classifier), self.transforms)
        card = dict(recipe(str(self.strategy)).training)
        if self.recipe is not None:
            card |= recipe(self.recipe).training
        of_plan = (n for n, strategies in _ONLY_FOR.items() if self.strategy in strategies)
        given = {
            _CALLED_IN_PLAN.get(name, name): getattr(self, name)
            for name in of_plan
            if name not in _NOT_OF_PLAN
        }
        if self.epochs is not None or self.patience is not None:  # what the user says is all
            given["fewest_steps"] = 0
        if self.units is not None:
            given["units"] = _units(self.units)
        if self.augment is not None:
            given["augment"] = check_augmentations(self.augment)
        plan = TrainingPlan.of(card, **given)
        budget = None if self.budget is None else seconds_of(self.budget)
        if self.strategy == FrozenHead.name:
            return FrozenHead(plan, budget)
        if self.strategy == FromScratch.name:
            return FromScratch(plan, budget, teacher)
        unfreeze, cache = self.unfreeze or "auto", self.cache or "auto"
        return FineTune(plan, budget, unfreeze, cache, str(self.classifier), teacher)

    @property
    def seed_of_splits(self) -> int:
        """What the splits follow from."""
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def columns(self) -> TableColumns:
        """The columns of a table."""
        return TableColumns(self.image_column, self.label_column, self.split_column)


def adapt_options(given: Mapping[str, Any]) -> list[str]:
    """Options of `tltool adapt` for settings by name, of those that are not the usual ones."""
    words: list[str] = []
    for field in fields(AdaptSettings):
        value = given.get(field.name)
        if value is None or value is False or value == field.default:
            continue
        option = f"--{field.name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif str(value).startswith("-"):
            words.append(f"{option}={value}")
        else:
            words += [option, str(value)]
    return words


def takes(strategy: str, setting: str) -> bool:
    """Whether a strategy has a use for a setting."""
    return strategy in _ONLY_FOR.get(setting, (strategy,))


def own_settings(strategy: str) -> tuple[str, ...]:
    """Names of the settings that a strategy has a use for and not all others have."""
    return tuple(name for name, strategies in _ONLY_FOR.items() if strategy in strategies)


def settings_of(texts: Sequence[str]) -> dict[str, Any]:
    """Settings of `adapt` as a command line gives them, `["epochs=5", "norms=adapt"]`.

    Raises:
        TltoolError: an unknown one, or a value of another kind.
    """
    kinds = {f.name: str(f.type).removesuffix(" | None") for f in fields(AdaptSettings)}
    found: dict[str, Any] = {}
    for text in texts:
        given, equals, value = text.partition("=")
        name = given.strip().removeprefix("--").replace("-", "_")
        if not equals:
            raise TltoolError(f"--set {text} must be a name and a value, such as epochs=5.")
        if name not in kinds:
            raise TltoolError(f"--set {text}: {nearest(name, list(kinds))}")
        try:
            found[name] = _READ[kinds[name]](value.strip())
        except (KeyError, ValueError) as error:
            raise TltoolError(f"--set {text}: {name} must be {kinds[name]}.") from error
    return found


_READ: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "float | str": str,  # a rate, or auto
    "bool": {"true": True, "false": False}.__getitem__,
}


def _units(text: str) -> tuple[int, ...]:
    """ "512,256" as numbers."""
    if text.strip() in ("", "none"):
        return ()
    parts = text.split(",")
    if not all(re.fullmatch(r"\s*[1-9]\d{0,5}\s*", part, re.ASCII) for part in parts):
        raise TltoolError(
            f"--units must be numbers of units, such as 512 or 512,256, or none; got {text!r}."
        )
    return tuple(map(int, parts))


def seconds_of(text: str) -> float:
    """ "90s", "10m" or "1h" in seconds.

    Raises:
        TltoolError: it is no such time.
    """
    found = re.fullmatch(r"\s*(\d{1,6}(?:\.\d{1,3})?)\s*([smh]?)\s*", str(text), re.ASCII)
    if not found or not float(found[1]) > 0:
        raise TltoolError(f"--budget must be a time such as 90s, 10m or 1h, got {text!r}.")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2] or "s"]
