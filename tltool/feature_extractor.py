"""A backbone's features as a scikit-learn transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from tltool.data.in_memory import examples_of
from tltool.image_estimator import ImageEstimator

__all__ = ["FeatureExtractor"]


class FeatureExtractor(TransformerMixin, ImageEstimator):
    """Images to features, which are stored: an image is pushed through the network once.

    Args:
        backbone: name of a preset; None for the best of resnet50 and mobilenet-0.25 whose weights
            can be had, else the embedded network.
        tap: feature layers, `stage3:max,avgpool`; None for the backbone's own.
        views: pictures of an image that features are averaged over: "1", "2", "10", "12" or
            "augmented-k".
        weights: "imagenet", "none" (random), a file, or None for the backbone's own.
        input_size: height and width in pixels of the network's input; None for its own.
        engine: "auto", "keras" or "openvino".
        precision: "float32" or "bfloat16".
        store: folder of the feature store; None for the user's own.

    Images are paths, or pixels `(n, height, width, 3)`, uint8, 0-255, RGB. After `fit`,
    `n_features_out_` is the number of features and `widths_` how many of them each tap has, for
    `L2PerTap` and `PerTap`.

    Example:
        >>> from sklearn.pipeline import make_pipeline
        >>> model = make_pipeline(FeatureExtractor("mobilenet-0.25"), ShrinkageLDAHead())
        >>> cross_val_score(model, paths, labels)
    """

    def __init__(
        self,
        backbone: str | None = None,
        tap: str | None = None,
        views: str = "1",
        *,
        weights: str | None = None,
        input_size: str | int | None = None,
        engine: str = "auto",
        precision: str = "float32",
        store: str | Path | None = None,
    ) -> None:
        self.backbone = backbone
        self.tap = tap
        self.views = views
        self.weights = weights
        self.input_size = input_size
        self.engine = engine
        self.precision = precision
        self.store = store

    def fit(self, X: Any, y: Any = None) -> FeatureExtractor:
        """Find the backbone and its weights; nothing is learned of the images.

        Raises:
            TltoolError: an unknown name, or weights that cannot be had.
        """
        source = self._source_to_fit()
        self._fitted_with(source)
        self.widths_ = source.widths
        self.n_features_out_ = sum(source.widths)
        self.names_ = [str(part) for part in source.backbone.parts]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Features `(n, d)`, float32, of images.

        Raises:
            TltoolError: something that is no image, by its name or number.
        """
        check_is_fitted(self)
        source = self._source()
        values = source.features(examples_of(X)).values
        source.store.trim()
        return values

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """`layer:pooling[i]` for each feature, `(d,)`."""
        check_is_fitted(self)
        return np.array(
            [
                f"{name}[{i}]"
                for name, width in zip(self.names_, self.widths_, strict=True)
                for i in range(width)
            ],
            dtype=object,
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
