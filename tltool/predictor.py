"""A saved model ready to run: on an engine, on the run's own views of an image or on others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tltool._files import atomic_path, cache_folder
from tltool._keras import import_keras
from tltool._presets import Views
from tltool._progress import progress
from tltool.backbones.views import views_model
from tltool.data import Example
from tltool.features import Engine, canvas_batches, checked_bytes, make_engine
from tltool.linear.linear_head import HIDDEN, LinearHead
from tltool.merging import of_one_view

if TYPE_CHECKING:
    import keras

__all__ = ["Predictor", "SavedModel", "head_of", "on_images"]

_HEAD = "predictions"


class SavedModel(Protocol):
    """What is known of a model that was saved."""

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Height and width in pixels of what it takes."""

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in pixels of what its network is shown."""

    @property
    def n_views(self) -> int:
        """How many pictures of an image that is."""

    @property
    def key(self) -> str:
        """Tells it from all others; a file name."""

    @property
    def precision(self) -> str:
        """What its features were computed in."""

    def model(self) -> keras.Model:
        """From canvases `(n, *canvas_size, 3)`, uint8, to probabilities `(n, k)`."""


class Predictor:
    """A saved model on an engine.

    The network runs on the engine and in the model's precision; the last layer always in float32,
    as it did when the model was evaluated. The network compiled for OpenVINO and the last layer
    are kept in the cache folder, so from the second time on neither Keras nor TensorFlow is loaded.

    Args:
        saved: the model.
        engine: "keras" or "openvino".
        views: pictures of an image whose probabilities are averaged; None for what the model
            itself makes of an image, which averages the features of its own views, if it has
            several.
        fall_back: take Keras where OpenVINO cannot run the model.
    """

    def __init__(
        self,
        saved: SavedModel,
        engine: str,
        views: Views | None = None,
        *,
        fall_back: bool = False,
    ) -> None:
        self._saved, self.views = saved, views
        self.canvas_size = (
            saved.canvas_size if views is None else views.canvas_size(saved.input_size)
        )
        self.n_views = saved.n_views if views is None else views.count
        self._head = head_of(saved, lambda: self._model)[-1]
        key = saved.key if views is None else f"{saved.key}-views-{views.name}"
        self._engine: Engine = make_engine(
            engine, key, self._network, saved.precision, fall_back=fall_back
        )

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities `(n, k)`, float32, of canvases `(n, *canvas_size, 3)`, uint8."""
        found = self.features(pixels)
        if self.views is None:
            return self._head.predict_proba(found)
        of_views = self._head.predict_proba(found.reshape(-1, found.shape[-1]))
        mean: np.ndarray = of_views.reshape(*found.shape[:2], -1).mean(axis=1)
        return mean

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """What the softmax is given, `(n, k)`, float32; of the model's own views alone."""
        return self._head.scores(self.features(pixels))

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """What the last layer is given, `(n, d)`, float32; of several views `(n, n_views, d)`."""
        return self._engine(pixels)

    @cached_property
    def _model(self) -> keras.Model:
        return self._saved.model()

    def _network(self) -> keras.Model:
        """All but the last layer."""
        keras = import_keras()
        model = self._model
        last = model.get_layer(_HEAD)
        if self.views is None:
            return keras.Model(model.input, last.input)
        one = of_one_view(model, last.input) if self._saved.n_views > 1 else None
        return views_model(
            one or keras.Model(model.input, last.input), self.views, self.canvas_size
        )


def head_of(
    saved: SavedModel, model: Callable[[], keras.Model] | None = None
) -> tuple[LinearHead, ...]:
    """The fully connected layers on the features, rectifiers between them; often one.

    Args:
        saved: the model.
        model: gives it, where somebody has it already.
    """
    kept = cache_folder() / "heads" / f"{saved.key}.safetensors"
    layers = _read(kept)
    if not layers:
        layers = _layers_of((model or saved.model)())
        _keep(layers, kept)
    return layers


def _layers_of(model: keras.Model) -> tuple[LinearHead, ...]:
    names = [layer.name for layer in model.layers if layer.name.startswith(HIDDEN)]
    found: list[Any] = [model.get_layer(name).get_weights() for name in (*names, _HEAD)]
    return tuple(LinearHead(np.asarray(kernel), np.asarray(bias)) for kernel, bias in found)


def _read(path: Path) -> tuple[LinearHead, ...]:
    """The layers kept from an earlier use; none if there are none that can be read."""
    if not path.is_file():
        return ()
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
        count = len(arrays) // 2
        return tuple(LinearHead(arrays[f"kernel{i}"], arrays[f"bias{i}"]) for i in range(count))
    except (OSError, KeyError, SafetensorError):
        return ()


def _keep(layers: Sequence[LinearHead], path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            kernels = {f"kernel{i}": layer.kernel for i, layer in enumerate(layers)}
            save_file(kernels | {f"bias{i}": x.bias for i, x in enumerate(layers)}, temporary)
    except (OSError, SafetensorError):  # a full or read-only cache costs time, nothing else
        return


def on_images(
    predictor: Predictor, said: Callable[[np.ndarray], np.ndarray], examples: Sequence[Example]
) -> np.ndarray:
    """What a model says of images, all of which must be readable.

    Args:
        predictor: whose canvas they are drawn on.
        said: what is wanted of it, of a batch of canvases: itself, or one of its methods.
        examples: the images, `n` of them.

    Returns:
        `(n, ...)`, in their order.
    """
    readers = [lambda e=e: checked_bytes(e) for e in examples]
    parts = []
    with progress("predicting", len(examples)) as advance:
        for batch in canvas_batches(readers, predictor.canvas_size, views=predictor.n_views):
            batch.refuse_unreadable(examples)
            parts.append(said(batch.pixels))
            advance(len(batch.rows))
    return np.concatenate(parts)
