import errno

import pytest

from tltool._files import atomic_path, natural_key, printable, write_atomically
from tltool._validation import (
    TltoolError,
    check_fraction,
    check_int,
    check_option,
    nearest,
    storage_error,
)


def test_unknown_option_offers_the_nearest():
    with pytest.raises(TltoolError, match="Unknown backbone 'resnet5': did you mean 'resnet50'"):
        check_option("backbone", "resnet5", ["resnet50", "vgg16"])
    assert nearest("zzz", ["b", "a"]) == "known: a, b."


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan")])
def test_fraction_out_of_range(value):
    with pytest.raises(TltoolError, match="--test must be a fraction above 0 and below 1"):
        check_fraction("--test", value, zero=False)


def test_fraction_may_be_zero_where_allowed():
    assert check_fraction("--val", 0.0, zero=True) == 0.0


@pytest.mark.parametrize("value", [0, -3, 1.5, True])
def test_int_out_of_range(value):
    with pytest.raises(TltoolError, match="whole number of at least 1"):
        check_int("--top-k", value, low=1)


def test_storage_error_names_place_and_remedy(tmp_path):
    error = storage_error("write", tmp_path, OSError(errno.ENOSPC, "x"), "make room")
    assert str(error) == f"Could not write {tmp_path}: No space left on device; make room."


def test_atomic_write_leaves_the_old_file_when_it_fails(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_natural_order():
    assert sorted(["10", "2", "1", "b2", "b10"], key=natural_key) == ["1", "2", "10", "b2", "b10"]


def test_printable_escapes_what_would_break_a_line():
    assert printable("a\nb\udcff") == "a\\x0ab\\udcff"
    assert printable("Füße 日本") == "Füße 日本"
