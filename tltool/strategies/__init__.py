"""The ways to adapt a backbone to a data set, behind one contract."""

from tltool.strategies.frozen_head import FrozenHead
from tltool.strategies.off_the_shelf import CLASSIFIER_OPTIONS, PENALTIES, OffTheShelf
from tltool.strategies.strategy import FittedClassifier, Strategy

__all__ = [
    "CLASSIFIER_OPTIONS",
    "PENALTIES",
    "STRATEGIES",
    "FittedClassifier",
    "FrozenHead",
    "OffTheShelf",
    "Strategy",
]

STRATEGIES: dict[str, type[Strategy]] = {
    "off-the-shelf": OffTheShelf,
    "frozen-head": FrozenHead,
}
