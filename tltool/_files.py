"""Files and folders: hashes, atomic writes, the cache folder, names fit to print."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

__all__ = [
    "atomic_path",
    "cache_folder",
    "counted",
    "natural_key",
    "printable",
    "sha256_of",
    "write_atomically",
]


def sha256_of(path: Path) -> bytes:
    """SHA-256 of a file's bytes, 32 bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def cache_folder() -> Path:
    """Where tltool keeps what it can make again: `TLTOOL_CACHE`, else the user's cache folder."""
    named = os.environ.get("TLTOOL_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(platformdirs.user_cache_dir("tltool", appauthor=False))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place once the block ends without error."""
    handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace a text file whole, or leave it as it was."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which "2" comes before "10"."""
    parts = re.split(r"([0-9]+)", text)
    return [(1, 0, part) if i % 2 == 0 else (0, int(part), part) for i, part in enumerate(parts)]


def counted(n: int, one: str, several: str = "") -> str:
    """A number with its noun: "1 group", "2 groups"."""
    return f"{n:,} {one if n == 1 else several or one + 's'}"


def printable(text: str) -> str:
    """A file or class name with what cannot be encoded or would disturb a line escaped."""
    clean = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return re.sub(r"[\x00-\x1f\x7f\u2028\u2029]", lambda m: f"\\x{ord(m.group()):02x}", clean)


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
