"""Lines over numbers: where each point, tick and band lies."""

import math
import re

import numpy as np
import pytest

from tltool.report.charts import HEIGHT, WIDTH, Series, line_chart
from tltool.report.pages import _environment


def places(points):
    return [tuple(map(float, point.split(","))) for point in points.split()]


def numbers(chart):
    """All places of a chart: (x, y) of what is drawn in it, and those of marks at its axes."""
    points = [place for line in chart.lines for place in places(f"{line.points} {line.band}")]
    points += [dot[:2] for line in chart.lines for dot in line.dots]
    marks = [place for place, _ in (*chart.x_marks, *chart.y_marks)]
    return points, marks + ([] if chart.mark is None else [chart.mark])


def drawn(chart):
    """The chart as a page shows it."""
    text = '{% from "charts.html.j2" import line_chart %}{{ line_chart(chart) }}'
    return _environment().from_string(text).render(chart=chart)


def test_points_lie_where_the_numbers_say():
    chart = line_chart("t", [Series("a", [0, 1, 4], [2.0, 3.0, 6.0])], "x")
    assert places(chart.lines[0].points) == [(0, HEIGHT), (WIDTH / 4, HEIGHT * 3 / 4), (WIDTH, 0)]
    assert chart.lines[0].band == "" and chart.lines[0].dots == ()


def test_series_share_their_axes():
    chart = line_chart("t", [Series("a", [0, 2], [0, 1]), Series("b", [1, 4], [2, 4])], "x")
    assert places(chart.lines[0].points) == [(0, HEIGHT), (WIDTH / 2, HEIGHT * 3 / 4)]
    assert places(chart.lines[1].points) == [(WIDTH / 4, HEIGHT / 2), (WIDTH, 0)]
    assert [line.style for line in chart.lines] == [0, 1]


def test_a_named_range_is_kept_to():
    series = Series("a", [0, 1, 2], [-1.0, 0.5, 9.0], dots=True)
    chart = line_chart("t", [series], "x", y_range=(0.0, 1.0))
    assert [y for _, y in places(chart.lines[0].points)] == [HEIGHT, HEIGHT / 2, 0]
    assert chart.lines[0].dots[2] == (WIDTH, 0, "a: 9 at 2")  # what is said is what is so


def test_bands_go_there_above_and_come_back_below():
    series = Series("a", [0, 1], [0.5, 0.5], [0.25, 0.0], [0.75, 1.0])
    (line,) = line_chart("t", [series], "x").lines
    corners = [(0, 0.75), (1, 1.0), (1, 0.0), (0, 0.25)]
    assert places(line.band) == [(WIDTH * x, HEIGHT * (1 - y)) for x, y in corners]
    assert places(line.points) == [(0, HEIGHT / 2), (WIDTH, HEIGHT / 2)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, ["0", "0.25", "0.5", "0.75", "1"]),
        (0.31, 0.94, ["0.4", "0.6", "0.8"]),
        (0, 180, ["0", "50", "100", "150"]),
        (-2, 2, ["-2", "-1", "0", "1", "2"]),
        (0.001, 0.0031, ["0.001", "0.002", "0.003"]),
    ],
)
def test_ticks_are_round_numbers_at_their_heights(low, high, expected):
    chart = line_chart("t", [Series("a", [0, 1], [low, high])], "x")
    assert [text for _, text in chart.y_marks] == expected
    for place, text in chart.y_marks:
        share = (float(text) - low) / (high - low)
        assert place == pytest.approx(HEIGHT * (1 - share), abs=0.06)


def test_ticks_across_are_at_their_places():
    chart = line_chart("t", [Series("a", [0, 40], [0, 1])], "x")
    assert [(place * 40 / WIDTH, text) for place, text in chart.x_marks] == [
        (x, f"{x}") for x in (0, 10, 20, 30, 40)
    ]


def test_equal_ratios_are_equally_far_apart_on_a_log_axis():
    chart = line_chart("t", [Series("a", [5, 50, 500], [0, 1, 2])], "x", log_x=True)
    assert [x for x, _ in places(chart.lines[0].points)] == [0, WIDTH / 2, WIDTH]
    assert chart.x_marks == ((0, "5"), (WIDTH / 2, "50"), (WIDTH, "500"))


def test_names_stand_below_their_numbers():
    names = ["stem", "stage1", "stage2"]
    series = Series("a", [0, 1, 2], [0.5, 0.6, 0.7], dots=True)
    chart = line_chart("t", [series], "layer", names=names, mark=1)
    assert chart.x_marks == ((0, "stem"), (WIDTH / 2, "stage1"), (WIDTH, "stage2"))
    assert chart.mark == WIDTH / 2
    assert [text for _, _, text in chart.lines[0].dots][1] == "a: 0.6 at stage1"
    assert chart.description == "t by layer: a from 0.5 at stem to 0.7 at stage2."


def test_of_many_names_some_are_shown():
    names = [f"block{i}" for i in range(30)]
    chart = line_chart("t", [Series("a", range(30), range(30))], "layer", names=names)
    assert len(chart.x_marks) >= 5 and chart.x_marks[0] == (0, "block0")
    places = [place for place, _ in chart.x_marks]
    assert min(np.diff(places)) > 6.5 * len("block10")  # letters of 12 pixels are about so wide


def test_one_point():
    chart = line_chart("t", [Series("a", [1 / 3], [0.4], dots=True)], "x", mark=1 / 3)
    assert places(chart.lines[0].points) == [(0, 0)]
    assert [text for _, text in chart.x_marks] == ["0.333333"] and chart.mark == 0
    logarithmic = line_chart("t", [Series("a", [7], [0.4])], "x", log_x=True)
    assert logarithmic.x_marks == ((0, "7"),)


@pytest.mark.parametrize(("value", "height"), [(0.5, 0), (-2.0, HEIGHT), (0.0, HEIGHT)])
@pytest.mark.parametrize("named", [False, True])
def test_the_axis_of_equal_values_goes_to_zero(value, height, named):
    bounds = (value, value) if named else None
    chart = line_chart("t", [Series("a", [0, 1], [value, value])], "x", y_range=bounds)
    assert places(chart.lines[0].points) == [(0, height), (WIDTH, height)]
    marks = [text for _, text in chart.y_marks]
    assert len(set(marks)) == len(marks) > 2 and "0" in marks


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_left_out(lost):
    series = Series("a", [0, 1, 2], [0.1, lost, 0.3], [0.0, 0.1, 0.2], [0.2, 0.3, 0.4], dots=True)
    band = Series("b", [0, 1, 2], [0.1, 0.2, 0.3], [0.0, lost, 0.2], [0.2, 0.3, 0.4])
    chart = line_chart("t", [series, band, Series("c", [0, 1], [lost, lost])], "x")
    assert [line.name for line in chart.lines] == ["a", "b"]
    for line in chart.lines:
        assert [x for x, _ in places(line.points)] == [0, WIDTH]
        assert len(places(line.band)) == 4
    assert len(chart.lines[0].dots) == 2
    assert not {"nan", "inf"} & set(re.findall("[a-z]+", drawn(chart)))


def test_nothing_to_draw():
    for series in ([], [Series("a", [], [])], [Series("a", [0.0], [math.nan])]):
        chart = line_chart("t", series, "x")
        assert chart.lines == ()
        assert numbers(chart)[0] == [] and all(map(math.isfinite, numbers(chart)[1]))
        assert "polyline" not in drawn(chart)


@pytest.mark.parametrize("xs", [[0], [3, 3], [0, 1e-9], [1e9, 2e9], [-5, 0, 5]])
@pytest.mark.parametrize("ys", [0.0, 1e-12, 1e12, -3.0])
def test_all_numbers_are_finite_and_inside(xs, ys):
    series = [Series("a", xs, [ys * (i % 2) for i in range(len(xs))], dots=True)]
    chart = line_chart("t", series, "x", mark=xs[0])
    points, marks = numbers(chart)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert all(0 <= place <= WIDTH for place in marks)  # false of NaN, too


def test_names_are_escaped_and_legends_told():
    nasty = "<b>a & 'b'</b>"
    series = [Series(nasty, [0, 1], [0, 1], dots=True), Series("other", [0, 1], [1, 0])]
    page = drawn(line_chart(nasty, series, nasty))
    assert "<b>a" not in page and page.count("&lt;b&gt;a &amp; &#39;b&#39;") >= 4
    assert "— other" in page
    assert "—" not in drawn(line_chart("t", series[1:], "x"))  # one line needs no legend
