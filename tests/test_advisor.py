"""From measures to advice: the table cell by cell, and rules whose outcome can be told by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from tltool._presets import advisor_rules
from tltool.advice import Evidence, Race, Similarity, Size, TapEvidence
from tltool.advisor import (
    advise_on,
    expected_accuracies,
    predictors,
    ranked,
    table_cell,
    table_strategy,
)
from tltool.learning_curve import fit_curve
from tltool.metrics import Interval
from tltool.strategies import STRATEGIES

STRATEGY_NAMES = ("off-the-shelf", "frozen-head", "fine-tune", "from-scratch")


def tap(accuracy=0.8, half=0.02, name="avgpool", log_evidence=0.5):
    return TapEvidence(
        name, Interval(accuracy, accuracy - half, accuracy + half), 0.7, log_evidence, 3.0
    )


def evidence(of_each=20, classes=10, distance=0.01, curve=None, by_block=None, **changed):
    near = Similarity(
        Interval(distance, distance * 0.9, distance * 1.1), by_block or {}, "mobilenet-0.25"
    )
    n = of_each * classes
    facts = {
        "backbone": "mobilenet-0.25",
        "size": Size(n, classes, of_each, n),
        "similarity": near,
        "taps": (tap(),),
        "curve": curve,
        "forward": 0.001,
        "scratch_forward": 0.002,
        "multiply_adds": 4e7,
        "views": 10,
    }
    return Evidence(**facts | changed)


def rules(**gains):
    """Rules whose forecasts are the probe's logit and a constant."""
    return replace(
        advisor_rules(),
        gains={
            name: {"constant": gains.get(name.replace("-", "_"), 0.0)} for name in STRATEGY_NAMES
        },
        spreads=dict.fromkeys(STRATEGY_NAMES, 0.0),
        costs={
            name: {"start": 10.0 * i, "image": 0.01, "passes": 100.0, "spread": 0.5}
            for i, name in enumerate(STRATEGY_NAMES)
        },
    )


def curve_of(errors, n=2000):
    hardness = (np.arange(n) + 0.5) / n
    sizes = np.array([25, 50, 100, 200])[: len(errors)]
    return fit_curve(sizes, (hardness[None] > np.array(errors)[:, None]).astype(float), seed=0)


@pytest.mark.parametrize(
    ("of_each", "distance", "cell", "strategy"),
    [
        (10, 0.01, ("small", "similar"), "frozen-head"),
        (10, 0.10, ("small", "not similar"), "collect more data"),
        (500, 0.01, ("big", "similar"), "fine-tune"),
        (500, 0.10, ("big", "not similar"), "from-scratch"),
    ],
)
def test_the_usual_table(of_each, distance, cell, strategy):
    given = evidence(of_each, distance=distance)
    assert table_cell(given, advisor_rules()) == cell
    assert table_strategy(given, advisor_rules()) == strategy
    advice = advise_on(given, rules=rules())
    assert (advice.cell, advice.table) == (cell, strategy)
    assert strategy in advice.table_in_words  # off-the-shelf is advised in all of them


def test_where_the_table_says_the_same_nothing_is_said():
    advice = advise_on(evidence(500), rules=rules(fine_tune=1.0))
    assert advice.strategy == "fine-tune"
    assert advice.table_in_words is None


def test_expected_accuracies_are_linear_in_logits():
    given = evidence()
    found = expected_accuracies(given, rules(fine_tune=0.5))
    own = math.log(0.8 / 0.2)
    assert found["off-the-shelf"].value == pytest.approx(0.8)
    assert found["fine-tune"].value == pytest.approx(1 / (1 + math.exp(-own - 0.5)))
    spread = (own - math.log(0.78 / 0.22)) / 1.96
    low = 1 / (1 + math.exp(-own + 1.645 * spread))
    assert found["off-the-shelf"].low == pytest.approx(low)
    sure = evidence(taps=(TapEvidence("avgpool", Interval(1.0, 0.929, 1.0), 1.0, 0.5, 3.0),))
    least = expected_accuracies(sure, rules())["off-the-shelf"].low
    assert 0.9 < least < 0.97  # little surer than Wilson's 95 % interval: this is one of 90 %
    noisy = replace(rules(), spreads=dict.fromkeys(STRATEGY_NAMES, 0.3))
    wider = expected_accuracies(given, noisy)["off-the-shelf"]
    low = 1 / (1 + math.exp(-own + 1.645 * math.hypot(0.3, spread)))
    assert wider.low == pytest.approx(low)


def test_what_images_cannot_tell_speaks_for_no_costlier_strategy():
    """Where the probe is right about all 30 images, better than that cannot be known."""
    sure = TapEvidence("avgpool", Interval(1.0, 0.88, 1.0), 1.0, 0.5, 3.0)
    told = replace(rules(from_scratch=0.8), margin=0.0)
    advice = advise_on(evidence(3, taps=(sure,)), rules=told)
    assert advice.strategy == "off-the-shelf"
    assert "which is more than so few images can tell" in advice.reasons[1]
    assert advise_on(evidence(3, taps=(tap(0.8),)), rules=told).strategy == "from-scratch"


def test_gains_follow_from_size_distance_and_the_probe():
    """Of 200 images of each class at a distance of 0.04 whose probe is right for 80 %."""
    gain = {"images_of_each_class": 0.3, "distance": 2.0, "probe": -0.1, "constant": 0.05}
    own = math.log(0.8 / 0.2)
    told = replace(rules(), gains=rules().gains | {"fine-tune": gain})
    found = expected_accuracies(evidence(200, distance=0.04), told)["fine-tune"].value
    expected = own + 0.3 * math.log10(200 / 20) + 2.0 * 0.2 - 0.1 * own + 0.05
    assert found == pytest.approx(1 / (1 + math.exp(-expected)))


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ({}, "off-the-shelf"),
        ({"frozen_head": 0.01}, "off-the-shelf"),  # within the margin: 0.16 points
        ({"frozen_head": 0.1}, "frozen-head"),
        ({"frozen_head": 0.1, "fine_tune": 0.11}, "frozen-head"),
        ({"fine_tune": 0.5}, "fine-tune"),
        ({"fine_tune": 0.5, "from_scratch": 1.0}, "from-scratch"),
    ],
)
def test_the_simplest_within_the_margin_of_the_best(gains, expected):
    advice = advise_on(evidence(), rules=rules(**gains))
    assert advice.strategy == expected
    values = [one.accuracy.value for one in advice.forecasts]
    assert values == sorted(values, reverse=True)


def test_only_some_strategies_to_choose_from():
    given = ("fine-tune", "from-scratch")
    advice = advise_on(evidence(), strategies=given, rules=rules(frozen_head=2.0))
    assert advice.strategy == "fine-tune"
    assert {one.strategy for one in advice.forecasts} == set(given)


def test_from_scratch_brings_its_own_network():
    advice = advise_on(evidence(), rules=rules(from_scratch=2.0))
    assert advice.settings == {"strategy": "from-scratch", "backbone": "cifar-resnet20"}


def test_seconds_by_passes_on_this_machine():
    by_name = {one.strategy: one.seconds for one in advise_on(evidence(), rules=rules()).forecasts}
    found = by_name["frozen-head"]  # nine more views than the passes of the rules
    assert found.value == pytest.approx(10 + 200 * (0.01 + (100 + 9) * 0.001))
    assert found.high / found.value == pytest.approx(math.exp(1.645 * 0.5))
    assert by_name["from-scratch"].value == pytest.approx(30 + 200 * (0.01 + 100 * 0.002))


def test_views_where_there_is_time_for_them():
    assert advise_on(evidence(), rules=rules()).settings["views"] == "auto"
    slow = evidence(multiply_adds=4e9)  # 200 images, ten views: 8e12
    assert advise_on(slow, rules=rules()).settings["views"] == "1"


@pytest.mark.parametrize(
    ("by_block", "expected"),
    [
        ({"stem": 0.01, "block1": 0.01, "block2": 0.01}, None),
        ({"stem": 0.01, "block1": 0.05, "block2": 0.06}, "block1"),
        ({"stem": 0.20, "block1": 0.01, "block2": 0.06}, "block2"),
        ({"stem": 0.20, "block1": 0.20, "block2": 0.01}, None),
        ({"stem": 0.20, "block1": 0.20, "block2": 0.20}, "stem"),
    ],
)
def test_the_block_from_which_on_domains_part(by_block, expected):
    advice = advise_on(evidence(by_block=by_block), rules=rules(fine_tune=1.0))
    assert advice.parts_at == expected
    assert advice.settings.get("unfreeze") == expected


@pytest.mark.parametrize(("other", "expected"), [(0.9, "block6"), (0.83, None), (0.5, None)])
def test_a_tap_that_is_better_by_more_than_chance(other, expected):
    given = evidence(taps=(tap(0.8), tap(other, name="block6")))
    advice = advise_on(given, rules=rules())
    assert advice.settings.get("tap") == expected
    by_name = {one.strategy: one.accuracy.value for one in advice.forecasts}
    assert by_name["frozen-head"] == pytest.approx(max(0.8, other) if expected else 0.8)
    assert by_name["fine-tune"] == pytest.approx(0.8)
    assert advice.as_json()["tap"] == (expected or "avgpool")
    assert "tap" not in advise_on(given, rules=rules(fine_tune=1.0)).settings


def test_the_recipe_that_it_follows():
    assert advise_on(evidence(), rules=rules()).recipe is None
    assert advise_on(evidence(), rules=rules(fine_tune=1.0)).recipe == "fine-tune"


@pytest.mark.parametrize(
    ("distance", "name", "low", "high"),
    [
        (0.005, "Caltech-101", 1e-4, 1e-3),
        (0.075, "CIFAR-10, enlarged", 1e-3, 1e-2),
        (0.16, "digits, enlarged", 1e-2, 1e-1),
    ],
)
def test_reference_points_and_learning_rates(distance, name, low, high):
    advice = advise_on(evidence(distance=distance), rules=rules(fine_tune=1.0))
    assert advice.nearest == name
    assert advice.learning_rate == (low, high)
    for strategy in ({}, {"from_scratch": 2.0}):
        assert advise_on(evidence(distance=distance), rules=rules(**strategy)).learning_rate is None


@pytest.mark.parametrize(
    ("distance", "cell", "words"),
    [
        (0.0, "similar", "about as far as CIFAR-10 (0.000)"),
        (0.001, "similar", "between CIFAR-10 (0.000) and Caltech-101, reduced (0.003)"),
        (0.04, "not similar", "about as far as digits (0.038)"),
        (0.3, "not similar", "farther than blood cells (0.127)"),
    ],
)
def test_each_source_has_a_scale_of_its_own(distance, cell, words):
    """Digits lie 0.16 from networks of ImageNet and 0.04 from those of CIFAR-10."""
    near = Similarity(Interval(distance, 0.0, 0.5), {"stem": 0.02}, "cifar-resnet20", "CIFAR-10")
    advice = advise_on(evidence(similarity=near), rules=rules(fine_tune=1.0))
    assert advice.cell[1] == cell
    assert words in advice.reasons[0]
    assert advice.parts_at == "stem"
    assert advice.as_json()["similarity"]["far"] == pytest.approx(0.025)
    imagenet = advise_on(evidence(distance=distance), rules=rules(fine_tune=1.0))
    assert words not in imagenet.reasons[0]


def test_nearer_than_anything_known():
    advice = advise_on(evidence(distance=0.001), rules=rules())
    assert "nearer than Caltech-101 (0.006)" in advice.reasons[0]


def test_what_is_always_right_may_be_perfect_and_is_not_expected_to_be():
    """Nine of nine tell little; forty of forty more."""
    expected = []
    for of_each in (3, 20):
        sure = (TapEvidence("avgpool", Interval(1.0, 0.7, 1.0), 1.0, 0.5, 3.0),)
        given = evidence(of_each, classes=2, taps=sure)
        found = expected_accuracies(given, rules())["off-the-shelf"]
        assert found.high == 1.0
        expected.append(found.value)
    assert expected[0] == pytest.approx(1 - 0.5 / 7)
    assert expected[1] == pytest.approx(1 - 0.5 / 41)


def test_a_target_beyond_what_can_be_told_is_not_lowered():
    curve = curve_of(0.2 * np.array([25, 50, 100, 200]) ** -1.0 * 200)
    for target in (0.999, 0.99999):
        advice = advise_on(evidence(curve=curve), rules=rules(), target=target)
        told = f"does not reach an accuracy of {target}"
        assert advice.needed is None or advice.needed.value > 100
        assert (advice.needed is None) == any(told in note for note in advice.notes)
    assert advice.needed is None


def test_images_that_are_needed_are_whole_and_agree_with_what_more_bring():
    curve = curve_of(0.2 * np.array([25, 50, 100, 200]) ** -0.5 * 200**0.5, n=200)
    noisy = replace(rules(), spreads=dict.fromkeys(STRATEGY_NAMES, 0.2))
    given = evidence(curve=curve)
    wished = advise_on(given, rules=noisy).more[4].low
    needed = advise_on(given, rules=noisy, target=wished).needed
    assert needed.value == int(needed.value)
    assert needed.high == pytest.approx(80, abs=1)  # four times twenty of each class
    copied = replace(given, size=Size(200, 10, 20, 100))  # each image twice
    assert advise_on(copied, rules=noisy, target=wished).needed.high == pytest.approx(40, abs=1)


def test_a_class_of_one_image_is_told_of():
    given = evidence()
    thin = replace(given, size=replace(given.size, smallest_class=1))
    assert any("A class of one image" in n for n in advise_on(thin, rules=rules()).notes)
    assert not any("A class of one image" in n for n in advise_on(given, rules=rules()).notes)


def test_what_more_images_bring():
    curve = curve_of(0.2 * np.array([25, 50, 100, 200]) ** -0.5 * 200**0.5)
    advice = advise_on(evidence(curve=curve), rules=rules(), target=0.9)
    assert advice.more[2].value == pytest.approx(1 - 0.2 / 2**0.5, abs=0.01)
    assert advice.more[4].value == pytest.approx(0.9, abs=0.015)
    assert advice.more[4].low < advice.more[4].value < advice.more[4].high
    assert advice.needed.value == pytest.approx(80, rel=0.3)  # four times twenty of each class
    better = advise_on(evidence(curve=curve), rules=rules(off_the_shelf=0.5), target=0.9)
    assert better.needed.value < 0.8 * advice.needed.value
    assert better.more[4].value > advice.more[4].value + 0.02
    assert "collecting more" in advice.reasons[2]


def test_too_few_for_a_curve_is_said_and_nothing_invented():
    advice = advise_on(evidence(2), rules=rules(), target=0.9)
    assert advice.more[2].value == pytest.approx(0.8)
    assert advice.more[2].high == 1.0
    assert advice.needed is None
    assert any("too few for a learning curve" in note for note in advice.notes)


def test_an_accuracy_that_is_never_reached():
    curve = curve_of([0.5, 0.45, 0.43, 0.42])
    advice = advise_on(evidence(curve=curve), rules=rules(), target=0.99)
    assert advice.needed is None
    assert any("does not reach an accuracy of 0.99" in note for note in advice.notes)


def test_where_nothing_remembers_the_source():
    advice = advise_on(evidence(similarity=None), rules=rules())
    assert advice.cell == ("small", "similar")
    assert advice.nearest is None
    assert any("Nothing tells how far" in note for note in advice.notes)
    assert advice.as_json()["similarity"] is None


def test_measured_with_another_network():
    near = Similarity(Interval(0.01, 0.01, 0.01), {"block1": 0.5}, "mobilenet-0.25")
    advice = advise_on(evidence(similarity=near, backbone="vgg16"), rules=rules(fine_tune=1.0))
    assert advice.parts_at == "block1"
    assert "unfreeze" not in advice.settings  # its blocks are not vgg16's
    assert any("measured with mobilenet-0.25" in note for note in advice.notes)


def test_backbones_by_what_their_features_are_worth():
    found = [
        evidence(backbone="a", taps=(tap(0.7),)),
        evidence(backbone="b", taps=(tap(0.9),)),
        evidence(backbone="c", taps=(tap(0.8, log_evidence=0.9),)),
    ]
    assert [one.backbone for one in ranked(found)] == ["c", "b", "a"]


def test_from_scratch_is_told_by_the_pixels():
    """No network stands between: what it is worth does not depend on the backbone's features."""
    for own in (0.3, 0.9):
        given = evidence(taps=(tap(own),), pixels=tap(0.8, name="pixels"))
        found = expected_accuracies(given, rules(from_scratch=0.5))
        expected = 1 / (1 + math.exp(-(math.log(0.8 / 0.2) + 0.5)))
        assert found["from-scratch"].value == pytest.approx(expected)
        assert found["fine-tune"].value == pytest.approx(own)
    without = expected_accuracies(evidence(taps=(tap(0.9),)), rules())
    assert without["from-scratch"].value == pytest.approx(0.9)
    advice = advise_on(evidence(taps=(tap(0.5),), pixels=tap(0.9, name="pixels")), rules=rules())
    assert (advice.strategy, "tap" in advice.settings) == ("from-scratch", False)
    assert advice.as_json()["pixels"]["tap"] == "pixels"


def test_as_json():
    curve = curve_of([0.4, 0.3, 0.25, 0.2])
    advice = advise_on(evidence(curve=curve), rules=rules(), target=0.9)
    assert advice.needed.high == math.inf
    race = Race((), 20, "off-the-shelf", True, "The advice held.")
    found = json.loads(json.dumps(replace(advice, race=race).as_json(), allow_nan=False))
    assert next(iter(found["similarity"])) == "distance"
    assert found["similarity"]["distance"] == {
        "value": 0.01,
        "low": pytest.approx(0.009),
        "high": pytest.approx(0.011),
    }
    assert {"name": "Caltech-101", "distance": 0.006} in found["similarity"]["references"]
    assert found["images_of_each_class_for_target"]["high"] is None
    assert [one["strategy"] for one in found["expected"]]
    assert len(found["reasons"]) == 3
    assert found["race"]["held"] is True


def test_the_preset_knows_every_strategy_that_is_advised():
    found = advisor_rules()
    advised = set(STRATEGIES) - {"feature-ensemble"}
    assert set(found.order) == advised == set(found.gains) == set(found.costs)
    assert set(found.table.values()) <= {*STRATEGIES, "collect more data"}
    assert all(value >= 0 for cost in found.costs.values() for value in cost.values())
    assert found.curve_widening >= 1
    measured = set(predictors(evidence(), found))
    assert all(set(gain) == measured for gain in found.gains.values())
    advice = advise_on(evidence())
    assert advice.strategy in STRATEGIES
    assert all(0 < one.accuracy.low < one.accuracy.high < 1 for one in advice.forecasts)
