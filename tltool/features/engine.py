"""What runs a network: one interface, and the rule that chooses."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tltool._keras import import_keras
from tltool._validation import TltoolError, check_option

if TYPE_CHECKING:
    import keras

__all__ = ["ENGINES", "PRECISIONS", "Engine", "choose_engine", "make_engine"]

ENGINES = ("auto", "keras", "openvino")
PRECISIONS = ("float32", "bfloat16")

_log = logging.getLogger(__name__)


class Engine(Protocol):
    """A network ready to run.

    `lanes` is the number of batches that it computes at the same time, for callers in threads of
    their own.
    """

    name: str
    lanes: int

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """From raw pixels `(n, height, width, 3)` to outputs `(n, d)`, float32.

        Pixels are of the type that the network takes: uint8, for every one that gives features.
        """


def choose_engine(engine: str) -> str:
    """ "keras" or "openvino" for what the user asked.

    "auto" takes OpenVINO, unless it is not installed or TensorFlow sees a GPU.

    Raises:
        TltoolError: unknown name, or OpenVINO asked for and not installed.
    """
    from importlib.util import find_spec

    check_option("--engine", engine, ENGINES)
    installed = find_spec("openvino") is not None
    if engine == "openvino" and not installed:
        raise TltoolError("--engine openvino needs the package openvino: pip install openvino.")
    if engine != "auto":
        return engine
    return "keras" if not installed or _has_gpu() else "openvino"


def make_engine(
    name: str,
    key: str | None,
    build: Callable[[], keras.Model],
    precision: str = "float32",
    *,
    fall_back: bool = False,
    lanes: int = 1,
) -> Engine:
    """An engine for a network.

    Args:
        name: "keras" or "openvino".
        key: tells the network and its weights from all others; names the compiled copy on disk.
            None to keep none.
        build: makes the network; not called where a compiled copy is on disk.
        precision: "float32" or "bfloat16".
        fall_back: take Keras where OpenVINO cannot run this network (in float32, where the two
            agree).
        lanes: batches to compute at the same time, where the engine can.

    Raises:
        TltoolError: unknown precision.
    """
    check_option("--precision", precision, PRECISIONS)
    if name == "keras":
        from tltool.features.keras_engine import KerasEngine

        return KerasEngine(build(), precision)
    from tltool.features.openvino_engine import OpenVINOEngine

    try:
        return OpenVINOEngine(key, build, precision, lanes)
    except (ImportError, RuntimeError) as error:
        if not fall_back or precision != "float32":
            raise
        _log.warning(
            "OpenVINO cannot run %s (%s); Keras does, more slowly.", key or "this", _brief(error)
        )
        return make_engine("keras", key, build, precision)


def _brief(error: Exception) -> str:
    """The first line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def _has_gpu() -> bool:
    """Whether TensorFlow sees a GPU; it is only loaded to ask where a device file hints at one."""
    hints = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")
    if sys.platform != "darwin" and not any(Path(hint).exists() for hint in hints):
        return False
    import_keras()
    import tensorflow

    return bool(tensorflow.config.list_physical_devices("GPU"))
