"""Power laws through points that lie on one, and intervals that hold what is to come."""

import numpy as np
import pytest

from tltool.learning_curve import first_reaching, fit_curve


def hits(errors, n, seed=0):
    """Of n images whether each was right, the harder ones wrong at every size."""
    hardness = (np.arange(n) + 0.5) / n
    order = np.random.default_rng(seed).permutation(n)
    return (hardness[order][None] > np.asarray(errors)[:, None]).astype(float)


@pytest.mark.parametrize(("floor", "scale", "slope"), [(0.0, 1.2, 0.5), (0.1, 2.0, 0.7)])
def test_points_on_a_curve_give_it_back(floor, scale, slope):
    sizes = np.array([50, 100, 200, 400, 800])
    errors = floor + scale * sizes**-slope
    curve = fit_curve(sizes, hits(errors, 20_000), seed=0)
    for n in (400, 1600, 3200):
        assert curve.accuracy(n).value == pytest.approx(1 - floor - scale * n**-slope, abs=0.006)
    expected = curve.accuracy(1600)
    assert expected.low < expected.value < expected.high
    assert expected.high - expected.low < 0.05


def test_fewer_images_tell_less():
    sizes = np.array([50, 100, 200, 400])
    errors = 1.2 * sizes**-0.5
    widths = []
    for n in (50, 500, 5000):
        expected = fit_curve(sizes, hits(errors, n), seed=0).accuracy(800)
        assert expected.low < 1 - 1.2 * 800**-0.5 < expected.high
        widths.append(expected.high - expected.low)
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_intervals_hold_twice_the_data_nine_times_in_ten():
    """Images drawn anew each time, from a law that the curve does not know."""
    sizes = np.array([40, 80, 160, 320])
    held = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        slope, floor = random.uniform(0.2, 0.8), random.uniform(0, 0.15)
        scale = random.uniform(0.3, 0.8) * 40**slope
        hardness = random.uniform(size=300)
        errors = floor + scale * sizes**-slope
        found = fit_curve(sizes, (hardness > errors[:, None]).astype(float), seed=seed)
        expected = found.accuracy(640)
        held += expected.low <= 1 - floor - scale * 640**-slope <= expected.high
    assert held >= 50


def test_where_nothing_is_wrong_the_interval_says_how_sure_that_is():
    curve = fit_curve(np.array([10, 20, 40]), np.ones((3, 40)), seed=0)
    expected = curve.accuracy(80)
    assert expected.value == 1.0
    assert 0.9 < expected.low < 0.9999
    lows = []
    for n in (40, 300):
        wide = fit_curve(np.array([10, 20, 40]), np.ones((3, n)), seed=0, widening=2.0)
        lows.append(wide.accuracy(80).low)
    assert 0.6 < lows[0] < lows[1] < 0.99
    assert lows[1] > 0.95


def test_images_for_an_accuracy():
    sizes = np.array([50, 100, 200, 400])
    curve = fit_curve(sizes, hits(1.5 * sizes**-0.5, 20_000), seed=0)
    wanted = first_reaching(lambda n: curve.accuracy(n).value, 0.95)
    assert wanted == pytest.approx(900, rel=0.15)
    assert curve.accuracy(wanted).value >= 0.95
    assert curve.accuracy(wanted - 2).value < 0.95
    assert first_reaching(lambda n: curve.accuracy(n).value, 0.0) == 1


def test_an_accuracy_out_of_reach():
    sizes = np.array([50, 100, 200, 400])
    curve = fit_curve(sizes, hits(0.3 + 1.5 * sizes**-0.9, 20_000), seed=0)
    assert first_reaching(lambda n: curve.accuracy(n).value, 0.9) == np.inf


def test_more_images_never_hurt():
    """Points that rise by chance give a flat curve."""
    curve = fit_curve(np.array([10, 20, 40]), hits([0.2, 0.25, 0.3], 1000), seed=0)
    assert curve.accuracy(80).value == pytest.approx(0.75, abs=0.01)


def test_two_points_tell_no_curve():
    assert fit_curve(np.array([10, 20]), np.ones((2, 40)), seed=0) is None


def test_widening():
    sizes = np.array([50, 100, 200, 400])
    shown = hits(1.5 * sizes**-0.5, 500)
    narrow = fit_curve(sizes, shown, seed=0).accuracy(800)
    wide = fit_curve(sizes, shown, seed=0, widening=2.0).accuracy(800)
    assert wide.value == narrow.value
    assert wide.high - wide.low > 1.7 * (narrow.high - narrow.low)


def test_ends_never_fall_with_more_images():
    """Stretched about a rising value they would: the lower one from some number on."""
    curve = fit_curve(np.array([10, 20, 40]), hits([0.5, 0.4, 0.3], 60), seed=0, widening=3.0)
    told = [curve.accuracy(40 * times) for times in (1, 2, 4, 10, 50, 200, 10_000)]
    for end in ("low", "value", "high"):
        ends = [getattr(one, end) for one in told]
        assert ends == sorted(ends), end
    plain = [curve._interval(40.0 * times, 0.9).low for times in (1, 10, 10_000)]
    assert plain[2] < plain[1]


def test_copies_tell_no_more():
    sizes, once = np.array([40, 80, 160]), hits([0.4, 0.3, 0.2], 100)
    four = np.repeat(once, 4, axis=1)
    alone = fit_curve(sizes, once, seed=0).accuracy(320)
    copied = fit_curve(sizes, four, seed=0, groups=np.repeat(np.arange(100), 4)).accuracy(320)
    assert (copied.value, copied.low, copied.high) == pytest.approx(
        (alone.value, alone.low, alone.high)
    )
    believed = fit_curve(sizes, four, seed=0).accuracy(320)
    assert believed.high - believed.low < 0.8 * (copied.high - copied.low)
