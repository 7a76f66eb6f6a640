"""The figures of each epoch as TensorBoard reads them, without the package of that name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tltool._keras import import_keras
from tltool._validation import storage_error

__all__ = ["write_tensorboard"]

# What is drawn together, TensorBoard's way: one name, a folder for each kind of images.
_CURVES = {
    "train": {"loss": "epoch_loss", "accuracy": "epoch_accuracy", "learning_rate": "epoch_rate"},
    "validation": {"val_loss": "epoch_loss", "val_accuracy": "epoch_accuracy"},
}


def write_tensorboard(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write event files, a folder for the training images and one for the validation images.

    Args:
        folder: that TensorBoard is given, `tensorboard --logdir FOLDER`.
        history: a mapping an epoch, as in `history.csv`.

    Raises:
        TltoolError: they cannot be written.
    """
    import_keras()
    import tensorflow as tf
    from tensorflow.compat.v1 import SummaryMetadata

    scalars = SummaryMetadata()
    scalars.plugin_data.plugin_name = "scalars"
    scalars.data_class = 1  # DATA_CLASS_SCALAR
    try:
        for kind, names in _CURVES.items():
            rows = [row for row in history if any(row[name] is not None for name in names)]
            if not rows:
                continue
            writer = tf.summary.create_file_writer(str(folder / kind))
            with writer.as_default():
                for row in rows:
                    for name, curve in names.items():
                        if row[name] is not None:
                            value = tf.constant(float(row[name]), tf.float32)
                            tf.summary.write(curve, value, int(row["epoch"]), scalars)
            writer.close()
    except (OSError, tf.errors.OpError) as error:
        raise storage_error("write", folder, OSError(str(error)), "make room") from error
