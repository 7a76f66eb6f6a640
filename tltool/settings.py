"""What a run follows from, besides the data."""

from __future__ import annotations

from dataclasses import dataclass

from tltool._presets import backbone_names, recipe, views
from tltool._validation import check_int, check_option
from tltool.data import TableColumns, check_shares
from tltool.linear import check_transforms
from tltool.strategies import CLASSIFIER_OPTIONS, STRATEGIES, OffTheShelf, Strategy

__all__ = ["AdaptSettings"]


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
        check_option("--bad-images", self.bad_images, ("skip", "fail"))
        check_shares(self.test, self.val)
        object.__setattr__(self, "seed", check_int("--seed", self.seed, low=0, high=2**32 - 1))

    def make_strategy(self) -> Strategy:
        """The strategy with its own settings."""
        return OffTheShelf(str(self.classifier), self.transforms)

    @property
    def columns(self) -> TableColumns:
        """The columns of a table."""
        return TableColumns(self.image_column, self.label_column, self.split_column)
