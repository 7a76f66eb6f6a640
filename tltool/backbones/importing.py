"""Converting somebody's weights once, into the folder where they are looked for first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tltool import __version__
from tltool._files import atomic_path, printable
from tltool._presets import backbone_preset
from tltool._validation import TltoolError, storage_error
from tltool.backbones.build import build_network
from tltool.backbones.weight_files import read_weights, save_safetensors
from tltool.backbones.weights import find_weights, imported_file, weights_file, weights_in

__all__ = ["ImportedWeights", "import_weights"]


@dataclass(frozen=True)
class ImportedWeights:
    """Weights that were converted.

    Args:
        path: of the converted file.
        hash: hexadecimal SHA-256 of it, by which features and runs know these weights.
        source: the file that they came from.
        source_hash: hexadecimal SHA-256 of that.
        head: whether the classification layers came with them.
        head_missing: why not; empty if they did.
    """

    path: Path
    hash: str
    source: str
    source_hash: str
    head: bool
    head_missing: str = ""


def import_weights(file: str | Path, backbone: str, *, force: bool = False) -> ImportedWeights:
    """Convert a weights file, and take it from now on for that backbone.

    Args:
        file: Keras `.h5`, `.weights.h5` or `.keras`; `.safetensors`; or `.npz` with PyTorch's
            names of a CIFAR ResNet.
        backbone: name of the preset that it is for.
        force: replace weights imported before.

    Returns:
        Where they are now: in the folder named by `TLTOOL_WEIGHTS`, or the user's own.

    Raises:
        TltoolError: the file cannot be read or does not fit, or there are imported weights.
    """
    preset = backbone_preset(backbone)
    path = weights_file(str(file), str(file), "a weights file")
    source = weights_in(path, str(file))
    target = imported_file(preset)
    if target.exists() and not force:
        raise TltoolError(
            f"Weights of {backbone} were imported before, to {target}; --force replaces them."
        )
    network = build_network(preset, preset.input_size)
    read_weights(network, preset, path)
    source.refuse_changed()
    whole = build_network(preset, preset.input_size, preset.classes)
    try:
        read_weights(whole, preset, path)
        network, head_missing = whole, ""
    except TltoolError as error:  # the layers below were read: only the classification is missing
        head_missing = str(error).partition(": ")[2].partition(";")[0] or str(error)
    facts = {
        "backbone": backbone,
        "source": printable(path.name),
        "source_sha256": source.hash,
        "classification_layers": str(not head_missing).lower(),
        "tltool": __version__,
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            save_safetensors(network, temporary, facts)
    except OSError as error:
        raise storage_error(
            "write", target, error, "make room, or name another folder in TLTOOL_WEIGHTS"
        ) from error
    return ImportedWeights(
        path=target,
        hash=find_weights(preset).hash,
        source=printable(str(path.resolve())),
        source_hash=source.hash,
        head=not head_missing,
        head_missing=head_missing,
    )
