"""Where pretrained weights come from, and how they are told apart."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tltool._files import sha256_of
from tltool._keras import import_keras
from tltool._presets import BackbonePreset, packaged_weights
from tltool._progress import open_progress
from tltool._validation import TltoolError

if TYPE_CHECKING:
    import keras

__all__ = ["Weights", "WeightsMissingError", "find_weights", "load_weights"]

_log = logging.getLogger(__name__)

# Seconds that a download may stand still before it counts as failed.
_DOWNLOAD_PATIENCE = 30.0

_SUFFIXES = (".h5", ".safetensors", ".npz")


class WeightsMissingError(TltoolError):
    """None of the places where a backbone's weights may lie has them."""


@dataclass(frozen=True)
class Weights:
    """One set of weights.

    Args:
        path: the file; None for random ones.
        hash: hexadecimal SHA-256 of the file, or of what made random weights.
        source: where it was found, in words.
        seed: of random weights; None for a file.
    """

    path: Path | None
    hash: str
    source: str
    seed: int | None = None


def find_weights(preset: BackbonePreset, weights: str | None = None, seed: int = 0) -> Weights:
    """The weights that a user asked for.

    Args:
        preset: the backbone.
        weights: a file, "none" for random ones, "imagenet", or None for the preset's own.
        seed: of random weights.

    Returns:
        For "imagenet" and None, in this order: the packaged file; the official file in the folder
        named by `TLTOOL_WEIGHTS`; the one in Keras's cache; what Keras downloads.

    Raises:
        TltoolError: the file is not there, or is not the published one.
        WeightsMissingError: no place has them; one sentence names all four.
    """
    if weights == "none":
        text = f"random:{preset.name}:{preset.parameters}:{seed}"
        return Weights(None, hashlib.sha256(text.encode()).hexdigest(), "random weights", seed)
    if weights in (None, "imagenet"):
        if preset.packaged and weights is not None:
            raise TltoolError(
                f"{preset.name} has no ImageNet weights; leave --weights out for its packaged "
                f"ones ({preset.weights_source})."
            )
        return _packaged(preset) if preset.packaged else _official(preset)
    path = Path(weights).expanduser()
    if path.is_dir():
        raise TltoolError(
            f"--weights {weights} is a folder; name a file in it, or set TLTOOL_WEIGHTS to it."
        )
    if not path.is_file():
        raise TltoolError(
            f"--weights {weights}: no such file; expected imagenet, none, or a weights file."
        )
    if path.suffix not in _SUFFIXES:
        raise TltoolError(
            f"--weights {weights}: weights come as {', '.join(_SUFFIXES)}, not {path.suffix!r}."
        )
    return Weights(path, sha256_of(path).hex(), f"the file {path}")


def load_weights(model: keras.Model, preset: BackbonePreset, weights: Weights) -> None:
    """Put weights into a freshly built backbone, in place.

    Raises:
        TltoolError: the file does not fit the network, or cannot be read.
    """
    if weights.path is None:
        return
    try:
        if weights.path.suffix == ".h5":
            model.load_weights(str(weights.path))
        elif weights.path.suffix == ".safetensors":
            _assign(model, _read_safetensors(weights.path))
        else:
            from tltool.backbones.torch_layout import from_torch_layout

            with np.load(weights.path, allow_pickle=False) as arrays:
                _assign(model, from_torch_layout(dict(arrays)))
    except TltoolError:
        raise
    except Exception as error:  # h5py, Keras and safetensors each raise their own kinds
        reason = " ".join(str(error).split())[:300]
        raise TltoolError(
            f"{weights.path} does not hold weights of {preset.name} "
            f"({preset.parameters:,} parameters without the classification layers): {reason}"
        ) from error


def _packaged(preset: BackbonePreset) -> Weights:
    path = packaged_weights(preset)
    if not path.is_file():
        raise WeightsMissingError(
            f"The packaged weights of {preset.name} are not at {path}; install tltool again."
        )
    return Weights(path, sha256_of(path).hex(), "packaged with tltool")


def _official(preset: BackbonePreset) -> Weights:
    """The published file of a Keras Applications network, from the first place that has it."""
    name = preset.weights_file
    folder = os.environ.get("TLTOOL_WEIGHTS")
    if folder and not Path(folder).expanduser().is_dir():
        raise TltoolError(
            f"TLTOOL_WEIGHTS names {folder}, which is no folder; correct or unset it."
        )
    if folder and (path := Path(folder).expanduser() / name).is_file():
        return _verified(preset, path, "TLTOOL_WEIGHTS")
    cached = _keras_cache() / name
    if cached.is_file():
        return _verified(preset, cached, "Keras's cache")
    try:
        _download(preset)
        return _verified(preset, cached, "Keras's download")
    except TltoolError:
        raise
    except Exception as error:  # urllib, sockets and Keras each raise their own kinds
        _log.debug("download of %s failed", name, exc_info=True)
        reason = str(error).rsplit("]", 1)[-1].rsplit(":", 1)[-1].strip() or type(error).__name__
        named = (
            f"TLTOOL_WEIGHTS ({folder}) lacks" if folder else "TLTOOL_WEIGHTS names no folder with"
        )
        raise WeightsMissingError(
            f"No weights for {preset.name}: no --weights FILE was given, {named} {name}, Keras's "
            f"cache ({cached.parent}) does not have it, and Keras's download failed ({reason}); "
            "fetch that file on a machine with network and put it into one of these places, or "
            "choose --backbone cifar-resnet20, whose weights are packaged."
        ) from error


def _verified(preset: BackbonePreset, path: Path, source: str) -> Weights:
    """The file, once its checksum is that of the published one."""
    if preset.weights_md5:
        with path.open("rb") as file:
            found = hashlib.file_digest(
                file, lambda: hashlib.md5(usedforsecurity=False)
            ).hexdigest()
        if found != preset.weights_md5:
            raise TltoolError(
                f"{path} is not the published weights of {preset.name} (md5 {found}, expected "
                f"{preset.weights_md5}): remove it to fetch it again, or pass it with --weights to "
                "use it as it is."
            )
    return Weights(path, sha256_of(path).hex(), f"{source} ({path})")


def _keras_cache() -> Path:
    """The folder where Keras keeps downloaded weights; `KERAS_HOME` moves it."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def _download(preset: BackbonePreset) -> None:
    """Let Keras fetch its own file into its own cache."""
    keras = import_keras()

    _log.info("fetching %s with Keras", preset.weights_file)
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_PATIENCE)
    try:
        # Keras prints its progress
        with open_progress() as screen, contextlib.redirect_stdout(screen):
            getattr(keras.applications, preset.builder)(
                include_top=False,
                weights="imagenet",
                input_shape=(*preset.input_size, 3),
                **preset.arguments,
            )
    finally:
        socket.setdefaulttimeout(patience)
        keras.backend.clear_session()


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def _assign(model: keras.Model, arrays: dict[str, np.ndarray]) -> None:
    """Give every variable of the model the array of its path; arrays of a head are left over."""
    for variable in model.weights:
        array: Any = arrays.get(variable.path)
        if array is None:
            raise TltoolError(
                f"The weights file lacks {variable.path} {tuple(variable.shape)}; it is for "
                "another network."
            )
        if tuple(array.shape) != tuple(variable.shape):
            raise TltoolError(
                f"The weights file has {variable.path} with shape {tuple(array.shape)}, expected "
                f"{tuple(variable.shape)}; it is for another network."
            )
        variable.assign(array)
