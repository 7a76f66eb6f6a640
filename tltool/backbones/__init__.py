"""A preset and its weights -> a Keras model that takes raw pixels."""

from tltool.backbones.backbone import Backbone
from tltool.backbones.weights import Weights, WeightsMissingError, find_weights

__all__ = ["Backbone", "Weights", "WeightsMissingError", "find_weights"]
