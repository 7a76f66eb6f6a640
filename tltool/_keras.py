"""Keras, loaded when it is first needed and without TensorFlow's start-up messages."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

__all__ = ["RANDOM_STATE", "import_keras"]

RANDOM_STATE = "seed_generator_state"
"""What Keras calls the variable that a random layer draws from."""


@cache
def import_keras() -> Any:
    """The `keras` package on TensorFlow; takes about three seconds the first time.

    TensorFlow writes its greetings (processor features, missing GPUs) straight to the standard
    error of the process; they are dropped here, unless `TF_CPP_MIN_LOG_LEVEL` is set.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with _muted("TF_CPP_MIN_LOG_LEVEL" not in os.environ):
        import keras
        import tensorflow as tf

        tf.config.list_logical_devices()
    return keras


@contextmanager
def _muted(muted: bool) -> Iterator[None]:
    """Send what is written to file descriptor 2 nowhere."""
    try:
        descriptor = sys.__stderr__.fileno() if muted and sys.__stderr__ else None
    except (OSError, ValueError):
        descriptor = None
    if descriptor is None:
        yield
        return
    kept = os.dup(descriptor)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, descriptor)
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
        os.close(nowhere)
