"""Two classifiers on the same images: closed forms, and what chance does to the intervals."""

import json
import shutil
from dataclasses import replace
from math import comb

import numpy as np
import pytest
from conftest import class_folders
from typer.testing import CliRunner

import tltool
from tltool import TltoolError
from tltool.cli import app
from tltool.comparing import Entrant, comparison_of
from tltool.comparison import adjusted, compare_predictions, images_to_tell, mcnemar
from tltool.runs import Said


def said(right, k=3, sure=0.8, seed=0):
    """Probabilities of images of class 0, named right or wrong."""
    random = np.random.default_rng(seed)
    probabilities = np.full((len(right), k), (1 - sure) / (k - 1))
    named = np.where(right, 0, random.integers(1, k, len(right)))
    probabilities[np.arange(len(right)), named] = sure
    return probabilities


def pair(first, second):
    return compare_predictions(
        ("a", "b"), (said(first), said(second, seed=1)), np.zeros(len(first), int)
    )


@pytest.mark.parametrize(("one", "other"), [(0, 0), (1, 9), (5, 5), (0, 3), (30, 12)])
def test_mcnemar_is_a_sum_of_binomials(one, other):
    n, fewer = one + other, min(one, other)
    tail = sum(comb(n, i) for i in range(fewer + 1)) / 2**n
    assert mcnemar(one, other) == pytest.approx(min(1.0, 2 * tail))


def entrants(**right):
    """Who names so many of 200 images right."""
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, 200)
    hashes = tuple(f"{i:04d}" for i in range(200))
    found = []
    for name, n in right.items():
        hits = random.permutation(200) < n
        p = np.where(hits == (targets == 1), 0.9, 0.1)
        said = Said(hashes, hashes, targets, np.stack([1 - p, p], axis=1))
        found.append(Entrant(name, "", "", 0, ("a", "b"), said))
    return found


def test_the_best_pays_for_having_been_picked():
    """Holm over all pairs, not only over those of the run that was the best on these images."""
    of_all = entrants(a=180, b=172, c=176, d=168)
    found = comparison_of(of_all).pairs
    alone = [comparison_of([of_all[0], other]).pairs[0] for other in of_all[1:]]
    smallest = min(alone, key=lambda pair: pair.p_value)
    again = next(pair for pair in found if pair.second == smallest.second)
    assert again.p_value == pytest.approx(min(1, 6 * smallest.p_value))
    assert again.images > smallest.images
    assert (again.only_first, again.accuracy) == (smallest.only_first, smallest.accuracy)


def test_one_left_aside_leaves_the_others_compared():
    """A student that is the best hides nothing that is said of the ensemble and its members."""
    of_all = entrants(ensemble=180, student=190, member=170)
    pairs = [(p.first, p.second) for p in comparison_of(of_all, aside=1).pairs]
    assert pairs == [("student", "ensemble"), ("student", "member"), ("ensemble", "member")]
    assert [(p.first, p.second) for p in comparison_of(of_all).pairs] == pairs[:2]
    assert len(comparison_of(of_all, aside=0).pairs) == 2


def test_copies_of_an_image_count_once():
    first, second = entrants(a=180, b=172)
    twice = replace(
        first,
        said=Said(
            first.said.files * 2,
            first.said.hashes * 2,
            np.tile(first.said.targets, 2),
            np.tile(first.said.probabilities, (2, 1)),
        ),
    )
    found = comparison_of([twice, second])
    assert (found.n, found.notes) == (200, ())


def test_holm():
    """The example of Holm's method: 0.01, 0.04, 0.03 for three tests."""
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjusted([0.9]) == [0.9]
    assert adjusted([]) == []


class TestPair:
    def test_counts_and_differences(self):
        first = np.repeat([True, True, False, False], [60, 14, 6, 20])
        second = np.repeat([True, False, True, False], [60, 14, 6, 20])
        found = pair(first, second)
        assert (found.only_first, found.only_second, found.n) == (14, 6, 100)
        assert found.accuracy.value == pytest.approx(0.08)
        assert found.accuracy.low < 0 < found.accuracy.high
        wrong, right = -np.log(0.1), -np.log(0.8)
        assert found.log_loss.value == pytest.approx(-0.08 * (wrong - right))
        assert not found.told_apart
        assert "a is 8.0 points more accurate than b" in found.in_words()
        assert "cannot be told from noise; about 250 test images would tell" in found.in_words()

    def test_the_other_way_round(self):
        first, second = np.arange(200) < 100, np.arange(200) < 150
        found = pair(first, second)
        assert found.accuracy.value == -0.25
        assert found.accuracy.high < 0
        assert found.told_apart
        assert "b is 25.0 points more accurate than a" in found.in_words()
        assert "more than noise" in found.in_words()

    def test_alike(self):
        """Nothing tells them apart, and so few images cannot make that certain."""
        right = np.arange(20) < 15
        found = pair(right, right)
        assert (found.p_value, found.images) == (1.0, None)
        assert found.accuracy.low < 0 < found.accuracy.high
        assert "no difference in accuracy to tell" in found.in_words()

    def test_interval_holds_the_truth(self):
        """In 95 of 100 samples, whatever the classifiers have in common."""
        random, held = np.random.default_rng(0), 0
        for _ in range(200):
            kind = random.choice(4, 300, p=[0.70, 0.12, 0.06, 0.12])
            found = pair((kind == 0) | (kind == 1), (kind == 0) | (kind == 2))
            held += found.accuracy.low <= 0.06 <= found.accuracy.high
        assert 180 <= held <= 199

    def test_so_many_images_tell(self):
        """With as many as were named, four of five tests find the difference."""
        n = images_to_tell(14, 6, 100)
        random = np.random.default_rng(0)
        drawn = random.multinomial(n, [0.14, 0.06, 0.80], 2000)
        power = np.mean([mcnemar(int(a), int(b)) < 0.05 for a, b, _ in drawn])
        assert 0.72 < power < 0.84  # the exact test finds a little less than the formula says
        assert images_to_tell(7, 7, 100) is None
        assert images_to_tell(14, 6, 100, tests=10) > n


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on the same photos."""
    root = tmp_path_factory.mktemp("compared")
    data = class_folders(root / "photos", n=20)
    given = {"strategy": "off-the-shelf", "backbone": "cifar-resnet20", "store": root / "store"}
    for name, classifier in (("first", "lda"), ("second", "ridge")):
        tltool.adapt(data, out=root / name, classifier=classifier, test=0.4, **given)
    return root / "first", root / "second"


def copied(run, place):
    shutil.copytree(run, place)
    return place


def change(path, edit):
    path.write_text(edit(path.read_text("utf-8")), "utf-8")


class TestRuns:
    def test_figures_are_the_runs_own(self, runs):
        found = tltool.compare(runs)
        assert found.n == json.loads((runs[0] / "run.json").read_text())["n_test"]
        for one in found.runs:
            own = json.loads((tltool.Run(one.run).folder / "run.json").read_text())["metrics"]
            for name, interval in one.evaluation.metrics.items():
                assert interval.value == pytest.approx(own[name]["value"], abs=1e-6)
        accuracies = [one.evaluation.metrics["accuracy"].value for one in found.runs]
        assert accuracies == sorted(accuracies, reverse=True)
        assert found.pairs[0].first == found.runs[0].run
        assert found.notes == ()

    def test_classes_in_another_order(self, runs, tmp_path):
        """They are matched by name: a copy whose outputs are turned round is the same."""
        other = copied(runs[0], tmp_path / "turned")
        change(other / "labels.json", lambda text: json.dumps(json.loads(text)[::-1]))

        def turned(text):
            header, *rows = (line.split(",") for line in text.splitlines())
            return "\n".join(",".join([*r[:3], *r[:2:-1]]) for r in [header, *rows]) + "\n"

        change(other / "predictions.csv", turned)
        found = tltool.compare([runs[0], other]).pairs[0]
        assert (found.only_first, found.only_second) == (0, 0)
        assert found.log_loss.value == 0

    def test_only_common_images_count(self, runs, tmp_path):
        other = copied(runs[1], tmp_path / "fewer")
        change(other / "predictions.csv", lambda text: "\n".join(text.splitlines()[:-4]) + "\n")
        found = tltool.compare([runs[0], other])
        assert found.n == tltool.compare(runs).n - 4
        assert found.notes[0].endswith("which all runs were tested on.")

    def test_several_are_corrected_for(self, runs, tmp_path):
        third = copied(runs[1], tmp_path / "third")
        found = tltool.compare([*runs, third])
        single = tltool.compare(runs).pairs[0].p_value
        assert len(found.pairs) == 2
        assert all(p.p_value >= min(single, 1.0) for p in found.pairs)

    def test_command(self, runs):
        given = list(map(str, runs))
        shown = CliRunner().invoke(app, ["compare", *given])
        assert shown.exit_code == 0, shown.output
        assert all(name in shown.output for name in given)
        assert "that they have in common" in shown.output
        told = json.loads(CliRunner().invoke(app, ["compare", *given, "--json"]).output)
        assert set(told) == {"n", "runs", "pairs", "notes"}
        assert told["pairs"][0]["in_words"] == tltool.compare(runs).pairs[0].in_words()


class TestRefusals:
    def refused(self, runs):
        with pytest.raises(TltoolError) as refused:
            tltool.compare(runs)
        return str(refused.value)

    def test_too_few(self, runs):
        assert "at least two runs" in self.refused(runs[:1])
        assert "at least two runs" in self.refused(str(runs[0]))
        assert "is given twice" in self.refused([runs[0], runs[0]])

    def test_unfinished_or_gone(self, runs, tmp_path):
        other = copied(runs[1], tmp_path / "other")
        change(other / "run.json", lambda text: text.replace('"finished"', '"running"'))
        assert "tltool resume" in self.refused([runs[0], other])
        assert "does not exist" in self.refused([runs[0], tmp_path / "gone"])

    def test_other_classes(self, runs, tmp_path):
        other = copied(runs[1], tmp_path / "other")
        change(other / "labels.json", lambda text: text.replace("blue", "violet"))
        assert "knows the class 'violet'" in self.refused([runs[0], other])

    def test_other_images(self, runs, tmp_path):
        other = copied(runs[1], tmp_path / "other")
        change(other / "dataset.csv", lambda text: text.replace(",test,", ",test,f"))
        assert "not tested on the same images" in self.refused([runs[0], other])

    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (lambda text: "", "holds no predictions of test images"),
            (lambda text: text.replace("0.", "x."), "is damaged"),
        ],
    )
    def test_damaged_tables(self, runs, tmp_path, damage, said):
        other = copied(runs[1], tmp_path / "other")
        change(other / "predictions.csv", damage)
        assert said in self.refused([runs[0], other])
