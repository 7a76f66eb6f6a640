"""What a run follows from, besides the data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tltool._presets import backbone_names, recipe, views
from tltool._validation import TltoolError, check_int, check_option, nearest
from tltool.backbones import Backbone, WeightsMissingError, backbones_with, of_any_backbone
from tltool.data import TableColumns, check_shares
from tltool.features import ENGINES, PRECISIONS, FeatureSource, FeatureStore
from tltool.linear import check_transforms
from tltool.strategies import CLASSIFIER_OPTIONS, STRATEGIES, OffTheShelf, Strategy

__all__ = ["AdaptSettings"]

_log = logging.getLogger(__name__)

# Tried in this order where the user names no backbone; the embedded one comes last.
_PREFERRED_BACKBONES = ("resnet50", "mobilenet-0.25")
_EMBEDDED_BACKBONE = "cifar-resnet20"


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
            "augmented-k"; None for the recipe's, else the whole image alone.
        classifier: "lda", "ridge", "logistic-regression", "svm", or "auto" to choose by
            cross-validation; None for the recipe's, else "auto".
        transforms: steps between features and classifier, such as "sqrt,l2", or "none"; None for
            the recipe's, else to choose by cross-validation.
        recipe: a named combination of tap, views, transforms and classifier; what is set beside
            it wins.
        strategy: how to adapt, "off-the-shelf".
        seed: of the splits, the folds and the intervals.
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
    strategy: str = "off-the-shelf"
    seed: int = 0
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
        check_option("--strategy", self.strategy, STRATEGIES)
        if self.recipe is not None:
            chosen = recipe(self.recipe)
            for name in ("tap", "views", "classifier", "transforms"):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, getattr(chosen, name))
        object.__setattr__(self, "views", views("1" if self.views is None else self.views).name)
        object.__setattr__(self, "classifier", self.classifier or "auto")
        check_option("--classifier", str(self.classifier), CLASSIFIER_OPTIONS)
        if self.transforms is not None:
            check_transforms(self.transforms)
        check_option("--engine", self.engine, ENGINES)
        check_option("--precision", self.precision, PRECISIONS)
        check_option("--bad-images", self.bad_images, ("skip", "fail"))
        check_shares(self.test, self.val)
        object.__setattr__(self, "seed", check_int("--seed", self.seed, low=0, high=2**32 - 1))

    @classmethod
    def checked(
        cls, function: str, given: Mapping[str, Any], known: Sequence[str] | None = None
    ) -> AdaptSettings:
        """Settings from a function's keyword arguments.

        Args:
            function: its name.
            given: the arguments.
            known: the settings that it takes; None for all.

        Raises:
            TltoolError: an unknown one; the sentence offers the nearest.
        """
        known = [f.name for f in fields(cls)] if known is None else known
        for name in given:
            if name not in known:
                raise TltoolError(f"{function}() has no setting {name!r}: {nearest(name, known)}")
        return cls(**given)

    def make_backbone(self, warnings: list[str]) -> Backbone:
        """The backbone asked for, or the best whose weights can be had; says so in `warnings`."""
        layers: dict[str, Any] = {"taps": self.tap, "input_size": self.input_size}
        if self.backbone is not None:
            if self.weights == "none":
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
        return FeatureSource(backbone, store, self.engine, self.precision, views(str(self.views)))

    def make_strategy(self) -> Strategy:
        """The strategy with its own settings."""
        return OffTheShelf(str(self.classifier), self.transforms)

    @property
    def columns(self) -> TableColumns:
        """The columns of a table."""
        return TableColumns(self.image_column, self.label_column, self.split_column)
