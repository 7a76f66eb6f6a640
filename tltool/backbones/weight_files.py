"""Weights files of every format -> a network's layers, and back."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from tltool._presets import BackbonePreset
from tltool._validation import TltoolError, storage_error
from tltool.backbones.build import automatic_name

if TYPE_CHECKING:
    import keras

__all__ = ["read_weights", "save_safetensors", "weight_names"]

# The weights inside a `.keras` file.
_KERAS_MEMBER = "model.weights.h5"


@dataclass(frozen=True)
class _Stored:
    """The arrays of one layer in a file, in Keras's order, and what the file calls it."""

    name: str
    arrays: Sequence[Any]


def weight_names(layer: Any) -> list[str]:
    """`layer/variable` for each weight of a layer, in Keras's order."""
    return [f"{layer.name}/{variable.name}" for variable in layer.weights]


def read_weights(network: keras.Model, preset: BackbonePreset, path: Path) -> None:
    """Put the weights of a file into a network, in place.

    Args:
        network: with or without its classification layers; without them, those of the file are
            left out.
        preset: of the network.
        path: Keras `.h5` (weights or whole model), `.weights.h5` or `.keras`; `.safetensors` with
            `layer/variable` names; or `.npz` with PyTorch's names of a CIFAR ResNet.

    Raises:
        TltoolError: the file cannot be read, or does not fit: which layer, which shape was
            expected and which came.
    """
    layers = [layer for layer in network.layers if layer.weights]
    try:
        with _opened(path, layers, preset) as stored:
            for layer in layers:
                _assign(layer, stored[layer.name], path, preset)
    except TltoolError:
        raise
    except PermissionError as error:
        raise storage_error("read", path, error, "make it readable") from error
    except Exception as error:  # h5py, zipfile, NumPy and safetensors each raise their own kinds
        reason = " ".join(str(error).split())[:300]
        raise TltoolError(
            f"{path} does not hold weights of {preset.name}: it cannot be read ({reason}); it may "
            "be cut short or of another kind, fetch it again."
        ) from error


def save_safetensors(network: keras.Model, path: Path, facts: dict[str, str]) -> None:
    """Write a network's weights under `layer/variable` names, with facts about them.

    Args:
        network: any.
        path: of the new file.
        facts: kept in its header, as one JSON text: the order of several would change by chance,
            and the file's hash with it.
    """
    from safetensors.numpy import save_file

    arrays = {
        name: np.ascontiguousarray(variable.numpy())
        for layer in network.layers
        for name, variable in zip(weight_names(layer), layer.weights, strict=True)
    }
    save_file(arrays, path, {"tltool": json.dumps(facts)})


@contextmanager
def _opened(
    path: Path, layers: Sequence[Any], preset: BackbonePreset
) -> Iterator[dict[str, _Stored]]:
    """What a file has for each layer that has weights, by the layer's name."""
    if path.suffix in (".h5", ".keras"):
        import h5py

        with _hdf5(path) as stream, h5py.File(stream, "r") as file:
            root = file.get("model_weights", file)
            if "layer_names" in root.attrs or "layer_names0" in root.attrs:
                yield _in_order(root, layers, path, preset)
            elif "layers" in root:
                yield _by_kind(root["layers"], layers, path, preset)
            else:
                raise _misfit(path, preset, "it holds no Keras layers")
    elif path.suffix == ".npz":
        from tltool.backbones.torch_layout import from_torch_layout

        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = dict(archive)
        except ValueError as error:  # NumPy's own text advises to load it unsafely
            raise TltoolError(
                f"{path} does not hold weights of {preset.name}: it is no archive of arrays, or "
                "holds pickled objects, which are never loaded; save it with numpy.savez."
            ) from error
        try:
            named = from_torch_layout(arrays)
        except ValueError as error:
            raise _misfit(path, preset, str(error)) from error
        yield _by_name(named, layers, path, preset)
    else:
        from safetensors import safe_open

        with safe_open(path, "np") as file:
            names = list(file.keys())
            yield _by_name({name: file.get_tensor(name) for name in names}, layers, path, preset)


@contextmanager
def _hdf5(path: Path) -> Iterator[Path | IO[bytes]]:
    """A path or stream that h5py can open."""
    if path.suffix != ".keras":
        yield path
        return
    with zipfile.ZipFile(path) as archive:  # in memory: HDF5 jumps about, and zips cannot
        yield io.BytesIO(archive.read(_KERAS_MEMBER))


def _in_order(
    root: Any, layers: Sequence[Any], path: Path, preset: BackbonePreset
) -> dict[str, _Stored]:
    """Keras 2's format: layers in the order of the network, whatever they are called."""
    stored = []
    for name in _attribute(root, "layer_names"):
        weights = _attribute(root[name], "weight_names")
        if weights:
            stored.append(_Stored(name, [root[name][weight] for weight in weights]))
    if len(stored) < len(layers):
        missing = len(layers) - len(stored)
        what = f"it holds {len(stored)} layers with weights, expected {len(layers)} of them"
        if missing == len(preset.head_taps):
            what = f"it has no classification layers ({', '.join(preset.head_taps)})"
        raise _misfit(path, preset, what)
    _check_extras(stored[len(layers) :], path, preset)
    return {layer.name: one for layer, one in zip(layers, stored, strict=False)}


def _by_kind(
    group: Any, layers: Sequence[Any], path: Path, preset: BackbonePreset
) -> dict[str, _Stored]:
    """Keras 3's format: `conv2d_7` is the eighth convolution, whatever it is called."""
    stored = {
        name: _Stored(name, [entry["vars"][str(i)] for i in range(len(entry["vars"]))])
        for name, entry in group.items()
        if "vars" in entry and len(entry["vars"])
    }
    counts: dict[str, int] = {}
    found = {}
    for layer in layers:
        kind = automatic_name(layer)
        number = counts[kind] = counts.get(kind, -1) + 1
        name = f"{kind}_{number}" if number else kind
        if name not in stored:
            raise _misfit(path, preset, f"it lacks layer {layer.name} ({name} in the file)")
        found[layer.name] = stored.pop(name)
    _check_extras(stored.values(), path, preset)
    return found


def _by_name(
    arrays: dict[str, np.ndarray], layers: Sequence[Any], path: Path, preset: BackbonePreset
) -> dict[str, _Stored]:
    """Our own format: `layer/variable`."""
    found = {}
    for layer in layers:
        names = weight_names(layer)
        for name, variable in zip(names, layer.weights, strict=True):
            if name not in arrays:
                raise _misfit(path, preset, f"it lacks {name} {tuple(variable.shape)}")
        found[layer.name] = _Stored(layer.name, [arrays.pop(name) for name in names])
    head = {where.partition(":")[0] for where in preset.head_taps.values()}
    for name in arrays:
        if name.partition("/")[0] not in head:
            raise _misfit(path, preset, f"it also holds {name}, which that network does not have")
    return found


def _check_extras(left: Iterable[_Stored], path: Path, preset: BackbonePreset) -> None:
    """A file may hold classification layers too, whosever: kernels that see one place at a time."""
    for stored in left:
        shape = stored.arrays[0].shape
        if not (len(shape) == 2 or (len(shape) == 4 and shape[:2] == (1, 1))):
            raise _misfit(
                path,
                preset,
                f"it also holds layer {stored.name} {tuple(shape)}, which that network does not "
                "have",
            )


def _assign(layer: Any, stored: _Stored, path: Path, preset: BackbonePreset) -> None:
    called = "" if stored.name == layer.name else f" ({stored.name} in the file)"
    expected, came = len(layer.weights), len(stored.arrays)
    if came != expected:
        what = f"layer {layer.name}{called} has {expected} arrays, and {came} came"
        raise _misfit(path, preset, what)
    for name, variable, array in zip(
        weight_names(layer), layer.weights, stored.arrays, strict=True
    ):
        if tuple(array.shape) != tuple(variable.shape):
            raise _misfit(
                path,
                preset,
                f"{name}{called} was expected with shape {tuple(variable.shape)} and came with "
                f"{tuple(array.shape)}",
            )
        values = np.asarray(array, np.float32)
        # a sum is quick, and finite only if all of them are (unless it overflows: look again)
        if not np.isfinite(values.sum()) and not np.isfinite(values).all():
            raise TltoolError(
                f"{path} holds numbers that are not finite in {name}; it is damaged, fetch it "
                "again."
            )
        variable.assign(values)


def _misfit(path: Path, preset: BackbonePreset, what: str) -> TltoolError:
    return TltoolError(
        f"{path} does not fit {preset.name}: {what}; name the file of that network, or the "
        "backbone of that file."
    )


def _attribute(group: Any, name: str) -> list[str]:
    """A list of names; long ones are kept in pieces, `name0`, `name1` and so on."""
    pieces = [name] if name in group.attrs else []
    if not pieces:
        pieces = sorted(
            (key for key in group.attrs if re.fullmatch(rf"{name}\d+", key)),
            key=lambda key: int(key.removeprefix(name)),
        )
    return [
        item.decode("utf-8") if isinstance(item, bytes) else str(item)
        for piece in pieces
        for item in group.attrs[piece]
    ]
