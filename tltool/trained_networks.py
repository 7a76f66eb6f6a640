"""Networks that runs have trained, out of their saved models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tltool._files import atomic_path
from tltool._keras import import_keras
from tltool._validation import TltoolError, storage_error
from tltool.backbones import Backbone
from tltool.backbones.weight_files import save_safetensors
from tltool.runs import Run

if TYPE_CHECKING:
    import keras

__all__ = ["backbone_of", "save_network", "trained_arrays"]


def backbone_of(run: Run) -> Backbone:
    """The backbone of a run, with its taps and input size and random weights."""
    settings = run.facts["settings"]
    return Backbone(
        str(settings["backbone"]),
        "none",
        taps=",".join(settings["tap"]),
        input_size=tuple(settings["input_size"]),
    )


def trained_arrays(run: Run) -> tuple[np.ndarray, ...]:
    """The weights of a run's network, in Keras's order.

    Layers above those that its features come from are not in the model that it saved, and are
    random.

    Raises:
        TltoolError: its model is not of the network that it names.
    """
    return tuple(_network_of(run).get_weights())


def save_network(run: Run, path: Path) -> None:
    """Write the network's weights into a file that `--weights` reads.

    Raises:
        TltoolError: it cannot be written, or the model is of another network.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            save_safetensors(_network_of(run), temporary, {"run": run.key})
    except OSError as error:
        raise storage_error("write", path, error, "make room, then run again") from error


def _network_of(run: Run) -> keras.Model:
    network = backbone_of(run).network
    saved = {layer.name: layer for layer in _layers(run.model())}
    found = 0
    for layer in network.layers:
        given = saved.get(layer.name)
        if not layer.weights or given is None:
            continue
        arrays = given.get_weights()
        if [a.shape for a in arrays] != [tuple(w.shape) for w in layer.weights]:
            raise _of_another(run)
        layer.set_weights(arrays)
        found += 1
    if not found:
        raise _of_another(run)
    return network


def _of_another(run: Run) -> TltoolError:
    return TltoolError(
        f"{run.folder / 'model.keras'} is not of {run.facts['backbone']}, which run.json names; "
        "copy the run again from where it was made."
    )


def _layers(model: keras.Model) -> Iterator[Any]:
    """All layers, also those of models inside it."""
    keras = import_keras()
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer
