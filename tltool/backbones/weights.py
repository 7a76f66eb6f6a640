"""Where pretrained weights come from, and how they are told apart."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from tltool._files import sha256_of
from tltool._keras import import_keras
from tltool._presets import BackbonePreset, packaged_weights
from tltool._progress import open_progress
from tltool._validation import TltoolError, storage_error

__all__ = [
    "WEIGHT_SUFFIXES",
    "Weights",
    "WeightsMissingError",
    "find_weights",
    "imported_file",
    "local_weights",
    "weights_folder",
]

_log = logging.getLogger(__name__)

WEIGHT_SUFFIXES = (".h5", ".keras", ".safetensors", ".npz")

# Seconds that a download may stand still before it counts as failed.
_DOWNLOAD_PATIENCE = 30.0


class WeightsMissingError(TltoolError):
    """None of the places where a backbone's weights may lie has them."""


@dataclass(frozen=True)
class Weights:
    """One set of weights.

    Args:
        path: the file; None for random ones.
        source: where it was found, in words.
        digest: gives `hash`, or waits until it is known.
        seed: of random weights; None for a file.
        published: whether they are those that the preset describes.
    """

    path: Path | None
    source: str
    digest: Callable[[], str]
    seed: int | None = None
    published: bool = False

    @property
    def hash(self) -> str:
        """Hexadecimal SHA-256 of the file, or of what made random weights.

        Raises:
            TltoolError: the file cannot be read.
        """
        return self.digest()


def _weights_in(path: Path, source: str, *, published: bool = False) -> Weights:
    """Weights in a file, which is hashed while others get on with building the network."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="hash")
    hashed = pool.submit(sha256_of, path)
    pool.shutdown(wait=False)

    def digest() -> str:
        try:
            return hashed.result().hex()
        except OSError as error:
            raise storage_error("read", path, error, "name another file with --weights") from error

    return Weights(path, source, digest, published=published)


def weights_folder() -> Path:
    """Where weights are looked for first, and imported to: `TLTOOL_WEIGHTS`, or the user's own.

    Raises:
        TltoolError: `TLTOOL_WEIGHTS` names something else than a folder.
    """
    named = os.environ.get("TLTOOL_WEIGHTS")
    if not named:
        return Path(platformdirs.user_data_dir("tltool", appauthor=False)) / "weights"
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise TltoolError(f"TLTOOL_WEIGHTS names {named}, which is no folder; correct or unset it.")
    return folder


def imported_file(preset: BackbonePreset) -> Path:
    """Where `import_weights` puts weights of this backbone."""
    return weights_folder() / f"{preset.name}.safetensors"


def find_weights(
    preset: BackbonePreset, weights: str | None = None, seed: int = 0, *, head: bool = False
) -> Weights:
    """The weights that a user asked for.

    Args:
        preset: the backbone.
        weights: a file, "none" for random ones, "imagenet", or None for the preset's own.
        seed: of random weights.
        head: whether the classification layers are needed too.

    Returns:
        For None and "imagenet", in this order: the imported file and then the official one in the
        weights folder; the packaged one; the official one in Keras's cache; what Keras downloads.

    Raises:
        TltoolError: the file is not there, or is not the published one.
        WeightsMissingError: no place has them; one sentence names all of them.
    """
    if weights == "none":
        text = f"random:{preset.name}:{preset.parameters}:{seed}:{head}"
        random = hashlib.sha256(text.encode()).hexdigest()
        return Weights(None, "random weights", lambda: random, seed)
    if weights == "imagenet" and preset.weights.origin != "keras":
        raise TltoolError(
            f"{preset.name} has no ImageNet weights; leave --weights out for "
            + (f"its packaged ones ({preset.weights.source})." if preset.packaged else "its own.")
        )
    if weights in (None, "imagenet"):
        return _own_weights(preset, head=head, imported=weights is None)
    path = Path(weights).expanduser()
    if path.is_dir():
        raise TltoolError(
            f"--weights {weights} is a folder; name a file in it, or set TLTOOL_WEIGHTS to it."
        )
    if not path.is_file():
        raise TltoolError(
            f"--weights {weights}: no such file; expected imagenet, none, or a weights file."
        )
    if path.suffix not in WEIGHT_SUFFIXES:
        raise TltoolError(
            f"--weights {weights}: weights come as {', '.join(WEIGHT_SUFFIXES)}, not "
            f"{path.suffix!r}."
        )
    return _weights_in(path, f"the file {path}")


def local_weights(preset: BackbonePreset) -> str:
    """Where a backbone's own weights would be taken from, without opening them.

    Returns:
        "imported", "weights folder", "packaged", "Keras's cache", "download" or "none".
    """
    if imported_file(preset).is_file():
        return "imported"
    if preset.packaged:
        return "packaged"
    if preset.weights.origin == "none":
        return "none"
    folders = {"weights folder": weights_folder(), "Keras's cache": _keras_cache()}
    for name, folder in folders.items():
        if any((folder / file).is_file() for file, _ in _official_files(preset, head=False)):
            return name
    return "download"


def _own_weights(preset: BackbonePreset, *, head: bool, imported: bool) -> Weights:
    folder = weights_folder()
    own = imported_file(preset)
    if imported and own.is_file() and (not head or _has_head(own, preset)):
        return _weights_in(own, f"imported ({own})")
    if preset.packaged:
        path = packaged_weights(preset)
        if not path.is_file():
            raise WeightsMissingError(
                f"The packaged weights of {preset.name} are not at {path}; install tltool again."
            )
        return _verified(preset, path, preset.weights.md5, "packaged with tltool")
    if preset.weights.origin == "none":
        raise WeightsMissingError(
            f"{preset.name} has no pretrained weights that could be fetched"
            f"{' with classification layers' if own.is_file() else ''}: {preset.weights.source}; "
            "name a file with --weights, or --weights none to start from random ones."
        )
    files = _official_files(preset, head=head)
    for place, source in ((folder, "the weights folder"), (_keras_cache(), "Keras's cache")):
        for file, md5 in files:
            if (place / file).is_file():
                return _verified(preset, place / file, md5, source)
    return _fetch(preset, files[0], head=head)


def _official_files(preset: BackbonePreset, *, head: bool) -> list[tuple[str, str]]:
    """Names and checksums of the files that will do, the better one first."""
    full = (preset.weights.full_file, preset.weights.full_md5)
    return [full] if head else [(preset.weights.file, preset.weights.md5), full]


def _has_head(path: Path, preset: BackbonePreset) -> bool:
    """Whether an imported file holds the classification layers."""
    from safetensors import SafetensorError, safe_open

    head = {where.partition(":")[0] for where in preset.head_taps.values()}
    try:
        with safe_open(path, "np") as file:
            return head <= {name.partition("/")[0] for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return True  # reading it will tell what is wrong


def _fetch(preset: BackbonePreset, file: tuple[str, str], *, head: bool) -> Weights:
    name, md5 = file
    cached = _keras_cache() / name
    try:
        _download(preset, head=head)
        return _verified(preset, cached, md5, "Keras's download")
    except TltoolError:
        raise
    except Exception as error:  # urllib, sockets and Keras each raise their own kinds
        _log.debug("download of %s failed", name, exc_info=True)
        reason = str(error).rsplit("]", 1)[-1].rsplit(":", 1)[-1].strip() or type(error).__name__
        raise WeightsMissingError(
            f"No weights for {preset.name}: no --weights FILE was given, the weights folder "
            f"({weights_folder()}; TLTOOL_WEIGHTS names another) lacks {name}, Keras's cache "
            f"({cached.parent}) does not have it, and Keras's download failed ({reason}); "
            "fetch that file on a machine with network and put it into one of these places, or "
            "choose --backbone cifar-resnet20, whose weights are packaged."
        ) from error


def _verified(preset: BackbonePreset, path: Path, md5: str, source: str) -> Weights:
    """The file, once its checksum is that of the published one."""
    if md5:
        with path.open("rb") as file:
            found = hashlib.file_digest(
                file, lambda: hashlib.md5(usedforsecurity=False)
            ).hexdigest()
        if found != md5:
            raise TltoolError(
                f"{path} is not the published weights of {preset.name} (md5 {found}, expected "
                f"{md5}): remove it to fetch it again"
                f"{' (or install tltool again)' if preset.packaged else ''}, or pass it with "
                "--weights to use it as it is."
            )
    return _weights_in(path, f"{source} ({path})", published=True)


def _keras_cache() -> Path:
    """The folder where Keras keeps downloaded weights; `KERAS_HOME` moves it."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def _download(preset: BackbonePreset, *, head: bool) -> None:
    """Let Keras fetch its own file into its own cache."""
    keras = import_keras()

    _log.info("fetching the weights of %s with Keras", preset.name)
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_PATIENCE)
    try:
        # Keras prints its progress
        with open_progress() as screen, contextlib.redirect_stdout(screen):
            getattr(keras.applications, preset.builder)(
                include_top=head,
                weights="imagenet",
                input_shape=(*preset.input_size, 3),
                **preset.arguments,
            )
    finally:
        socket.setdefaulttimeout(patience)
        keras.backend.clear_session()
