"""The ways to adapt a backbone to a data set, behind one contract."""

from tltool.strategies.cutting import CACHES
from tltool.strategies.examples import split_off
from tltool.strategies.feature_ensemble import FeatureEnsemble
from tltool.strategies.fine_tune import FineTune
from tltool.strategies.from_scratch import FromScratch
from tltool.strategies.frozen_head import FrozenHead
from tltool.strategies.off_the_shelf import CLASSIFIER_OPTIONS, PENALTIES, OffTheShelf
from tltool.strategies.strategy import FittedClassifier, Strategy
from tltool.strategies.teaching import Teacher

__all__ = [
    "CACHES",
    "CLASSIFIER_OPTIONS",
    "PENALTIES",
    "STRATEGIES",
    "FeatureEnsemble",
    "FineTune",
    "FittedClassifier",
    "FromScratch",
    "FrozenHead",
    "OffTheShelf",
    "Strategy",
    "Teacher",
    "split_off",
]

STRATEGIES: dict[str, type[Strategy]] = {
    "off-the-shelf": OffTheShelf,
    "frozen-head": FrozenHead,
    "fine-tune": FineTune,
    "from-scratch": FromScratch,
    "feature-ensemble": FeatureEnsemble,
}
