"""Tables of features: every format comes back whole, and reads without tltool."""

import csv

import numpy as np
import pytest

from tltool import TltoolError
from tltool.feature_tables import FORMATS, FeatureTable, read_features, write_features


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    arrays = {
        "stage2:avg": random.normal(size=(3, 4)).astype(np.float32),
        "stage3:max": random.normal(size=(3, 2)).astype(np.float32),
    }
    spaces = {name: {"backbone": "b", "tap": name} for name in arrays}
    return FeatureTable(
        ("a/1.png", 'b/"2",.png', "b/é.png"),
        ("a", "b", "b"),
        ("train", "", "test"),
        ("00" * 32, "11" * 32, "22" * 32),
        arrays,
        "0123456789abcdef",
        spaces,
    )


@pytest.mark.parametrize("ending", FORMATS)
def test_what_is_written_is_read(table, tmp_path, ending):
    path = tmp_path / f"features{ending}"
    write_features(table, path)
    found = read_features(path)
    assert found.columns == table.columns
    assert found.space == table.space
    assert list(found.arrays) == list(table.arrays)
    for name, values in table.arrays.items():
        assert found.arrays[name].dtype == np.float32
        np.testing.assert_array_equal(found.arrays[name], values)
    assert found.spaces == ({} if ending == ".csv" else table.spaces)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_numpy_reads_it_without_pickle(table, tmp_path):
    write_features(table, tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz", allow_pickle=False) as found:
        assert found["file"].dtype.kind == "U"
        assert found["label"].tolist() == ["a", "b", "b"]
        np.testing.assert_array_equal(found["stage3:max"], table.arrays["stage3:max"])


def test_parquet_has_a_column_for_each_tap(table, tmp_path):
    import pyarrow.parquet as pq

    write_features(table, tmp_path / "f.parquet")
    found = pq.read_table(tmp_path / "f.parquet")
    assert found.column_names == ["file", "label", "split", "hash", "stage2:avg", "stage3:max"]
    stacked = np.stack(found["stage2:avg"].to_pylist())
    np.testing.assert_allclose(stacked, table.arrays["stage2:avg"])


def test_csv_has_a_column_for_each_number(table, tmp_path):
    write_features(table, tmp_path / "f.csv")
    with (tmp_path / "f.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1]["file"] == 'b/"2",.png'
    assert float(rows[0]["stage2:avg[3]"]) == pytest.approx(table.arrays["stage2:avg"][0, 3])


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("damage", ["junk", "empty", "cut", "array", "nan"])
def test_damaged_files_are_named(table, tmp_path, ending, damage):
    path = tmp_path / f"broken{ending}"
    if damage == "nan":
        table.arrays["stage3:max"][1, 1] = np.nan
    write_features(table, path)
    whole = path.read_bytes()
    if damage == "array":
        np.save(tmp_path / "one.npy", np.zeros(3))
        path.write_bytes((tmp_path / "one.npy").read_bytes())
    elif damage != "nan":
        junk = b"nothing of the kind\n1,2\n"
        texts = {"junk": junk, "empty": b"", "cut": whole[:-40]}
        path.write_bytes(texts[damage])
    with pytest.raises(TltoolError, match=r"broken\.\w+ (is no table|holds )"):
        read_features(path)
    with pytest.raises(TltoolError, match="does not exist"):
        read_features(tmp_path / f"missing{ending}")


def test_a_quote_that_never_ends_is_named(table, tmp_path):
    write_features(table, tmp_path / "f.csv")
    with (tmp_path / "f.csv").open("a") as file:
        file.write('"' + "x" * 200_000)
    with pytest.raises(TltoolError, match=r"f\.csv is no table"):
        read_features(tmp_path / "f.csv")
