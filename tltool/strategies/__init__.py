"""The ways to adapt a backbone to a data set, behind one contract."""

from tltool.strategies.linear_head import LinearHead
from tltool.strategies.off_the_shelf import OffTheShelf
from tltool.strategies.strategy import FittedClassifier, Strategy

__all__ = ["STRATEGIES", "FittedClassifier", "LinearHead", "OffTheShelf", "Strategy"]

STRATEGIES: dict[str, type[Strategy]] = {"off-the-shelf": OffTheShelf}
