"""tltool: transfer learning for Keras, from a folder of photos to a saved, evaluated model.

Names are loaded when they are first used: importing the package loads neither TensorFlow nor
scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tltool._presets import backbone_names
    from tltool._validation import TltoolError
    from tltool.advising import advise
    from tltool.backbones import Backbone, backbone_page, import_weights, list_backbones
    from tltool.classifier import TransferClassifier
    from tltool.comparing import compare
    from tltool.ensemble_classifier import Ensemble
    from tltool.ensembles import ensemble, resume
    from tltool.explaining import explain
    from tltool.feature_extractor import FeatureExtractor
    from tltool.features import FeatureStore
    from tltool.gallery import extract, similar
    from tltool.inference import evaluate, predict
    from tltool.label_checking import check_labels
    from tltool.layer_atlas import atlas
    from tltool.looking import look
    from tltool.mapping import map_features
    from tltool.reporting import write_report
    from tltool.runs import Run
    from tltool.settings import AdaptSettings
    from tltool.workflow import adapt, check

__all__ = [
    "AdaptSettings",
    "Backbone",
    "Ensemble",
    "FeatureExtractor",
    "FeatureStore",
    "Run",
    "TltoolError",
    "TransferClassifier",
    "__version__",
    "adapt",
    "advise",
    "atlas",
    "backbone_names",
    "backbone_page",
    "check",
    "check_labels",
    "compare",
    "ensemble",
    "evaluate",
    "explain",
    "extract",
    "import_weights",
    "list_backbones",
    "look",
    "map_features",
    "predict",
    "resume",
    "similar",
    "write_report",
]

_HOMES = {
    "AdaptSettings": "settings",
    "Backbone": "backbones",
    "Ensemble": "ensemble_classifier",
    "FeatureExtractor": "feature_extractor",
    "FeatureStore": "features",
    "Run": "runs",
    "TltoolError": "_validation",
    "TransferClassifier": "classifier",
    "adapt": "workflow",
    "advise": "advising",
    "atlas": "layer_atlas",
    "backbone_names": "_presets",
    "backbone_page": "backbones",
    "import_weights": "backbones",
    "list_backbones": "backbones",
    "check": "workflow",
    "check_labels": "label_checking",
    "compare": "comparing",
    "ensemble": "ensembles",
    "evaluate": "inference",
    "explain": "explaining",
    "extract": "gallery",
    "look": "looking",
    "map_features": "mapping",
    "predict": "inference",
    "resume": "ensembles",
    "similar": "gallery",
    "write_report": "reporting",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("tltool")
    if name in _HOMES:
        return getattr(import_module(f"tltool.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'tltool' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
