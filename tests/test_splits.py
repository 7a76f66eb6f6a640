"""Splits follow from content and seed, and from nothing else."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import class_folders

from tltool import TltoolError
from tltool.data import Dataset, Example, check_listing, read_listing, split_dataset


def content(number):
    return hashlib.sha256(str(number).encode()).digest()


def dataset(counts, groups=None, splits=None):
    examples = []
    for label, n in counts.items():
        for i in range(n):
            h = content(f"{label}{i}")
            name = f"{label}/{i}"
            group = (groups or {}).get(name, h)
            split = (splits or {}).get(name, "")
            examples.append(Example(Path(name), name, label, h, group, split))
    given = frozenset(e.split for e in examples if e.split)
    return Dataset("d", tuple(examples), tuple(sorted(counts)), given)


def splits_of(data):
    return {e.name: e.split for e in data.examples}


def test_shares_hold_in_expectation():
    done, report = split_dataset(dataset({"a": 3000, "b": 3000}), seed=0, test=0.2, val=0.1)
    assert abs(report.sizes["test"] / 6000 - 0.2) < 0.015
    assert abs(report.sizes["val"] / 6000 - 0.1) < 0.012
    assert report.moved == ()
    assert sum(report.sizes.values()) == len(done.examples) == 6000


def test_order_and_other_images_do_not_matter():
    whole = dataset({"a": 60, "b": 60})
    first = splits_of(split_dataset(whole, seed=3, test=0.2, val=0.1)[0])
    shuffled = Dataset("d", tuple(reversed(whole.examples)), whole.labels)
    assert splits_of(split_dataset(shuffled, seed=3, test=0.2, val=0.1)[0]) == first
    more = splits_of(
        split_dataset(dataset({"a": 90, "b": 60, "c": 50}), seed=3, test=0.2, val=0.1)[0]
    )
    assert {name: more[name] for name in first} == first


def test_seed_matters():
    data = dataset({"a": 60, "b": 60})
    assert splits_of(split_dataset(data, seed=1, test=0.2, val=0.1)[0]) != splits_of(
        split_dataset(data, seed=2, test=0.2, val=0.1)[0]
    )


def test_known_split_on_every_machine():
    """Pinned: a change of this list moves every user's images."""
    done, _ = split_dataset(dataset({"a": 8, "b": 8}), seed=0, test=0.25, val=0.25)
    assert [e.split for e in done.examples] == PINNED


def test_groups_stay_together():
    groups = {f"a/{i}": content("a0") for i in range(0, 40, 2)} | {"b/0": content("a0")}
    done, _ = split_dataset(dataset({"a": 60, "b": 60}, groups), seed=0, test=0.3, val=0.2)
    assert len({e.split for e in done.examples if e.name in groups}) == 1


@pytest.mark.parametrize("seed", range(20))
def test_every_class_is_in_every_split(seed):
    done, report = split_dataset(
        dataset(dict.fromkeys("abcdefgh", 3)), seed=seed, test=0.2, val=0.1
    )
    for label in "abcdefgh":
        assert Counter(e.split for e in done.examples if e.label == label) == Counter(
            ("train", "val", "test")
        )
    assert report.moved


def test_too_few_images_says_how_many_it_needs():
    with pytest.raises(TltoolError, match="'b' has 2 distinct images .* needs at least 3"):
        split_dataset(dataset({"a": 9, "b": 2}), seed=0, test=0.2, val=0.1)
    split_dataset(dataset({"a": 9, "b": 2}), seed=0, test=0.2, val=0.0)
    with pytest.raises(TltoolError, match="'b' has 1 distinct"):
        split_dataset(
            dataset({"a": 9, "b": 3}, {f"b/{i}": content("b0") for i in range(3)}),
            seed=0,
            test=0.2,
            val=0.0,
        )


def test_no_validation_split():
    _, report = split_dataset(dataset({"a": 60, "b": 60}), seed=0, test=0.2, val=0.0)
    assert set(report.sizes) == {"train", "test"}


@pytest.mark.parametrize(("test", "val"), [(0.0, 0.1), (1.0, 0.0), (0.6, 0.4), (0.2, -0.1)])
def test_impossible_shares(test, val):
    with pytest.raises(TltoolError, match="--test|--val"):
        split_dataset(dataset({"a": 9, "b": 9}), seed=0, test=test, val=val)


def test_given_splits_are_never_drawn_again():
    given = {f"{c}/{i}": "test" if i < 3 else "train" for c in "ab" for i in range(30)}
    data = dataset({"a": 30, "b": 30}, splits=given)
    for seed in range(3):
        done, report = split_dataset(data, seed=seed, test=0.5, val=0.2)
        assert {n for n, s in splits_of(done).items() if s == "test"} == {
            n for n, s in given.items() if s == "test"
        }
        assert report.given == ("train", "test")
        assert report.sizes["val"] > 0
    done, _ = split_dataset(data, seed=0, test=0.5, val=0.0)
    assert splits_of(done) == given


def test_a_drawn_split_holds_no_near_duplicate_of_a_given_one():
    """Validation images are fitted on in the end, and test images must not resemble those."""
    groups = {f"{label}/{i + 40}": content(f"{label}{i}") for label in "ab" for i in range(20)}
    splits = {f"{label}/{i}": "val" if i < 20 else "train" for label in "ab" for i in range(80)}
    for seed in range(5):
        done, _ = split_dataset(
            dataset({"a": 80, "b": 80}, groups, splits), seed=seed, test=0.3, val=0.1
        )
        tested = {e.group for e in done.of("test")}
        assert tested
        assert not tested & {e.group for e in done.of("train", "val")}


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_given_split_without_an_image_that_can_be_used(split):
    empty = replace(dataset({"a": 9, "b": 9}), given_splits=frozenset({"train", split}))
    with pytest.raises(TltoolError, match=f"brings a {split} split, and none of its images"):
        split_dataset(empty, seed=0, test=0.2, val=0.1)


def test_missing_test_split_comes_from_train(tmp_path):
    class_folders(tmp_path / "train", n=12)
    class_folders(tmp_path / "val", n=3, start=50)
    data, _ = check_listing(read_listing(tmp_path))
    done, report = split_dataset(data, seed=0, test=0.3, val=0.1)
    assert report.sizes["val"] == 9
    assert report.sizes["test"] > 0
    assert report.sizes["train"] + report.sizes["test"] == 36
    assert {e.label for e in done.of("test")} == set(done.labels)


def test_targets_follow_the_labels():
    data = dataset({"a": 2, "b": 1})
    np.testing.assert_array_equal(data.targets(data.examples), [0, 0, 1])


PINNED = "test val train train train test val train train val test train test train val val".split()
