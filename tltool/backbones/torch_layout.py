"""CIFAR ResNet weights in PyTorch's names and layout -> this project's."""

from __future__ import annotations

import re

import numpy as np

__all__ = ["from_torch_layout"]

_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def from_torch_layout(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename and transpose the arrays of a CIFAR ResNet saved by PyTorch.

    Args:
        arrays: `layer1.0.conv1.weight` (out, in, height, width), `bn1.running_mean` (channels,),
            `linear.weight` (out, in) and so on; a leading `module.` is dropped.

    Returns:
        The same under Keras paths, `stage1_block1_conv1/kernel` (height, width, in, out).

    Raises:
        ValueError: a name or shape belongs to no CIFAR ResNet.
    """
    renamed = {}
    for name, array in arrays.items():
        plain = name.removeprefix("module.")
        if plain.endswith("num_batches_tracked"):
            continue
        path, transposed = _rename(plain, array)
        renamed[path] = transposed
    return renamed


def _rename(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    block = re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.(\w+)", name)
    stem = re.fullmatch(r"(conv|bn)(1)\.(\w+)", name)
    if block:
        prefix = f"stage{block[1]}_block{int(block[2]) + 1}_"
        kind, number, variable = block[3], block[4], block[5]
    elif stem:
        prefix, (kind, number, variable) = "", stem.groups()
    elif name == "linear.weight":
        return "logits/kernel", array.T
    elif name == "linear.bias":
        return "logits/bias", array
    else:
        raise ValueError(f"it holds {name!r}, which no CIFAR ResNet has")
    if kind == "conv" and variable == "weight":
        if array.ndim != 4:
            raise ValueError(f"{name} has shape {array.shape}, expected four extents")
        return f"{prefix}conv{number}/kernel", array.transpose(2, 3, 1, 0)
    if kind == "bn" and variable in _NORM:
        return f"{prefix}bn{number}/{_NORM[variable]}", array
    raise ValueError(f"it holds {name!r}, which no CIFAR ResNet has")
