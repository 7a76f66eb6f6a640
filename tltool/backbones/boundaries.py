"""Freeze boundaries: which layers of a backbone are trained, and what that costs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tltool._presets import BackbonePreset
from tltool._validation import TltoolError, nearest
from tltool.backbones.layers import layer_table

__all__ = ["Boundary", "boundary"]

_LAST = re.compile(r"last([1-9]\d?)")


@dataclass(frozen=True)
class Boundary:
    """Where a backbone is cut: all above is trained, all below stays as it is.

    Args:
        unfrozen: names of the blocks above, from the input up.
        layer: the Keras layer whose activations cross it; None where all blocks are trained.
        block: the block that ends with it; "" where all are trained.
        shape: of those activations, an image's.
        below: multiply-adds of an image below it.
        above: multiply-adds of an image above it, without classification layers.
        depths: of each Keras layer, how many blocks below the classification layers it lies: 0
            for theirs.
    """

    unfrozen: tuple[str, ...]
    layer: str | None
    block: str
    shape: tuple[int, ...]
    below: int
    above: int
    depths: dict[str, int]

    def trains(self, layer: str) -> bool:
        """Whether a layer of the backbone lies above."""
        return self.depths.get(layer, 0) <= len(self.unfrozen)


def boundary(preset: BackbonePreset, input_size: tuple[int, int], unfreeze: str) -> Boundary:
    """The boundary below which a backbone stays frozen.

    Args:
        preset: the backbone.
        input_size: of its images.
        unfreeze: the lowest block that is trained; "last2" for the last two; "all" for all.

    Raises:
        TltoolError: there is no such block; the sentence lists them.
    """
    blocks = list(preset.blocks)
    last = _LAST.fullmatch(unfreeze)
    if unfreeze == "all":
        first = 0
    elif last:
        first = max(0, len(blocks) - int(last[1]))
    elif unfreeze in blocks:
        first = blocks.index(unfreeze)
    else:
        hint = nearest(unfreeze, [*blocks, "all", "auto"])
        hint = f" ({hint})" if hint.startswith("did") else "."
        raise TltoolError(
            f"--unfreeze {unfreeze}: {preset.name} has the blocks {', '.join(blocks)}; name the "
            f"lowest one to train, last1, last2 and so on, all, or auto{hint}"
        )
    rows = layer_table(preset, input_size)
    depth_of = {name: len(blocks) - place for place, name in enumerate(blocks)}
    depths = {row.name: depth_of.get(row.block, 0) for row in rows}
    frozen = [row for row in rows if depths[row.name] > len(blocks) - first]
    trained = [row for row in rows if 0 < depths[row.name] <= len(blocks) - first]
    below = blocks[first - 1] if first else ""
    layer = preset.blocks[below] if below else None
    shapes = {row.name: row.output_shape for row in rows}
    return Boundary(
        unfrozen=tuple(blocks[first:]),
        layer=layer,
        block=below,
        shape=shapes[layer] if layer else (*input_size, 3),
        below=sum(row.multiply_adds for row in frozen),
        above=sum(row.multiply_adds for row in trained),
        depths=depths,
    )
