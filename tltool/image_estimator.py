"""What the scikit-learn estimators over images share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils import Tags

from tltool._validation import TltoolError
from tltool.features import FeatureSource, shared_store
from tltool.settings import AdaptSettings

__all__ = ["ImageEstimator", "of_images"]


class ImageEstimator(BaseEstimator):
    """Parameters named as in `AdaptSettings`, and the source of features that they describe.

    The source is kept from call to call, in the process and thread that made it, and is no part of
    the estimator's state: copies and other processes open their own.
    """

    input_size: str | int | None
    store: str | Path | None
    _kept: tuple[AdaptSettings, FeatureSource] | None = None
    _network: tuple[str, str] | None = None

    def _settings(self) -> AdaptSettings:
        given = self.get_params(deep=False)
        given.pop("store")
        if given["input_size"] is not None:
            given["input_size"] = str(given["input_size"])
        return AdaptSettings(**given)

    def _source(self) -> FeatureSource:
        """Where features come from.

        Raises:
            TltoolError: it was fitted with other weights than can be had now.
        """
        settings, store = self._settings(), shared_store(self.store)  # a thread's own
        if self._network is not None and settings.backbone is None:
            settings = replace(settings, backbone=self._network[0])
        if self._kept is None or self._kept[0] != settings or self._kept[1].store != store:
            self._kept = (settings, settings.make_source(store))
        source = self._kept[1]
        if self._network is not None and self._network != _network_of(source):
            raise TltoolError(
                f"This estimator was fitted with {self._network[0]}, SHA-256 of its weights "
                f"{self._network[1][:12]}, and finds {source.backbone.preset.name}, "
                f"{source.backbone.weights.hash[:12]}, now; name the former with weights=FILE, or "
                "fit it again."
            )
        return source

    def _source_to_fit(self) -> FeatureSource:
        """The same, whatever it was fitted with before; weights are looked for again."""
        self._kept = self._network = None
        return self._source()

    def _fitted_with(self, source: FeatureSource) -> None:
        self._network = _network_of(source)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_kept", None)
        return state

    def __sklearn_tags__(self) -> Tags:
        return of_images(super().__sklearn_tags__())


def _network_of(source: FeatureSource) -> tuple[str, str]:
    return source.backbone.preset.name, source.backbone.weights.hash


def of_images(tags: Tags) -> Tags:
    """Tags of an estimator that takes images instead of a table of numbers."""
    tags.input_tags.two_d_array = False
    tags.input_tags.string = True
    return tags
