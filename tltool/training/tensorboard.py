"""The figures of each epoch as TensorBoard reads them, without the package of that name."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tltool._keras import import_keras
from tltool._validation import storage_error

__all__ = ["TensorBoardLog"]

# What is drawn together, TensorBoard's way: one name, a folder for each kind of images.
_CURVES = {
    "train": {"loss": "epoch_loss", "accuracy": "epoch_accuracy", "learning_rate": "epoch_rate"},
    "validation": {"val_loss": "epoch_loss", "val_accuracy": "epoch_accuracy"},
}


class TensorBoardLog:
    """Event files that grow with a training, one of the training and one of the validation images.

    What an earlier process wrote there is replaced.

    Args:
        folder: that TensorBoard is given, `tensorboard --logdir FOLDER`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, Any] = {}
        self._written = 0

    def tell(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the epochs that are not there yet.

        Args:
            history: all epochs so far, a mapping each, as in `history.csv`.

        Raises:
            TltoolError: they cannot be written.
        """
        import_keras()
        import tensorflow as tf
        from tensorflow.compat.v1 import SummaryMetadata

        if not self._written:
            shutil.rmtree(self._folder, ignore_errors=True)
        scalars = SummaryMetadata()
        scalars.plugin_data.plugin_name = "scalars"
        scalars.data_class = 1  # DATA_CLASS_SCALAR
        try:
            for kind, names in _CURVES.items():
                for row in history[self._written :]:
                    for name, curve in names.items():
                        if row[name] is None:
                            continue
                        with self._writer(tf, kind).as_default():
                            value = tf.constant(float(row[name]), tf.float32)
                            tf.summary.write(curve, value, int(row["epoch"]), scalars)
            for writer in self._writers.values():
                writer.flush()
        except (OSError, tf.errors.OpError) as error:
            raise storage_error("write", self._folder, OSError(str(error)), "make room") from error
        self._written = len(history)

    def _writer(self, tf: Any, kind: str) -> Any:
        if kind not in self._writers:
            self._writers[kind] = tf.summary.create_file_writer(str(self._folder / kind))
        return self._writers[kind]
