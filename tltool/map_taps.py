"""Layers whose output has places: those of which there are maps to look at."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tltool._presets import BackbonePreset
from tltool._validation import TltoolError
from tltool.backbones.build import PREPROCESSING
from tltool.backbones.layer_table import LayerRow
from tltool.backbones.layers import layer_table
from tltool.backbones.taps import parse_taps

__all__ = ["MapTap", "MapTaps"]

# More would not fit on a page.
_MOST_NAMED = 64


@dataclass(frozen=True)
class MapTap:
    """A layer that gives maps.

    Args:
        name: as the user named it.
        layer: its Keras name.
        row: of the table of layers.
    """

    name: str
    layer: str
    row: LayerRow

    @property
    def channels(self) -> int:
        """How many maps it gives."""
        return self.row.output_shape[-1]

    @property
    def title(self) -> str:
        """Both names, where they differ."""
        return self.name if self.name == self.layer else f"{self.name} ({self.layer})"

    def numbers(self, filters: str | Sequence[int]) -> list[int]:
        """The channels that a user named.

        Args:
            filters: numbers, or a text such as "3,17".

        Raises:
            TltoolError: something else, one named twice, too many, or a channel that is not there.
        """
        given = filters.split(",") if isinstance(filters, str) else list(filters)
        try:
            numbers = [int(one) for one in given]
        except (TypeError, ValueError):
            numbers = []
        if not 0 < len(numbers) <= _MOST_NAMED or len(set(numbers)) < len(numbers):
            raise TltoolError(
                f"--filters {filters}: expected one to {_MOST_NAMED} different numbers of "
                "channels, such as 3,17."
            )
        for number in numbers:
            if not 0 <= number < self.channels:
                raise TltoolError(
                    f"--filters {number}: {self.title} has {self.channels:,} channels, numbered "
                    f"from 0 to {self.channels - 1}; name some of these."
                )
        return numbers


class MapTaps:
    """The feature layers of a network that give `(height, width, channels)` an image.

    Args:
        preset: the backbone.
        input_size: height and width in pixels of its input.
        present: names of the layers that the network has; None for all below the classification
            layers.
    """

    def __init__(
        self,
        preset: BackbonePreset,
        input_size: tuple[int, int],
        present: Collection[str] | None = None,
    ) -> None:
        table = layer_table(preset, input_size)
        first = [row.name for row in table].index(PREPROCESSING)
        self._preset = preset
        self._input_size = input_size
        self._table = table[first:]
        self.rows: Mapping[str, LayerRow] = {row.name: row for row in table}
        self._maps = {
            row.name
            for row in table[first + 1 :]
            if row.block
            and len(row.output_shape) == 3
            and row.output_shape[0] * row.output_shape[1] > 1
            and (present is None or row.name in present)
        }

    @property
    def names(self) -> list[str]:
        """Those that the preset names, from the input up."""
        return [name for name, where in self._preset.named_taps.items() if where in self._maps]

    def choose(self, wanted: str | None) -> MapTap:
        """The layer that a user named.

        Args:
            wanted: a tap of the preset or a Keras layer, without pooling. None for the highest
                block whose receptive field has at most half the side of the input: what its
                filters look for is more than edges, and a crop shows less than the whole image.

        Raises:
            TltoolError: an unknown name, or a layer that gives one vector an image.
        """
        if wanted is None:
            return self._usual()
        kinds = {row.name: (len(row.output_shape) == 1, not row.block) for row in self._table}
        taps = parse_taps(self._preset, wanted, lambda: kinds)
        if len(taps) > 1:
            raise TltoolError(
                f"--tap {wanted} names {len(taps)} layers, and one is looked at; name one of them."
            )
        name = taps[0].name
        layer = self._preset.named_taps.get(name, name)
        if layer not in self._maps:
            known = layer in self.rows and len(self.rows[layer].output_shape) == 3
            lacks = known and self.rows[layer].block and ":" not in layer
            what = "is above the last layer here" if lacks else "gives one vector an image"
            raise TltoolError(
                f"--tap {name} {what}, and maps are looked at: expected one of "
                f"{', '.join(self.names)}, or a layer that tltool backbones {self._preset.name} "
                "--by layer lists with height and width."
            )
        return MapTap(name, layer, self.rows[layer])

    def _usual(self) -> MapTap:
        blocks = [n for n, layer in self._preset.blocks.items() if layer in self._maps]
        if not blocks:  # of a run whose features come from inside the first one
            *_, layer = (name for name in self.rows if name in self._maps)
            return MapTap(layer, layer, self.rows[layer])
        rows = {name: self.rows[self._preset.blocks[name]] for name in blocks}
        half = min(self._input_size) / 2
        narrow = [n for n, row in rows.items() if (row.receptive_field or 2 * half) <= half]
        name = narrow[-1] if narrow else blocks[0]
        return MapTap(name, rows[name].name, rows[name])
