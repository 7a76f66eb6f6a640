"""L-BFGS that is warm-started along a path of penalties.

Why not SciPy's: it has no start from the curvature found at the last penalty, and works in float64
alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Curvature", "minimise"]

_MEMORY = 8
_MAX_STEPS = 2000

# Of the gain that the slope promises, the share that must come true (Armijo's condition).
_SUFFICIENT = 1e-4

# Where values differ by rounding errors alone, a step must lower the slope to this share.
_FLATTER = 0.9

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]


@dataclass
class Curvature:
    """Steps of an earlier search, and how the gradient changed along each."""

    steps: deque[np.ndarray] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    changes: deque[np.ndarray] = field(default_factory=lambda: deque(maxlen=_MEMORY))

    def shift(self, penalty: np.ndarray) -> None:
        """Follow a change of a quadratic penalty `sum(penalty * W^2) / 2`."""
        pairs = [
            (s, c + penalty.astype(c.dtype) * s)
            for s, c in zip(self.steps, self.changes, strict=True)
        ]
        self.steps.clear()
        self.changes.clear()
        for step, change in pairs:
            self.add(step, change)

    def add(self, step: np.ndarray, change: np.ndarray) -> None:
        """Keep a pair, unless rounding has eaten its curvature."""
        size = np.sqrt(float(np.vdot(step, step)) * float(np.vdot(change, change)))
        if float(np.vdot(step, change)) > 1e-10 * size > 0:
            self.steps.append(step)
            self.changes.append(change)

    def direction(self, gradient: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """The inverse Hessian's estimate, `scale` where nothing is known, times a gradient.

        Source: Nocedal and Wright, "Numerical Optimization", 2006, algorithm 7.4.
        """
        result = gradient.copy()
        shares = []
        pairs = list(zip(self.steps, self.changes, strict=True))
        for step, change in reversed(pairs):
            share = float(np.vdot(step, result)) / float(np.vdot(step, change))
            result -= result.dtype.type(share) * change
            shares.append(share)
        result *= scale
        if pairs:  # the size of the last change tells the scale of all
            step, change = pairs[-1]
            result *= float(np.vdot(step, change)) / float(np.vdot(change, scale * change))
        for (step, change), share in zip(pairs, reversed(shares), strict=True):
            share -= float(np.vdot(change, result)) / float(np.vdot(step, change))
            result += result.dtype.type(share) * step
        return result


def minimise(
    objective: Objective,
    start: np.ndarray,
    scale: np.ndarray,
    stop: Callable[[float, float], bool],
    curvature: Curvature,
    known: tuple[float, np.ndarray] | None = None,
) -> np.ndarray:
    """The minimum of a smooth convex function.

    Args:
        objective: gives value and gradient at a point.
        start: where to begin; its dtype is the search's.
        scale: the inverse of the Hessian's diagonal, roughly; broadcasts to a point's shape.
        stop: told a step's gain and the value reached, whether that is near enough.
        curvature: of an earlier search; added to.
        known: value and gradient at the start, if they are known.
    """
    point = start
    rounding = float(np.finfo(start.dtype).eps)
    value, gradient = objective(point) if known is None else known
    for _ in range(_MAX_STEPS):
        direction = curvature.direction(gradient, scale)
        slope = float(np.vdot(gradient, direction))
        length = 1.0
        while True:
            tried = point - point.dtype.type(length) * direction
            reached, change = objective(tried)
            if reached <= value - _SUFFICIENT * length * slope:
                break
            if reached - value <= 2 * rounding * abs(value) and _norm(change) < _FLATTER * _norm(
                gradient
            ):  # values no longer tell, slopes still do
                break
            curve = reached - value + length * slope
            length *= min(0.5, max(0.1, 0.5 * length * slope / max(curve, 1e-300)))
            if not length * slope > rounding * abs(value):  # nothing to gain but rounding errors
                return point
        curvature.add(tried - point, change - gradient)
        gain = value - reached
        point, value, gradient = tried, reached, change
        if stop(gain, value):
            break
    return point


def _norm(values: np.ndarray) -> float:
    return float(np.sqrt(np.vdot(values, values)))
