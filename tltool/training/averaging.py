"""Averages of weights over the steps of a training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tltool._keras import import_keras

__all__ = ["WeightAverages"]


class WeightAverages:
    """Averages of variables over all steps so far, a later step counting more than an earlier one.

    After `t` steps that at share `x` of them counts as `x` to the power of the exponent, so it is
    about the last `1 / (exponent + 1)` of them that are averaged, however many there are. Only
    variables of floating-point numbers have averages.

    Args:
        variables: Keras variables; their averages begin as they are.
        exponent: above 0.

    Source: Shamir and Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", 2013,
    https://arxiv.org/abs/1212.1824, section 4.
    """

    def __init__(self, variables: Sequence[Any], exponent: float) -> None:
        keras = import_keras()
        self._of = [v for v in variables if keras.backend.is_float_dtype(v.dtype)]
        self._exponent = exponent
        self.variables = [
            keras.Variable(np.asarray(v), dtype="float32", trainable=False) for v in self._of
        ]

    def begin(self) -> None:
        """Forget what was averaged: the variables as they are count alone, until the next step."""
        for average, variable in zip(self.variables, self._of, strict=True):
            average.assign(variable)

    def update(self, step: Any) -> None:
        """Count in the variables after a step, from 1; a tensor in a graph."""
        import tensorflow as tf

        share = (self._exponent + 1.0) / (tf.cast(step, tf.float32) + self._exponent)
        for average, variable in zip(self.variables, self._of, strict=True):
            average.assign_add(share * (tf.cast(variable, tf.float32) - average))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The variables are their averages while the block runs."""
        before = [np.asarray(variable).copy() for variable in self._of]
        try:
            for variable, average in zip(self._of, self.variables, strict=True):
                variable.assign(average)
            yield
        finally:
            for variable, value in zip(self._of, before, strict=True):
                variable.assign(value)
