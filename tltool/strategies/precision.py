"""Whether training in mixed bfloat16 pays on this machine: measured once, and kept."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable
from pathlib import Path

from tltool._keras import import_keras
from tltool.features import FeatureStore
from tltool.training import Trainer
from tltool.training.batches import Batch

__all__ = ["choose_precision", "has_bfloat16", "measure"]

_log = logging.getLogger(__name__)

# Steps that are timed, after one that compiles.
_STEPS = 3

# It is taken where steps are so many times as fast, and the loss is no farther off than that.
_WORTH = 1.2
_TOLERANCE = 0.05


def has_bfloat16() -> bool:
    """Whether the processor, or a GPU, computes in bfloat16 itself."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        flags = info.read_text("utf-8", "replace")
        if "amx_bf16" in flags or "avx512_bf16" in flags:
            return True
    import_keras()
    import tensorflow as tf

    found = [
        tf.config.experimental.get_device_details(d) for d in tf.config.list_physical_devices("GPU")
    ]
    return any(details.get("compute_capability", (0, 0)) >= (8, 0) for details in found)


def choose_precision(
    key: str, store: FeatureStore, make: Callable[[str], Trainer], batch: Batch
) -> str:
    """The precision to train in: "bfloat16" where it is measured to pay, else "float32".

    Args:
        key: tells the network, and what of it is trained, from all others.
        store: keeps what was measured, so that the same run always trains in the same precision.
        make: gives a trainer in a precision.
        batch: to measure with.
    """
    if not has_bfloat16():
        return "float32"
    where = f"bfloat16 {platform.node()} {platform.processor()} {key} {len(batch[0])}"
    known = store.finding(where)
    if known is None:
        known = measure(make, batch)
        store.add_finding(where, known)
    _log.info("mixed bfloat16: %.2f times as fast, loss off by %.3f", known["gain"], known["off"])
    pays = known["gain"] >= _WORTH and known["off"] <= _TOLERANCE
    return "bfloat16" if pays else "float32"


def measure(make: Callable[[str], Trainer], batch: Batch) -> dict[str, float]:
    """How many times as fast steps are in bfloat16, and how far off the first loss, as a share."""
    seconds, losses = {}, {}
    for precision in ("float32", "bfloat16"):
        trainer = make(precision)
        losses[precision], _ = trainer.step(batch, 1e-6)
        times = []
        for _ in range(_STEPS):
            started = time.perf_counter()
            trainer.step(batch, 1e-6)
            times.append(time.perf_counter() - started)
        seconds[precision] = sorted(times)[_STEPS // 2]
    off = abs(losses["bfloat16"] - losses["float32"]) / max(losses["float32"], 1e-6)
    return {"gain": seconds["float32"] / seconds["bfloat16"], "off": off}
