"""The store: what is written is read back, whoever else writes, whenever the process dies."""

import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from tltool import TltoolError
from tltool.data import Inspection
from tltool.features import FeatureStore
from tltool.features import store as store_module
from tltool.features.store import Space

SPACE = Space("b", "w", "tap", "1", "float32", "c")


def key(i):
    return i.to_bytes(32, "big")


def vectors(start, n, d=8):
    return {key(i): np.full(d, i, np.float32) for i in range(start, start + n)}


@pytest.fixture
def store(tmp_path):
    with FeatureStore(tmp_path) as opened:
        yield opened


def test_read_returns_what_was_written_in_the_order_asked(store):
    space = store.space_id(SPACE)
    store.write(space, vectors(0, 1200))
    wanted = [key(i) for i in (700, 3, 3, 1199)]
    values = store.read(space, wanted)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values[:, 0], [700, 3, 3, 1199])
    assert store.known(space, [key(1), key(5000)]) == {key(1)}
    with pytest.raises(KeyError):
        store.read(space, [key(1), key(5000)])


def test_each_part_of_the_key_makes_another_space(store):
    spaces = [SPACE]
    for name in ("backbone", "weights", "tap", "views", "precision", "canvas", "engine"):
        spaces.append(Space(**(SPACE.__dict__ | {name: "other"})))
    numbers = [store.space_id(s) for s in spaces]
    assert len(set(numbers)) == len(spaces)
    assert [store.space_id(s) for s in spaces] == numbers
    store.write(numbers[0], vectors(0, 1))
    assert all(not store.known(n, [key(0)]) for n in numbers[1:])


def test_it_is_there_when_opened_again(tmp_path):
    with FeatureStore(tmp_path) as store:
        store.write(store.space_id(SPACE), vectors(0, 5))
        store.add_inspections(
            {key(1): Inspection(3, 4, 2**63 + 1, b"t"), key(2): Inspection(5, 6, None)}
        )
    with FeatureStore(tmp_path) as store:
        assert store.read(store.space_id(SPACE), [key(4)])[0, 0] == 4
        assert store.inspections([key(1), key(2), key(3)]) == {
            key(1): Inspection(3, 4, 2**63 + 1),
            key(2): Inspection(5, 6, None),
        }
        assert store.thumbnails([key(1)]) == {key(1): b"t"}


WRITER = """
import sys, numpy as np
sys.path.insert(0, {here!r})
from test_store import SPACE, FeatureStore, vectors
with FeatureStore({folder!r}) as store:
    space = store.space_id(SPACE)
    for batch in range({start}, {start} + {batches}):
        store.write(space, vectors(batch * 32, 32, 256))
        print(batch, flush=True)
"""


def writer(tmp_path, start, batches):
    from pathlib import Path

    code = WRITER.format(
        here=str(Path(__file__).parent), folder=str(tmp_path), start=start, batches=batches
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_two_processes_write_at_once(tmp_path):
    processes = [writer(tmp_path, 0, 60), writer(tmp_path, 30, 60)]  # half of it the same
    assert [p.wait(60) for p in processes] == [0, 0]
    for process in processes:
        process.stdout.close()
    with FeatureStore(tmp_path) as store:
        values = store.read(store.space_id(SPACE), [key(i) for i in range(90 * 32)])
    np.testing.assert_array_equal(values[:, 5], np.arange(90 * 32))


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.01, 0.05])
def test_killed_process_loses_at_most_the_batch_in_flight(tmp_path, delay):
    process = writer(tmp_path, 0, 100_000)
    done = -1
    for line in process.stdout:
        done = int(line)
        if done >= 20:
            break
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    done = max([done, *(int(line) for line in process.stdout if line.endswith("\n"))])
    process.wait()
    process.stdout.close()
    with FeatureStore(tmp_path) as store:
        values = store.read(store.space_id(SPACE), [key(i) for i in range((done + 1) * 32)])
        np.testing.assert_array_equal(values[:, 0], np.arange((done + 1) * 32))
        rows = sqlite3.connect(store.path).execute("PRAGMA integrity_check").fetchone()
        assert rows == ("ok",)
        n = store.info().spaces[0]["images"]
        assert n % 32 == 0, "a batch was written in part"


def test_trim_removes_the_least_recently_used(tmp_path, monkeypatch):
    day = [100]
    monkeypatch.setattr(store_module, "_today", lambda: day[0])
    with FeatureStore(tmp_path, max_bytes=600_000) as store:
        space = store.space_id(SPACE)
        for batch in range(10):
            day[0] += 1
            store.write(space, vectors(batch * 100, 100, 256))
        day[0] += 1
        store.read(space, [key(i) for i in range(100)])  # the oldest are the last used
        freed = store.trim()
        info = store.info()
        assert freed > 0
        assert info.bytes <= 600_000
        assert len(store.known(space, [key(i) for i in range(100)])) == 100
        assert not store.known(space, [key(i) for i in range(100, 200)])
        assert store.known(space, [key(999)])
        file_size = store.path.stat().st_size
        store.trim(0)
        assert store.info().spaces == ()
        assert store.path.stat().st_size < file_size


def test_using_rows_writes_once_a_day(tmp_path, monkeypatch):
    with FeatureStore(tmp_path) as store:
        space = store.space_id(SPACE)
        store.write(space, vectors(0, 10))
        before = store._connection.total_changes
        store.read(space, [key(i) for i in range(10)])
        assert store._connection.total_changes == before
        monkeypatch.setattr(store_module, "_today", lambda: 10**6)
        store.read(space, [key(i) for i in range(10)])
        store.read(space, [key(i) for i in range(10)])
        assert store._connection.total_changes == before + 10


def test_write_ahead_log_locally_and_rollback_journal_on_network_folders(tmp_path, monkeypatch):
    def mode(folder):
        with FeatureStore(folder) as store:
            return store._connection.execute("PRAGMA journal_mode").fetchone()[0]

    assert mode(tmp_path / "local") == "wal"
    monkeypatch.setattr(store_module, "_on_network", lambda folder: True)
    assert mode(tmp_path / "remote") == "delete"


@pytest.mark.parametrize("kind", ["nfs4", "ext4"])
def test_what_an_automounter_has_mounted_counts(tmp_path, monkeypatch, kind):
    mounts = f"/dev/a / ext4 rw 0 0\nauto.home {tmp_path} autofs rw 0 0\nx {tmp_path} {kind} rw 0 0"
    monkeypatch.setattr(store_module.Path, "read_text", lambda *_: mounts)
    assert store_module._on_network(tmp_path / "store") == (kind == "nfs4")


def test_a_store_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with FeatureStore("~/store") as store:
        assert store.path.parent == tmp_path / "store"


def test_newer_format_is_refused(tmp_path):
    with FeatureStore(tmp_path) as store:
        store._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(TltoolError, match="made by a newer tltool"):
        FeatureStore(tmp_path)


@pytest.mark.parametrize("damage", [b"no database at all, but long enough" * 100])
def test_damaged_file_is_one_sentence_and_the_advice_works(tmp_path, damage):
    (tmp_path / "features.sqlite").write_bytes(damage)
    with pytest.raises(TltoolError, match="move that file away"):
        FeatureStore(tmp_path)
    (tmp_path / "features.sqlite").rename(tmp_path / "away")
    FeatureStore(tmp_path).close()


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(TltoolError, match="name another with --store"):
        FeatureStore(tmp_path / "file")


def test_size_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TLTOOL_STORE_SIZE", "12345")
    assert FeatureStore(tmp_path).max_bytes == 12345
    monkeypatch.setenv("TLTOOL_STORE_SIZE", "much")
    with pytest.raises(TltoolError, match="TLTOOL_STORE_SIZE"):
        FeatureStore(tmp_path)


def test_a_space_keeps_its_number_while_others_trim(tmp_path):
    """A process may hold a space without features while another one empties the store."""
    with FeatureStore(tmp_path) as ours, FeatureStore(tmp_path) as theirs:
        held = ours.space_id(SPACE)
        theirs.write(theirs.space_id(Space(**(SPACE.__dict__ | {"tap": "x"}))), vectors(0, 10))
        theirs.trim(0)
        ours.write(held, vectors(0, 3))
        other = theirs.space_id(Space(**(SPACE.__dict__ | {"backbone": "other"})))
        assert other != held
        assert not theirs.known(other, [key(0)])


def test_many_processes_open_a_new_store_at_once(tmp_path):
    for round_ in range(3):
        processes = [writer(tmp_path / str(round_), i, 1) for i in range(4)]
        assert [p.wait(60) for p in processes] == [0] * 4
        for process in processes:
            process.stdout.close()


def test_store_that_is_not_there_is_not_made_by_looking(tmp_path):
    with pytest.raises(TltoolError, match="There is no feature store"):
        FeatureStore(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()
