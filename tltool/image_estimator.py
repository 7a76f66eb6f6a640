"""What the scikit-learn estimators over images share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils import Tags

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

    def _settings(self) -> AdaptSettings:
        given = self.get_params(deep=False)
        given.pop("store")
        if given["input_size"] is not None:
            given["input_size"] = str(given["input_size"])
        return AdaptSettings(**given)

    def _source(self, *, anew: bool = False) -> FeatureSource:
        """Where features come from; `anew` looks for the weights again."""
        settings, store = self._settings(), shared_store(self.store)  # a thread's own
        if anew or self._kept is None or self._kept[0] != settings or self._kept[1].store != store:
            self._kept = (settings, settings.make_source(store))
        return self._kept[1]

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_kept", None)
        return state

    def __sklearn_tags__(self) -> Tags:
        return of_images(super().__sklearn_tags__())


def of_images(tags: Tags) -> Tags:
    """Tags of an estimator that takes images instead of a table of numbers."""
    tags.input_tags.two_d_array = False
    tags.input_tags.string = True
    return tags
