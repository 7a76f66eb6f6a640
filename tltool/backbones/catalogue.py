"""What backbones there are, and what each of their layers is, without loading Keras for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tltool._files import natural_key
from tltool._presets import BackbonePreset, backbone_names, backbone_preset
from tltool.backbones.backbone import check_input_size
from tltool.backbones.layer_table import BlockRow, LayerRow, block_rows
from tltool.backbones.layers import layer_table
from tltool.backbones.weights import local_weights

__all__ = ["BackboneEntry", "BackbonePage", "backbone_page", "list_backbones"]


@dataclass(frozen=True)
class BackboneEntry:
    """A backbone in the list.

    Args:
        preset: its fact card.
        weights: where its weights would be taken from, see `local_weights`.
    """

    preset: BackbonePreset
    weights: str

    def as_json(self) -> dict[str, Any]:
        """The facts as JSON values."""
        preset = self.preset
        return {
            "name": preset.name,
            "title": preset.title,
            "parameters": preset.parameters,
            "multiply_adds": preset.multiply_adds,
            "input_size": list(preset.input_size),
            "smallest_input": preset.smallest_input,
            "tap": preset.tap,
            "features": preset.features,
            "taps": preset.named_taps,
            "accuracy": asdict(preset.accuracy),
            "weights": {
                "here": self.weights,
                "source": preset.weights.source,
                "licence": preset.weights.licence,
            },
            "citation": preset.citation,
        }


@dataclass(frozen=True)
class BackbonePage:
    """All that is known of one backbone.

    Args:
        entry: as in the list.
        input_size: height and width that the rows are for.
        layers: a row for each layer, classification layers included.
        blocks: the same by block.
    """

    entry: BackboneEntry
    input_size: tuple[int, int]
    layers: Sequence[LayerRow]
    blocks: Sequence[BlockRow]

    @property
    def parameters(self) -> int:
        """Of the network at this size: fully connected layers grow with it."""
        return sum(row.parameters for row in self.layers)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return self.entry.as_json() | {
            "input_size": list(self.input_size),
            "parameters": self.parameters,
            "multiply_adds": sum(row.multiply_adds for row in self.layers),
            "layers": [asdict(row) | {"activations": row.activations} for row in self.layers],
            "blocks": [asdict(row) for row in self.blocks],
        }


def list_backbones() -> list[BackboneEntry]:
    """Every backbone, by name; needs neither Keras nor a network connection."""
    return [_entry(name) for name in sorted(backbone_names(), key=natural_key)]


def backbone_page(name: str, input_size: str | int | Sequence[int] | None = None) -> BackbonePage:
    """What each layer of a backbone is.

    Args:
        name: of a preset.
        input_size: height and width in pixels, or one number for both; None for the preset's.

    Raises:
        TltoolError: an unknown name, or a size that the network cannot take.

    Example:
        >>> [row.receptive_field for row in backbone_page("lenet5").blocks]
        [6, 16, 32, None]
    """
    entry = _entry(name)
    size = check_input_size(entry.preset, input_size)
    rows = layer_table(entry.preset, size)
    return BackbonePage(entry, size, rows, block_rows(rows))


def _entry(name: str) -> BackboneEntry:
    preset = backbone_preset(name)
    return BackboneEntry(preset, local_weights(preset))
