"""SGD and AdamW with a learning rate for each layer, and a decay that knows where to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tltool._keras import import_keras
from tltool.training.plan import TrainingPlan

if TYPE_CHECKING:
    import keras

__all__ = ["make_optimizer"]

# Variables with these names are not decayed: they are few, and only shift or scale.
_NOT_DECAYED = ("bias", "gamma", "beta")


def make_optimizer(
    plan: TrainingPlan,
    variables: Sequence[Any],
    rates: Sequence[float] | None = None,
    homes: Sequence[np.ndarray | None] | None = None,
) -> keras.Optimizer:
    """The optimizer of a plan, built for some variables.

    Args:
        plan: which one, with which momentum and decay.
        variables: that are trained.
        rates: of each, a factor on the learning rate; None for 1.
        homes: of each, what it decays towards; None for zero.
    """
    keras = import_keras()
    kind: Any = keras.optimizers.SGD if plan.optimizer == "sgd" else keras.optimizers.AdamW

    class LayerWise(kind):
        """The optimizer of that name."""

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            """Change a variable at its own learning rate."""
            rate = learning_rate * factors[self._get_variable_index(variable)]
            super().update_step(gradient, variable, rate)

        def _apply_weight_decay(self, trained: Sequence[Any]) -> None:
            """Decay kernels, at their own learning rates, each towards where it belongs."""
            for factor, variable, home in zip(factors, variables, wanted, strict=True):
                if plan.weight_decay and variable.name not in _NOT_DECAYED:
                    share = self.learning_rate * (factor * plan.weight_decay)
                    away = variable if home is None else variable - home
                    variable.assign_sub(away * keras.ops.cast(share, variable.dtype))

    factors = [1.0] * len(variables) if rates is None else [float(rate) for rate in rates]
    wanted = [None] * len(variables) if homes is None else list(homes)
    given: dict[str, Any] = {"learning_rate": 1.0, "weight_decay": plan.weight_decay}
    if plan.optimizer == "sgd":
        given |= {"momentum": plan.momentum, "nesterov": plan.momentum > 0}
    made = LayerWise(**given)
    made.build(list(variables))
    return made
