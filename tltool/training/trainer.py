"""A network, its optimizer, and the step that changes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from tltool._keras import RANDOM_STATE, import_keras
from tltool._validation import TltoolError
from tltool.training.averaging import WeightAverages
from tltool.training.batches import Batch
from tltool.training.optimizers import make_optimizer
from tltool.training.plan import TrainingPlan

if TYPE_CHECKING:
    import keras

__all__ = ["NotFiniteError", "Trainer", "repeatable"]

# Names of the network's variables in a state begin so, and those of their averages.
_NETWORK = "network/"
_AVERAGES = "averages/"


@contextmanager
def repeatable() -> Iterator[None]:
    """TensorFlow adds up in the same order every time while the block runs.

    Without it two threads round some gradients in the order in which they finish, and training
    amplifies that. TensorFlow's own way back is not public, but the only one.
    """
    import_keras()
    from tensorflow.python.framework import config

    before = config.is_op_determinism_enabled()
    config.enable_op_determinism()
    try:
        yield
    finally:
        if not before:
            config.disable_op_determinism()


class NotFiniteError(TltoolError):
    """The loss is no finite number any more."""


class Trainer:
    """A network in training.

    Where its plan averages weights, it is the averages that are judged and kept.

    Args:
        network: from inputs to scores `(n, k)` before the softmax; what is trainable is trained.
        plan: how.
        rates: of each trainable variable, a factor on the learning rate; None for 1.
        homes: of each, what it decays towards; None for zero.
    """

    def __init__(
        self,
        network: keras.Model,
        plan: TrainingPlan,
        rates: Sequence[float] | None = None,
        homes: Sequence[np.ndarray | None] | None = None,
    ) -> None:
        import_keras()
        import tensorflow as tf

        self.network = network
        self._plan = plan
        self._optimizer = make_optimizer(plan, network.trainable_variables, rates, homes)
        self._kept = _changing(network)
        self._averages = (
            WeightAverages(self._kept, plan.weight_averaging) if plan.weight_averaging else None
        )
        self._update = tf.function(self._updated, reduce_retracing=True)
        self._score = tf.function(
            lambda inputs: self.network(tf.cast(inputs, tf.float32), training=False),
            reduce_retracing=True,
        )

    def step(self, batch: Batch, learning_rate: float) -> tuple[float, float]:
        """Learn from a batch.

        Returns:
            Its mean loss, and the share of its images that were right.

        Raises:
            NotFiniteError: the loss or its gradient is not finite; no weight was changed.
        """
        import tensorflow as tf

        self._optimizer.learning_rate.assign(learning_rate)
        try:
            loss, right, finite = self._update(*batch)
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            raise self._too_large(batch) from error
        if not finite:
            raise NotFiniteError(
                f"The loss is no longer a finite number at a learning rate of {learning_rate:.2g}; "
                "lower --learning-rate to a tenth of it."
            )
        return float(loss), float(right)

    def scores(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Scores `(n, k)`, float32, before the softmax, of inputs that come in batches."""
        with self._as_kept():
            parts = [np.asarray(self._score(inputs), np.float32) for inputs in batches]
        return np.concatenate(parts)

    def state(self) -> dict[str, np.ndarray]:
        """All that the next step follows from, besides the batch."""
        return {name: np.asarray(variable) for name, variable in self._variables().items()}

    def weights(self) -> dict[str, np.ndarray]:
        """The network's variables that change, the states of its random layers among them."""
        with self._as_kept():
            return {n: value for n, value in self.state().items() if n.startswith(_NETWORK)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state, or from weights alone.

        Raises:
            TltoolError: it is another network's.
        """
        variables = self._variables()
        for name, value in state.items():
            variable = variables.get(name)
            if variable is None or tuple(variable.shape) != value.shape:
                raise TltoolError(
                    f"The kept state of the training is of another network ({name} does not fit); "
                    "give the command that began it again, with --force."
                )
            variable.assign(value)
        if self._averages and not any(name.startswith(_AVERAGES) for name in state):
            self._averages.begin()

    def _variables(self) -> dict[str, Any]:
        """By number: Keras names layers anew in every model."""
        found = {f"{_NETWORK}{i}": v for i, v in enumerate(self._kept)}
        found |= {f"optimizer/{i}": v for i, v in enumerate(self._optimizer.variables)}
        averages = self._averages.variables if self._averages else []
        return found | {f"{_AVERAGES}{i}": v for i, v in enumerate(averages)}

    def _as_kept(self) -> AbstractContextManager[None]:
        """The network has the weights that are judged and kept while the block runs."""
        return self._averages.in_place() if self._averages else nullcontext()

    def _updated(self, inputs: Any, targets: Any, weights: Any) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            scores = tf.cast(self.network(tf.cast(inputs, tf.float32), training=True), tf.float32)
            k = scores.shape[-1]
            smooth, known = self._plan.label_smoothing, targets[:, :k]
            wanted = known * (1.0 - smooth) + smooth / k
            losses = tf.nn.softmax_cross_entropy_with_logits(wanted, scores)
            if targets.shape[-1] > k:
                losses = self._distilled(losses, targets[:, k:], scores)
            loss = tf.reduce_mean(weights * losses)
            total = loss + sum(self.network.losses)
        variables = self.network.trainable_variables
        gradients = tape.gradient(total, variables)
        length = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(total) & tf.math.is_finite(length)
        if self._plan.clip_norm > 0:
            gradients, _ = tf.clip_by_global_norm(gradients, self._plan.clip_norm, length)
        if finite:  # AutoGraph makes it part of the graph
            self._optimizer.apply(gradients, variables)
            if self._averages:
                self._averages.update(self._optimizer.iterations)
        right = tf.argmax(scores, axis=1) == tf.argmax(known, axis=1)
        return loss, tf.reduce_mean(tf.cast(right, tf.float32)), finite

    def _distilled(self, losses: Any, taught: Any, scores: Any) -> Any:
        """Losses to which those against a teacher were added.

        Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015,
        https://arxiv.org/abs/1503.02531: by the square of the temperature its gradients stay as
        large as those of the labels.
        """
        import tensorflow as tf

        warm, share = self._plan.teacher_temperature, self._plan.teacher_share
        soft = tf.nn.softmax_cross_entropy_with_logits(taught, scores / warm)
        return (1.0 - share) * losses + share * warm**2 * soft

    def _too_large(self, batch: Batch) -> TltoolError:
        """What to say where a batch does not fit into memory: which one does."""
        import tensorflow as tf

        kept, size = self.state(), len(batch[0]) // 2
        while size:
            try:
                self._update(*(part[:size] for part in batch))
            except (tf.errors.ResourceExhaustedError, MemoryError):
                size //= 2
                continue
            self.restore(kept)
            return TltoolError(
                f"{len(batch[0])} images a step do not fit into memory; --batch-size {size} does."
            )
        return TltoolError("Not even one image a step fits into memory; take a smaller backbone.")


def _changing(network: keras.Model) -> list[Any]:
    """Variables that training changes: all but those of frozen layers."""
    frozen = {
        id(variable)
        for layer in network.layers
        if not layer.trainable
        for variable in layer.variables
        if variable.name != RANDOM_STATE
    }
    return [variable for variable in network.variables if id(variable) not in frozen]
