"""Facts of a network that take TensorFlow to find out, kept beside its compiled copies."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tltool._files import atomic_path, cache_folder
from tltool._validation import TltoolError
from tltool.backbones.backbone import Backbone

__all__ = ["kept_facts", "with_source_classes"]

_log = logging.getLogger(__name__)


def kept_facts(
    backbone: Backbone, name: str, find: Callable[[], Mapping[str, np.ndarray]]
) -> Mapping[str, np.ndarray]:
    """Arrays that follow from a network and its weights; found once on a machine.

    Only weights in a file are known again by another process. A folder that cannot be written is
    done without.

    Args:
        backbone: the network.
        name: what they tell, with a number that changes where they are found by other rules.
        find: finds them, by names; of no type that would need pickling.
    """
    if backbone.weights.path is None:
        return find()
    path = cache_folder() / "facts" / f"{backbone.key}-{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        _log.debug("%s cannot be read, and is made again", path, exc_info=True)
    found: dict[str, Any] = dict(find())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **found)
    except OSError:  # full or read-only
        _log.debug("did not keep %s", path, exc_info=True)
    return found


def with_source_classes(backbone: Backbone) -> Backbone | None:
    """The network with the classes that it was trained on; None where its weights lack them."""
    preset = backbone.preset
    fixed = preset.fixed_head and backbone.input_size != preset.input_size
    if not preset.head_taps or fixed or backbone.weights.seed is not None:
        return None
    whole = backbone.with_head()

    def find() -> dict[str, np.ndarray]:
        try:
            known = whole.network is not None
        except TltoolError as error:
            _log.debug("no classification layers: %s", error)
            known = False
        return {"head": np.array(known)}

    return whole if kept_facts(backbone, "head-1", find)["head"] else None
