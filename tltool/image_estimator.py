"""What the scikit-learn estimators over images share."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils import Tags

from tltool.features import FeatureSource, FeatureStore, shared_store
from tltool.settings import AdaptSettings

__all__ = ["ImageEstimator"]


class ImageEstimator(BaseEstimator):
    """Parameters named as in `AdaptSettings`, and the source of features that they describe.

    The source is kept from call to call, in the process and thread that made it, and is no part of
    the estimator's state: copies and other processes open their own.
    """

    input_size: str | int | None
    store: str | Path | None

    def _settings(self) -> AdaptSettings:
        given = self.get_params(deep=False)
        given.pop("store")
        if given["input_size"] is not None:
            given["input_size"] = str(given["input_size"])
        return AdaptSettings(**given)

    def _shared_store(self) -> FeatureStore:
        return shared_store(self.store)

    def _source(self, *, anew: bool = False) -> FeatureSource:
        """Where features come from; `anew` looks for the weights again."""
        key = (self._settings(), self._shared_store(), os.getpid(), threading.get_ident())
        kept = self.__dict__.get("_kept")
        if anew or kept is None or kept[0] != key:
            kept = (key, self._settings().make_source(self._shared_store()))
            self._kept = kept
        source: FeatureSource = kept[1]
        return source

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_kept", None)
        return state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags
