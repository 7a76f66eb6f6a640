"""OpenVINO as an engine: several times as fast as Keras on a CPU, and loads without TensorFlow."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from tltool._cores import cores
from tltool._files import cache_folder
from tltool._keras import import_keras

if TYPE_CHECKING:
    import keras

__all__ = ["OpenVINOEngine"]

_log = logging.getLogger(__name__)

# Without a hint some processors run bfloat16, which moves features by a tenth.
_PRECISION_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVINOEngine:
    """A network compiled by OpenVINO for this processor.

    The converted network is kept in the cache folder under its key, so that only the first use
    needs TensorFlow; a cache that cannot be written is done without.

    Args:
        key: tells the network and its weights from all others; None to keep no copy.
        build: makes the Keras model, from uint8 pixels to float32 `(n, d)`.
        precision: "float32" or "bfloat16".
        lanes: batches that are computed at the same time, the cores shared out among them.
    """

    name = "openvino"

    def __init__(
        self,
        key: str | None,
        build: Callable[[], keras.Model],
        precision: str = "float32",
        lanes: int = 1,
    ) -> None:
        openvino = _import_openvino()
        core = openvino.Core()
        version = openvino.__version__.split("-")[0]
        folder = None if key is None else cache_folder() / "openvino" / f"{key}-{version}"
        network = None if folder is None else _read(core, folder)
        if network is None:
            network = _convert(openvino, build())
            if folder is not None:
                _keep(openvino, network, folder)
        settings = {"INFERENCE_PRECISION_HINT": _PRECISION_HINTS[precision]}
        if lanes == 1:
            settings["PERFORMANCE_HINT"] = "LATENCY"
        else:
            settings |= {"NUM_STREAMS": str(lanes), "INFERENCE_NUM_THREADS": str(cores())}
        compiled = core.compile_model(network, "CPU", settings)
        self.lanes = lanes
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(lanes):
            self._free.put(compiled.create_infer_request())

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        request = self._free.get()
        try:
            return np.array(request.infer([np.ascontiguousarray(pixels)])[0], np.float32)
        finally:
            self._free.put(request)


def _import_openvino() -> Any:
    """The package, without the event that its converter would send to its makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _read(core: Any, folder: Path) -> Any:
    """A network kept on disk; None if there is none, or one that cannot be read."""
    if not (folder / "model.xml").is_file():
        return None
    try:
        return core.read_model(folder / "model.xml")
    except RuntimeError:
        _log.debug("dropping the unreadable copy %s", folder, exc_info=True)
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _convert(openvino: Any, model: keras.Model) -> Any:
    import_keras()
    import tensorflow as tf

    run = tf.function(
        lambda pixels: model(pixels, training=False),
        input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), model.inputs[0].dtype)],
    )
    return openvino.convert_model(run)


def _keep(openvino: Any, network: Any, folder: Path) -> None:
    """Write a converted network to its place in one step, or not at all."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tmp-") as temporary:
            made = Path(temporary) / "made"
            openvino.save_model(network, made / "model.xml", compress_to_fp16=False)
            made.rename(folder)
    except (OSError, RuntimeError):  # full or read-only cache; or another process was first
        _log.debug("did not keep a compiled copy at %s", folder, exc_info=True)
