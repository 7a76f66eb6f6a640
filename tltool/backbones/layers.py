"""The table of a backbone's layers, kept in the cache folder: making it needs Keras."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from tltool._files import cache_folder, write_atomically
from tltool._presets import BackbonePreset
from tltool.backbones.layer_table import LayerRow

__all__ = ["layer_table"]

_log = logging.getLogger(__name__)


def layer_table(preset: BackbonePreset, input_size: tuple[int, int]) -> list[LayerRow]:
    """A row for every layer of a backbone with its classification layers.

    The first time, Keras builds the network; after that the table is read from the cache folder.

    Args:
        preset: the backbone.
        input_size: height and width of the image.
    """
    kept = _kept_at(preset, input_size)
    try:
        return [_row(entry) for entry in json.loads(kept.read_text("utf-8"))]
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, KeyError):
        _log.debug("making the unreadable table %s again", kept, exc_info=True)
    from tltool.backbones.build import build_network
    from tltool.backbones.layer_table import layer_rows

    network = build_network(preset, input_size, preset.classes)
    rows = layer_rows(network, preset.blocks, preset.named_taps)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, json.dumps([asdict(row) for row in rows]))
    except OSError:  # a full or read-only cache costs time, nothing else
        _log.debug("did not keep %s", kept, exc_info=True)
    return rows


def _kept_at(preset: BackbonePreset, input_size: tuple[int, int]) -> Path:
    """Another file for another Keras, tltool or fact card."""
    facts = f"{preset}{version('keras')}{version('tltool')}"
    name = f"{preset.name}-{input_size[0]}x{input_size[1]}"
    digest = hashlib.sha256(facts.encode()).hexdigest()[:16]
    return cache_folder() / "layers" / f"{name}-{digest}.json"


def _row(entry: dict) -> LayerRow:
    lists = {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
    return LayerRow(**entry | lists)
