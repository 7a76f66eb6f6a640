"""The content-addressed store: no image goes through the same network twice."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tltool._files import cache_folder
from tltool._validation import TltoolError
from tltool.data import Inspection
from tltool.data.inspection import INSPECTION_VERSION

__all__ = ["FeatureStore", "Space", "StoreInfo", "default_store_folder", "shared_store"]

_FILE = "features.sqlite"
_FORMAT = 3
_SECONDS_PER_DAY = 86_400

# The store is trimmed to this many bytes after an extraction; TLTOOL_STORE_SIZE changes it.
_DEFAULT_MAX_BYTES = 20 * 10**9

# Tables whose oldest rows may go.
_TRIMMED = ("features", "inspections", "findings")

# Hashes asked for in one query; SQLite allows 32,766 parameters.
_QUERY = 500

# Images whose views are read at once where they are averaged.
_AVERAGED = 256

# Seconds to wait for another process's write.
_PATIENCE = 60.0

# On these, SQLite's write-ahead log does not work: it needs memory shared between processes.
_NETWORK_FILE_SYSTEMS = (
    "nfs",
    "nfs4",
    "cifs",
    "smb2",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "lustre",
    "gpfs",
    "sshfs",
)

# A space's number is never given to another one: a process may hold it while it has no features.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS spaces (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS features (
    space INTEGER NOT NULL REFERENCES spaces (id),
    hash BLOB NOT NULL,
    vector BLOB NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (space, hash)
);
CREATE TABLE IF NOT EXISTS inspections (
    hash BLOB PRIMARY KEY,
    version INTEGER NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    perceptual_hash BLOB,
    thumbnail BLOB NOT NULL,
    used INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS findings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    used INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS uses (
    space INTEGER PRIMARY KEY REFERENCES spaces (id),
    at REAL NOT NULL
);
"""


@dataclass(frozen=True)
class Space:
    """All that a feature depends on besides the image.

    Args:
        backbone: the preset's name.
        weights: hash of the weights.
        tap: the layer and its pooling.
        views: the view recipe; "1" is the whole image.
        precision: "float32" or "bfloat16".
        canvas: version of decoder and canvas, and the canvas size.
        engine: empty in float32, where engines agree to 1e-4; its name otherwise.
        network: digest of how it is built and what happens to the pixels.
    """

    backbone: str
    weights: str
    tap: str
    views: str
    precision: str
    canvas: str
    engine: str = ""
    network: str = ""


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds: sizes in bytes, and features by backbone and tap."""

    path: str
    bytes: int
    max_bytes: int
    inspections: int
    spaces: tuple[dict[str, Any], ...]


def default_store_folder() -> Path:
    """The store of this user: `TLTOOL_STORE`, else a folder in the user's cache folder."""
    named = os.environ.get("TLTOOL_STORE")
    return Path(named).expanduser() if named else cache_folder() / "store"


def shared_store(folder: str | Path | None = None) -> FeatureStore:
    """The store in a folder, opened once in each thread and kept open.

    For estimators, which are copied and refitted many times over.
    """
    path = (Path(folder).expanduser() if folder else default_store_folder()).resolve()
    opened = vars(_opened).setdefault("stores", {})
    key = (os.getpid(), path)
    if key not in opened:
        opened[key] = FeatureStore(path)
    return opened[key]


_opened = threading.local()


class FeatureStore:
    """Features and inspections by content hash, in one SQLite file.

    Several processes may use it at once. Each write is a transaction of its own: a process that is
    killed loses what it had not yet handed over, and damages nothing.

    Args:
        folder: where `features.sqlite` lies or will lie; made if it is not there. None for
            the user's own.
        max_bytes: beyond this, `trim` removes what was used longest ago.
        create: make a new store where there is none.

    Raises:
        TltoolError: the folder cannot be used, or holds something else.

    Example:
        >>> with FeatureStore(tmp_path) as store:
        ...     space = store.space_id(Space("resnet50", "ab12", "avgpool", "1", "float32", "1"))
        ...     store.write(space, {b"h" * 32: np.zeros(2048, np.float32)})
    """

    def __init__(
        self, folder: str | Path | None = None, max_bytes: int | None = None, *, create: bool = True
    ) -> None:
        folder = Path(folder).expanduser() if folder else default_store_folder()
        self.path = folder / _FILE
        if not create and not self.path.is_file():
            raise TltoolError(
                f"There is no feature store in {folder}; name its folder with --store."
            )
        self.max_bytes = _max_bytes() if max_bytes is None else max_bytes
        self._writing = threading.RLock()  # a connection has one transaction at a time
        with self._explained("open"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            self._prepare_patiently()

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def latest_space(self) -> tuple[Space, int] | None:
        """The space that was used last, and its number; None where there are no features."""
        with self._explained("read"):
            row = self._connection.execute(
                "SELECT key, id FROM spaces LEFT JOIN uses ON space = id "
                "WHERE EXISTS (SELECT 1 FROM features WHERE features.space = id) "
                "ORDER BY at DESC, id DESC LIMIT 1"
            ).fetchone()
        return None if row is None else (Space(**json.loads(row[0])), int(row[1]))

    def find_space(self, space: Space) -> int | None:
        """The number of a space; None if it is not there. It does not count as used."""
        with self._explained("read"):
            query = "SELECT id FROM spaces WHERE key = ?"
            row = self._connection.execute(query, (_key(space),)).fetchone()
        return None if row is None else int(row[0])

    def hashes(self, space: int) -> list[bytes]:
        """The images whose features are in a space, sorted."""
        with self._explained("read"):
            query = "SELECT hash FROM features WHERE space = ? ORDER BY hash"
            return [row[0] for row in self._connection.execute(query, (space,))]

    def space_id(self, space: Space) -> int:
        """The number of a space, new if it was not there; from now on the one used last."""
        key = _key(space)
        with self._transaction():
            self._connection.execute("INSERT OR IGNORE INTO spaces (key) VALUES (?)", (key,))
            row = self._connection.execute("SELECT id FROM spaces WHERE key = ?", (key,)).fetchone()
            self._connection.execute(
                "INSERT OR REPLACE INTO uses VALUES (?, ?)", (row[0], time.time())
            )
        return int(row[0])

    def known(self, space: int, hashes: Sequence[bytes]) -> set[bytes]:
        """Those of the hashes whose features are here."""
        query = "SELECT hash FROM features WHERE space = ? AND hash IN ({})"
        return {row[0] for row in self._select(query, hashes, space)}

    def read(self, space: int, hashes: Sequence[bytes]) -> np.ndarray:
        """Stored features, in the order of the hashes: `(n, d)`, float32.

        Raises:
            KeyError: one of them is not here.
        """
        rows: dict[bytes, list[int]] = {}
        for row, content in enumerate(hashes):
            rows.setdefault(content, []).append(row)
        features: np.ndarray | None = None
        query = "SELECT hash, vector FROM features WHERE space = ? AND hash IN ({})"
        for content, blob in self._select(query, list(rows), space):
            vector = np.frombuffer(blob, "<f4")
            if features is None:
                features = np.empty((len(hashes), len(vector)), np.float32)
            features[rows.pop(content)] = vector
        if rows:
            raise KeyError(f"{len(rows)} features are not in the store {self.path}")
        self._touch("features", "space = ? AND ", hashes, space)
        return np.empty((0, 0), np.float32) if features is None else features

    def read_mean(self, space: int, hashes: Sequence[bytes], views: int) -> np.ndarray:
        """Stored features averaged over as many views of each image: `(n, d)`, float32.

        Raises:
            KeyError: one of them is not here.
        """
        (mean,) = self.read_means(space, hashes, views, [range(views)])
        return mean

    def read_means(
        self, space: int, hashes: Sequence[bytes], views: int, groups: Sequence[Sequence[int]]
    ) -> list[np.ndarray]:
        """The same, averaged over some of the views: `(n, d)` of each group of their numbers.

        Few images are held with all their views at a time.
        """
        if len(hashes) == 0:
            return [np.empty((0, 0), np.float32)] * len(groups)
        means: list[list[np.ndarray]] = [[] for _ in groups]
        for start in range(0, len(hashes), _AVERAGED):
            part = hashes[start : start + _AVERAGED]
            shown = self.read(space, part).reshape(len(part), views, -1)
            for found, group in zip(means, groups, strict=True):
                found.append((shown if len(group) == views else shown[:, group]).mean(axis=1))
        return [np.concatenate(found) for found in means]

    def write(self, space: int, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Keep features, `(d,)` each, float32; what is there already stays."""
        day = _today()
        rows = [(space, h, np.asarray(v, "<f4").tobytes(), day) for h, v in vectors.items()]
        with self._transaction():
            self._connection.executemany("INSERT OR IGNORE INTO features VALUES (?, ?, ?, ?)", rows)

    def inspections(self, hashes: Sequence[bytes]) -> dict[bytes, Inspection]:
        """What is known of these images, without thumbnails."""
        query = (
            "SELECT hash, width, height, perceptual_hash FROM inspections "
            "WHERE version = ? AND hash IN ({})"
        )
        found = {
            content: Inspection(width, height, int.from_bytes(bits, "big") if bits else None)
            for content, width, height, bits in self._select(query, hashes, INSPECTION_VERSION)
        }
        self._touch("inspections", "version = ? AND ", list(found), INSPECTION_VERSION)
        return found

    def thumbnails(self, hashes: Sequence[bytes]) -> dict[bytes, bytes]:
        """Thumbnails of these images, RGB bytes."""
        query = "SELECT hash, thumbnail FROM inspections WHERE version = ? AND hash IN ({})"
        return dict(self._select(query, hashes, INSPECTION_VERSION))

    def add_inspections(self, found: Mapping[bytes, Inspection]) -> None:
        """Keep these."""
        day = _today()
        rows = [
            (
                content,
                INSPECTION_VERSION,
                i.width,
                i.height,
                None if i.perceptual_hash is None else i.perceptual_hash.to_bytes(8, "big"),
                i.thumbnail,
                day,
            )
            for content, i in found.items()
        ]
        with self._transaction():
            self._connection.executemany(
                "INSERT OR REPLACE INTO inspections VALUES (?, ?, ?, ?, ?, ?, ?)", rows
            )

    def finding(self, key: str) -> Any:
        """What was found out under this key, as JSON values; None if nothing was."""
        with self._explained("read"):
            query = "SELECT value FROM findings WHERE key = ?"
            row = self._connection.execute(query, (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def add_finding(self, key: str, value: Any) -> None:
        """Keep JSON values under a key that tells all they follow from."""
        with self._transaction():
            self._connection.execute(
                "INSERT OR REPLACE INTO findings VALUES (?, ?, ?)",
                (key, json.dumps(value), _today()),
            )

    def info(self) -> StoreInfo:
        """What is here, by space."""
        with self._explained("read"):
            spaces = self._connection.execute(
                "SELECT key, count(hash), sum(length(vector)), max(used) FROM spaces "
                "JOIN features ON space = id GROUP BY id ORDER BY max(used) DESC, id"
            ).fetchall()
            inspections = self._count("inspections")
        return StoreInfo(
            path=str(self.path),
            bytes=self._bytes(),
            max_bytes=self.max_bytes,
            inspections=inspections,
            spaces=tuple(
                json.loads(key)
                | {
                    "images": images,
                    "bytes": size,
                    "last_used": time.strftime("%Y-%m-%d", time.gmtime(used * _SECONDS_PER_DAY)),
                }
                for key, images, size, used in spaces
            ),
        )

    def trim(self, max_bytes: int | None = None) -> int:
        """Remove what was used longest ago until the store is small enough.

        Args:
            max_bytes: None for the store's own limit; 0 empties it.

        Returns:
            The number of bytes given back.
        """
        limit = self.max_bytes if max_bytes is None else max_bytes
        before = self._bytes()
        if before <= limit:
            return 0
        while self._bytes() > limit and any(map(self._count, _TRIMMED)):
            with self._transaction():
                for table in _TRIMMED:
                    # a twentieth at a time, so that no more goes than has to
                    self._connection.execute(
                        f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} "  # noqa: S608
                        "ORDER BY used, rowid LIMIT ?)",
                        (max(1, self._count(table) // 20),),
                    )
            with self._explained("trim"):
                self._connection.execute("PRAGMA incremental_vacuum").fetchall()
        with self._explained("trim"):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return max(0, before - self._bytes())

    def _prepare_patiently(self) -> None:
        """Prepare, while other processes may do the same: a change of journal does not queue."""
        given_up = time.monotonic() + _PATIENCE
        while True:
            try:
                self._prepare()
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > given_up:
                    raise
                time.sleep(0.05)

    def _prepare(self) -> None:
        """Settings and tables; a store of a newer format is refused."""
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > _FORMAT:
            raise TltoolError(
                f"{self.path} was made by a newer tltool (format {version}); update tltool, or "
                "name another folder with --store."
            )
        if version == 0:
            self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        journal = "DELETE" if _on_network(self.path.parent) else "WAL"
        self._connection.execute(f"PRAGMA journal_mode = {journal}").fetchone()
        self._connection.execute("PRAGMA synchronous = NORMAL")
        if version < _FORMAT:  # each format only added tables
            self._connection.executescript(_SCHEMA)
            self._connection.execute(f"PRAGMA user_version = {_FORMAT}")

    def _select(self, query: str, hashes: Sequence[bytes], first: int) -> Iterator[tuple[Any, ...]]:
        """Rows of a query over hashes, a part at a time; `{}` takes the list of parameters."""
        with self._explained("read"):
            for start in range(0, len(hashes), _QUERY):
                part = hashes[start : start + _QUERY]
                marks = ",".join("?" * len(part))
                yield from self._connection.execute(query.format(marks), (first, *part))

    def _touch(self, table: str, condition: str, hashes: Sequence[bytes], first: int) -> None:
        """Note that rows were used today; at most one write a row and day."""
        day = _today()
        query = f"SELECT hash FROM {table} WHERE {condition}used < {day} AND hash IN ({{}})"  # noqa: S608
        stale = [row[0] for row in self._select(query, hashes, first)]
        if stale:
            with self._transaction():
                self._connection.executemany(
                    f"UPDATE {table} SET used = {day} WHERE {condition}hash = ?",  # noqa: S608
                    [(first, content) for content in stale],
                )

    def _count(self, table: str) -> int:
        return int(self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608

    def _bytes(self) -> int:
        """Bytes in use, free pages left out."""
        with self._explained("read"):
            values = [
                self._connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_size", "page_count", "freelist_count")
            ]
        return int(values[0] * (values[1] - values[2]))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; other threads and processes wait for it."""
        with self._writing, self._explained("write to"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        """SQLite's and the system's errors as one sentence with the remedy."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            number = getattr(error, "errno", None)
            reason = os.strerror(number) if number else str(error)
            if "malformed" in reason or "not a database" in reason:
                remedy = "move that file away, and a new store will be made"
            else:
                remedy = "make room or free the folder, or name another with --store"
            raise TltoolError(
                f"Could not {action} the feature store {self.path}: {reason}; {remedy}."
            ) from error


def _key(space: Space) -> str:
    return json.dumps(asdict(space), sort_keys=True)


def _today() -> int:
    return int(time.time() // _SECONDS_PER_DAY)


def _max_bytes() -> int:
    text = os.environ.get("TLTOOL_STORE_SIZE", "")
    if not text:
        return _DEFAULT_MAX_BYTES
    if not text.isdigit():
        raise TltoolError(f"TLTOOL_STORE_SIZE is {text!r}; expected a number of bytes.")
    return int(text)


def _on_network(folder: Path) -> bool:
    """Whether a folder lies on a network file system, as far as the system tells."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return False
    place = folder.resolve()
    holding = [m for m in mounts if place.is_relative_to(m[1].replace("\\040", " "))]
    # the last of those at one place: an automounter's own comes before what it mounts there
    kind = max(reversed(holding), key=lambda m: len(m[1]))[2] if holding else ""
    return kind.removeprefix("fuse.") in _NETWORK_FILE_SYSTEMS
