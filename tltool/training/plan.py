"""How a network is trained: numbers, no code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from tltool._presets import training_views
from tltool._validation import TltoolError, check_fraction, check_int, check_option, nearest

__all__ = ["TrainingPlan"]

_OPTIMIZERS = ("sgd", "adamw")
_SCHEDULES = ("cosine", "step", "constant")
_BALANCES = ("none", "weights", "sampling")
_NORMS = ("frozen", "adapt")
_PRECISIONS = ("auto", "float32", "bfloat16")
_TEACHER_SEES = ("views", "images")
_ANY_SIZE = 224


@dataclass(frozen=True)
class TrainingPlan:
    """How a network is trained.

    Args:
        epochs: times that every image is seen, at most.
        fewest_steps: more epochs than that where they would be fewer steps, as few images are.
        distinct_pictures: once epochs have shown so many, these epochs come again with the same
            draws, and a teacher is not asked again; 0 for pictures drawn anew in every epoch.
        batch_size: images a step.
        optimizer: "sgd" (with Nesterov momentum) or "adamw".
        learning_rate: its peak; "auto" to find it by a range test.
        momentum: of SGD.
        weight_decay: decoupled, a share of the learning rate; biases and norms have none.
        schedule: after the warm-up "cosine" to 0, "step" (a tenth at 30, 60 and 90 % of the
            steps, as in Kolesnikov et al., "Big Transfer", 2019), or "constant".
        warmup: share of the steps over which the learning rate rises from 0.
        label_smoothing: share of the target that all classes have in common.
        precision: "float32"; "bfloat16" for mixed precision; or "auto" for what pays here.
        views: what is shown of each image, see `tltool._presets.training_views`.
        augment: what is done to that, names of `presets/augmentations/`.
        norms: "frozen", batch normalisation stays as it was trained on the source; or "adapt".
        layer_decay: from each block of the network to the one below, the factor on the learning
            rate; 1 for one rate.
        l2_sp: whether weights decay towards the pretrained ones instead of zero.
        weight_averaging: weights that are judged and kept are averages over the steps, which count
            by this power of how late they come, see `tltool.training.averaging`; 0 for the last.
        clip_norm: gradients are no longer than that; 0 for no limit.
        patience: epochs without improvement on the validation images that end it; 0 for never.
        balance: classes of unequal size: "none"; "weights", an image of a small class counting
            more; or "sampling", each class drawn as often.
        units: of the hidden layers of the head, from the features up; none for a linear head.
        dropout: share of what reaches each layer of the head that is dropped.
        teacher_share: of the loss, where there is a teacher: how far what it says counts, instead
            of the labels.
        teacher_temperature: what its scores and the network's are divided by for that.
        teacher_sees: what it is asked about: "views", those that the network is shown; or
            "images", each whole image once, which is quicker.
        batch_norm: whether hidden layers have batch normalisation.

    Raises:
        TltoolError: a value out of range.
    """

    epochs: int = 50
    fewest_steps: int = 0
    distinct_pictures: int = 0
    batch_size: int = 32
    optimizer: str = "adamw"
    learning_rate: float | str = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-2
    schedule: str = "cosine"
    warmup: float = 0.1
    label_smoothing: float = 0.0
    precision: str = "float32"
    views: str = "1"
    augment: tuple[str, ...] = ()
    norms: str = "frozen"
    layer_decay: float = 1.0
    l2_sp: bool = False
    weight_averaging: float = 0.0
    clip_norm: float = 0.0
    patience: int = 10
    balance: str = "none"
    units: tuple[int, ...] = ()
    dropout: float = 0.0
    batch_norm: bool = False
    teacher_share: float = 0.9
    teacher_temperature: float = 2.0
    teacher_sees: str = "views"

    def __post_init__(self) -> None:
        def whole(name: str, low: int) -> None:
            option = f"--{name.replace('_', '-')}"
            object.__setattr__(self, name, check_int(option, getattr(self, name), low=low))

        whole("epochs", 1)
        whole("batch_size", 1)
        whole("patience", 0)
        whole("fewest_steps", 0)
        whole("distinct_pictures", 0)
        check_option("--optimizer", self.optimizer, _OPTIMIZERS)
        check_option("schedule", self.schedule, _SCHEDULES)
        check_option("--balance", self.balance, _BALANCES)
        check_option("--norms", self.norms, _NORMS)
        check_option("--train-precision", self.precision, _PRECISIONS)
        check_option("teacher_sees", self.teacher_sees, _TEACHER_SEES)
        object.__setattr__(self, "learning_rate", _rate(self.learning_rate))
        object.__setattr__(self, "augment", tuple(self.augment))
        training_views(self.views, (_ANY_SIZE, _ANY_SIZE))
        if not 0 < self.layer_decay <= 1:
            raise TltoolError(
                f"--layer-decay must be above 0 and at most 1, got {self.layer_decay!r}."
            )
        for name in ("momentum", "warmup", "label_smoothing", "dropout"):
            check_fraction(name, getattr(self, name), zero=True)
        if not 0 <= self.teacher_share <= 1:
            raise TltoolError(f"teacher_share must be from 0 to 1, got {self.teacher_share!r}.")
        if not (self.teacher_temperature > 0 and math.isfinite(self.teacher_temperature)):
            raise TltoolError(
                f"teacher_temperature must be above 0, got {self.teacher_temperature!r}."
            )
        for name in ("weight_decay", "clip_norm", "weight_averaging"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise TltoolError(f"{name} must be at least 0, got {getattr(self, name)!r}.")
        units = tuple(check_int("units", n, low=1) for n in self.units)
        object.__setattr__(self, "units", units)

    @classmethod
    def of(cls, card: Mapping[str, Any], **given: Any) -> TrainingPlan:
        """A plan of a recipe's table, what is given beside it and not None winning.

        Raises:
            TltoolError: an unknown key or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in (*card, *given):
            if name not in known:
                raise TltoolError(f"Training has no setting {name!r}: {nearest(name, known)}")
        return cls(**{**card, **{k: v for k, v in given.items() if v is not None}})

    def for_images(self, n: int) -> TrainingPlan:
        """The same with a batch that there are images for, and epochs enough for the steps.

        Where there are more epochs, more of them have to pass without gain to end it.
        """
        batch_size = min(self.batch_size, n)
        epochs = max(self.epochs, -(-self.fewest_steps // -(-n // batch_size)))
        patience = round(self.patience * epochs / self.epochs)
        return replace(self, batch_size=batch_size, epochs=epochs, patience=patience)

    def learning_rate_at(self, step: int, steps: int) -> float:
        """The learning rate of a step, from 0, of so many.

        Raises:
            ValueError: it was left to be found.
        """
        if isinstance(self.learning_rate, str):
            raise ValueError("the learning rate has not been found yet")
        rising = math.ceil(self.warmup * steps)
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        done = (step - rising) / max(1, steps - rising)
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
        if self.schedule == "step":
            passed = sum(step >= share * steps for share in (0.3, 0.6, 0.9))
            return float(self.learning_rate * 0.1**passed)
        return self.learning_rate


def _rate(given: float | str) -> float | str:
    """A learning rate as a number, or "auto"."""
    if given == "auto":
        return "auto"
    try:
        rate = float(given)
    except (TypeError, ValueError):
        rate = math.nan
    if not (rate > 0 and math.isfinite(rate)):
        raise TltoolError(
            f"--learning-rate must be a number above 0, such as 0.001, or auto; got {given!r}."
        )
    return rate
