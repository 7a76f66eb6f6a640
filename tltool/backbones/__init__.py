"""A preset and its weights -> a Keras model that takes raw pixels."""

from tltool.backbones.backbone import Backbone
from tltool.backbones.boundaries import Boundary, boundary
from tltool.backbones.catalogue import backbone_page, list_backbones
from tltool.backbones.importing import import_weights
from tltool.backbones.taps import Tap, TapPart, backbones_with, of_any_backbone
from tltool.backbones.weights import Weights, WeightsMissingError, find_weights

__all__ = [
    "Backbone",
    "Boundary",
    "Tap",
    "TapPart",
    "Weights",
    "WeightsMissingError",
    "backbone_page",
    "backbones_with",
    "boundary",
    "find_weights",
    "import_weights",
    "list_backbones",
    "of_any_backbone",
]
