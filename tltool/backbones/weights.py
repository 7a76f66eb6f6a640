"""Where pretrained weights come from, and how they are told apart."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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
    "is_at_hand",
    "local_weights",
    "weights_file",
    "weights_folder",
    "weights_in",
]

_log = logging.getLogger(__name__)

WEIGHT_SUFFIXES = (".h5", ".keras", ".safetensors", ".npz")

_READ_REMEDY = "make it readable, or name another file with --weights"

# Seconds that a download may stand still before it counts as failed.
_DOWNLOAD_PATIENCE = 30.0


class WeightsMissingError(TltoolError):
    """None of the places where a backbone's weights may lie has them."""


@dataclass(frozen=True)
class Weights:
    """One set of weights.

    Args:
        path: the file; None for random ones, or those in memory.
        source: where it was found, in words.
        digest: gives `hash`, or waits until it is known.
        seed: of random weights; None for a file.
        published: whether they are those that the preset describes.
        stamp: what tells whether the file was written to since it was hashed.
        arrays: the weights themselves, in Keras's order, where they are in no file.
    """

    path: Path | None
    source: str
    digest: Callable[[], str]
    seed: int | None = None
    published: bool = False
    stamp: tuple[int, ...] = ()
    arrays: Sequence[np.ndarray] | None = None

    @property
    def hash(self) -> str:
        """Hexadecimal SHA-256 of the file, or of what made random weights.

        Raises:
            TltoolError: the file cannot be read.
        """
        return self.digest()

    def refuse_changed(self) -> None:
        """Stop where the file is no longer the one that was hashed.

        Raises:
            TltoolError: it was written to in between.
        """
        if self.path is not None and _stamp(self.path) != self.stamp:
            raise TltoolError(f"{self.path} was changed while it was read; run again.")


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        facts = path.stat()
    except OSError as error:
        raise storage_error("read", path, error, _READ_REMEDY) from error
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


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
    if not os.access(folder, os.R_OK | os.X_OK):
        raise TltoolError(
            f"TLTOOL_WEIGHTS names {named}, which you may not read; change that or unset it."
        )
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
        For None, in this order: the imported file; the packaged one; the official one in the
        weights folder; the one in Keras's cache; what Keras downloads. "imagenet" passes over the
        first two.

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
    path = weights_file(f"--weights {weights}", weights, "imagenet, none, or a weights file")
    return weights_in(path, f"the file {path}")


def weights_file(argument: str, name: str, expected: str) -> Path:
    """The path of a weights file, if there is one of that name and of a known kind.

    Args:
        argument: how a sentence refers to it.
        name: of the file.
        expected: what could have been named, for the sentence.

    Raises:
        TltoolError: it is none.
    """
    try:
        path = Path(name).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # too long, or of an unknown user
        raise TltoolError(
            f"{argument[:90]} is no name of a file ({error}); expected {expected}."
        ) from error
    if is_folder:
        raise TltoolError(f"{argument} is a folder; name a file in it.")
    if not is_file:
        raise TltoolError(f"{argument}: no such file; expected {expected}.")
    if path.suffix not in WEIGHT_SUFFIXES:
        raise TltoolError(
            f"{argument}: weights come as {', '.join(WEIGHT_SUFFIXES)}, not {path.suffix!r}."
        )
    return path


def weights_in(path: Path, source: str, *, published: bool = False) -> Weights:
    """Weights in a file, which is hashed while others get on with building the network."""
    stamp = _stamp(path)
    pool = ThreadPoolExecutor(1, thread_name_prefix="hash")
    hashed = pool.submit(sha256_of, path)
    pool.shutdown(wait=False)

    def digest() -> str:
        try:
            return hashed.result().hex()
        except OSError as error:
            raise storage_error("read", path, error, _READ_REMEDY) from error

    return Weights(path, source, digest, published=published, stamp=stamp)


def local_weights(preset: BackbonePreset) -> str:
    """Where a backbone's own weights would be taken from, without opening them.

    Returns:
        "imported", "imported without head" (where the usual tap needs one), "weights folder",
        "packaged", "Keras's cache", "download" or "none".
    """
    own = imported_file(preset)
    if own.is_file():
        whole = preset.tap not in preset.head_taps or _has_head(own, preset)
        return "imported" if whole else "imported without head"
    if preset.packaged:
        return "packaged"
    if preset.weights.origin == "none":
        return "none"
    folders = {"weights folder": weights_folder(), "Keras's cache": _keras_cache()}
    for name, folder in folders.items():
        if any((folder / file).is_file() for file, _ in _official_files(preset, head=False)):
            return name
    return "download"


def is_at_hand(preset: BackbonePreset) -> bool:
    """Whether a backbone's own weights are on this machine."""
    return local_weights(preset) not in ("download", "none")


def _own_weights(preset: BackbonePreset, *, head: bool, imported: bool) -> Weights:
    folder = weights_folder()
    own = imported_file(preset)
    if imported and own.is_file():
        if head and not _has_head(own, preset):
            raise TltoolError(
                f"The imported weights of {preset.name} ({own}) have no classification layers, "
                "which that tap needs; import a file that has them, or choose another tap."
            )
        return weights_in(own, f"imported ({own})")
    if preset.packaged:
        path = packaged_weights(preset)
        if not path.is_file():
            raise WeightsMissingError(
                f"The packaged weights of {preset.name} are not at {path}; install tltool again."
            )
        return _verified(preset, path, preset.weights.md5, "packaged with tltool")
    if preset.weights.origin == "none":
        raise WeightsMissingError(
            f"{preset.name} has no pretrained weights that could be fetched: "
            f"{preset.weights.source}; "
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
        if not cached.is_file():
            raise FileNotFoundError(f"Keras did not leave {cached}")
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
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(
                    file, lambda: hashlib.md5(usedforsecurity=False)
                ).hexdigest()
        except OSError as error:
            raise storage_error("read", path, error, _READ_REMEDY) from error
        if found != md5:
            raise TltoolError(
                f"{path} is not the published weights of {preset.name} (md5 {found}, expected "
                f"{md5}): remove it to fetch it again"
                f"{' (or install tltool again)' if preset.packaged else ''}, or pass it with "
                "--weights to use it as it is."
            )
    return weights_in(path, f"{source} ({path})", published=True)


def _keras_cache() -> Path:
    """The folder where Keras keeps downloaded weights; `KERAS_HOME` moves it.

    As Keras does, a home that cannot be written to is given up for `/tmp`.
    """
    home = os.environ.get("KERAS_HOME")
    if not home:
        own = Path("~").expanduser()
        home = str((own if os.access(own, os.W_OK) else Path("/tmp")) / ".keras")  # noqa: S108
    return Path(home).expanduser() / "models"


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
