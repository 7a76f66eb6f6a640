"""Which strategy, and why: from measures of a data set to advice, by rules in a preset.

Nothing is measured and no network is run here: numbers go in, numbers and sentences come out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tltool._presets import AdvisorRules, DistanceScale, advisor_rules, recipe_names
from tltool.advice import Advice, Evidence, Forecast, RankedBackbone, TapEvidence
from tltool.learning_curve import first_reaching
from tltool.metrics import Interval, logit_of_share

__all__ = [
    "advise_on",
    "boundary_of",
    "expected_accuracies",
    "predictors",
    "probe_spreads",
    "ranked",
    "table_cell",
    "table_strategy",
    "with_more",
]

# Strategies that leave the network as it is.
_ON_FEATURES = ("off-the-shelf", "frozen-head")

# Nothing is taken to be more certain than this, either way.
_SURE = 1e-3

# Distances are not told apart below this, and names stand for those up to so many times as far.
_NEAREST = 3e-4
_ABOUT = 1.5


def advise_on(
    evidence: Evidence,
    *,
    target: float | None = None,
    strategies: Sequence[str] | None = None,
    rules: AdvisorRules | None = None,
) -> Advice:
    """What to do with a data set and a backbone.

    Args:
        evidence: what was measured.
        target: an accuracy that is wished for.
        strategies: those to choose from; None for all.
        rules: thresholds and coefficients; None for those of `presets/advisor.toml`.
    """
    rules = rules or advisor_rules()
    allowed = [name for name in rules.order if strategies is None or name in strategies]
    accuracies = expected_accuracies(evidence, rules)
    views = "auto" if _views_are_affordable(evidence, rules) else "1"
    forecasts = [
        Forecast(name, accuracies[name], _seconds(name, evidence, views, rules)) for name in allowed
    ]
    chosen = _chosen(forecasts, evidence.size.effective, rules)
    forecasts.sort(key=lambda one: -one.accuracy.value)
    own = accuracies[rules.order[0]]
    settings: dict[str, Any] = {"strategy": chosen.strategy, "backbone": evidence.backbone}
    if chosen.strategy in rules.backbones:
        settings["backbone"] = rules.backbones[chosen.strategy]
    else:
        settings["views"] = views
    boundary = boundary_of(evidence, rules)
    if chosen.strategy == "fine-tune" and boundary is not None:
        settings["unfreeze"] = boundary
    probed = _probed(evidence, chosen.strategy)
    if probed is not evidence.probe:
        settings["tap"] = probed.tap
    scale = _scale(evidence, rules)
    needed = None if target is None else _needed(evidence, own, target, rules)
    advice = Advice(
        evidence,
        table_cell(evidence, rules),
        table_strategy(evidence, rules),
        chosen.strategy,
        settings,
        chosen.strategy if chosen.strategy in recipe_names() else None,
        tuple(forecasts),
        {times: _with_more(evidence, own, times, rules) for times in (2, 4, 10)},
        needed,
        target,
        _nearest(evidence, scale),
        dict(scale.references),
        rules.far * scale.unit,
        _parts_at(evidence, rules),
        _learning_rate(evidence, rules) if chosen.strategy == "fine-tune" else None,
        (),
        _notes(evidence, target, needed),
    )
    return _with_reasons(advice, own, rules)


def table_cell(evidence: Evidence, rules: AdvisorRules) -> tuple[str, str]:
    """Where a data set stands: "small" or "big", and "similar" or "not similar"."""
    size = "small" if evidence.size.of_each_class < rules.small else "big"
    return size, "not similar" if _distance(evidence, rules) >= rules.far else "similar"


def table_strategy(evidence: Evidence, rules: AdvisorRules) -> str:
    """What the table alone says, "collect more data" included."""
    return rules.table[table_cell(evidence, rules)]


def _scale(evidence: Evidence, rules: AdvisorRules) -> DistanceScale:
    """How distances from the source of the network are read."""
    return rules.sources["ImageNet" if evidence.similarity is None else evidence.similarity.source]


def _distance(evidence: Evidence, rules: AdvisorRules) -> float:
    """In units of the source; 0 where nothing tells."""
    if evidence.similarity is None:
        return 0.0
    return evidence.similarity.distance.value / _scale(evidence, rules).unit


def predictors(evidence: Evidence, rules: AdvisorRules) -> dict[str, float]:
    """What a strategy's gain over the linear probe may depend on.

    The probe is among it: where it is right about nearly everything, by chance or not, there is
    less to gain by going on from it.
    """
    probe = logit_of_share(evidence.probe.accuracy.value, evidence.size.effective)
    return {
        "constant": 1.0,
        "images_of_each_class": math.log10(max(evidence.size.of_each_class, 1.0) / 20),
        "distance": math.sqrt(_distance(evidence, rules)),
        "probe": probe,
    }


def expected_accuracies(evidence: Evidence, rules: AdvisorRules) -> dict[str, Interval]:
    """Of each strategy the accuracy to expect, with a 90 % interval.

    The logit of a linear probe's cross-validated accuracy, and a gain that is linear in
    `predictors`. What is trained from scratch knows no more than the pixels: the probe is one of
    them, there.
    """
    found = {}
    for name in rules.order:
        probe = told_by(evidence, name, rules).accuracy
        measured = predictors(evidence, rules)
        gain = sum(rules.gains[name].get(key, 0.0) * value for key, value in measured.items())
        n = evidence.size.effective
        middle = logit_of_share(probe.value, n) + gain
        low, high = (
            1.645 * math.hypot(rules.spreads[name], spread) for spread in probe_spreads(probe, n)
        )
        found[name] = _told(middle, middle - low, middle + high, n)
    return found


def _told(middle: float, low: float, high: float, n: int) -> Interval:
    """Of logits, that n images tell: they cannot tell what comes nearer to 1 than half of one."""
    high = _expit(high)
    return Interval(_expit(middle), _expit(low), 1.0 if high > _most(n) else high)


def _most(n: int) -> float:
    """The share nearest to 1 that n images tell."""
    return 1 - 0.5 / (n + 1)


def told_by(evidence: Evidence, strategy: str, rules: AdvisorRules) -> TapEvidence:
    """The probe that a strategy's accuracy is told by."""
    if strategy in rules.backbones and evidence.pixels is not None:
        return evidence.pixels
    return _probed(evidence, strategy)


def probe_spreads(found: Interval, n: int) -> tuple[float, float]:
    """Standard errors of the logit of a share of n images, downwards and upwards, of its 95 %
    interval."""
    middle = logit_of_share(found.value, n)
    low, high = middle - _logit(found.low), _logit(found.high) - middle
    return max(low, 0.0) / 1.96, max(high, 0.0) / 1.96


def _chosen(forecasts: Sequence[Forecast], n: int, rules: AdvisorRules) -> Forecast:
    """The simplest of those within the margin of the best, or of the most that n images tell."""
    best = min(max(one.accuracy.value for one in forecasts), _most(n))
    return next(one for one in forecasts if one.accuracy.value >= best - rules.margin)


def _views_are_affordable(evidence: Evidence, rules: AdvisorRules) -> bool:
    """By multiply-adds, not by the clock: the same data get the same advice again."""
    work = evidence.multiply_adds * evidence.size.images * evidence.views
    return work <= rules.views_multiply_adds


def _seconds(strategy: str, evidence: Evidence, views: str, rules: AdvisorRules) -> Interval:
    """What a strategy takes: a start, so many passes of each image, and those of its views."""
    cost = rules.costs[strategy]
    scratch = strategy in rules.backbones
    forward = evidence.scratch_forward if scratch else evidence.forward
    passes = cost["passes"] + (0 if scratch or views == "1" else evidence.views - 1)
    value = cost["start"] + evidence.size.images * (cost["image"] + passes * forward)
    factor = math.exp(1.645 * cost["spread"])
    return Interval(value, value / factor, value * factor)


def with_more(now: float, then: Interval, own: float, spread: float, n: int) -> Interval:
    """Off-the-shelf accuracy to expect with more images.

    Args:
        now: the learning curve's accuracy with those there are.
        then: with more, with a 90 % interval.
        own: off-the-shelf accuracy expected now: the classifier may do better than the probe.
        spread: standard deviation of what is not known of its logit.
        n: images that tell of it.
    """
    middle = _logit(then.value)
    low = math.hypot(middle - _logit(then.low), 1.645 * spread)
    high = math.hypot(_logit(then.high) - middle, 1.645 * spread)
    middle += _logit(own) - _logit(now)
    return _told(middle, middle - low, middle + high, n)


def _with_more(evidence: Evidence, own: Interval, times: float, rules: AdvisorRules) -> Interval:
    """Where there is no curve, it is no worse than now and may be perfect."""
    if evidence.curve is None:
        return Interval(own.value, own.low, 1.0)
    n, size = evidence.size.images, evidence.size
    now, then = evidence.curve.accuracy(n).value, evidence.curve.accuracy(n * times)
    return with_more(now, then, own.value, rules.spreads[rules.order[0]], size.effective)


def _needed(
    evidence: Evidence, own: Interval, target: float, rules: AdvisorRules
) -> Interval | None:
    """Images of each class for an accuracy: where value and ends of `_with_more` reach it."""
    size = evidence.size
    if evidence.curve is None:
        return None

    def first(end: str) -> float:
        def reached(n: float) -> float:
            return float(getattr(_with_more(evidence, own, n / size.images, rules), end))

        return first_reaching(reached, target)

    value, soonest, latest = first("value"), first("high"), first("low")
    if not math.isfinite(value):
        return None
    of_class = size.effective / (size.images * max(size.classes, 1))
    found = (value, min(soonest, value), max(latest, value))
    return Interval(*(max(1.0, math.ceil(n * of_class) if n < math.inf else n) for n in found))


def _probed(evidence: Evidence, strategy: str) -> TapEvidence:
    """The layer whose features a strategy is to use.

    The backbone's own tap, unless the network stays as it is and another one's features are better
    by more than chance makes.
    """
    own = evidence.probe
    best = max(evidence.taps, key=lambda tap: tap.accuracy.value)
    better = strategy in _ON_FEATURES and best.accuracy.low > own.accuracy.high
    return best if better else own


def _nearest(evidence: Evidence, scale: DistanceScale) -> str | None:
    if evidence.similarity is None:
        return None
    logarithm = math.log(max(evidence.similarity.distance.value, _NEAREST))
    return min(
        scale.references,
        key=lambda name: abs(math.log(max(scale.references[name], _NEAREST)) - logarithm),
    )


def _far_as(advice: Advice, distance: float) -> str:
    """Where a distance stands among the references, in words."""

    def named(name: str) -> str:
        return f"{name} ({advice.references[name]:.3f})"

    nearest = str(advice.nearest)
    apart = max(distance, _NEAREST) / max(advice.references[nearest], _NEAREST)
    if 1 / _ABOUT <= apart <= _ABOUT:
        return f"about as far as {named(nearest)}"
    order = sorted(advice.references, key=lambda name: advice.references[name])
    beyond = [name for name in order if advice.references[name] > distance]
    if not beyond:
        return f"farther than {named(order[-1])}"
    place = order.index(beyond[0])
    if place == 0:
        return f"nearer than {named(beyond[0])}"
    return f"between {named(order[place - 1])} and {named(beyond[0])}"


def boundary_of(evidence: Evidence, rules: AdvisorRules) -> str | None:
    """The block to unfreeze from on, where the domains part in the network itself."""
    near = evidence.similarity
    if near is None or near.measured_with != evidence.backbone:
        return None
    return _parts_at(evidence, rules)


def _parts_at(evidence: Evidence, rules: AdvisorRules) -> str | None:
    """The lowest block from which on all blocks are apart from the source."""
    found = None
    by_block = {} if evidence.similarity is None else evidence.similarity.by_block
    for block, distance in reversed(list(by_block.items())):
        if distance < rules.apart * _scale(evidence, rules).unit:
            break
        found = block
    return found


def _learning_rate(evidence: Evidence, rules: AdvisorRules) -> tuple[float, float]:
    """Of SGD with a momentum of 0.9, by distance."""
    distance = _distance(evidence, rules)
    for step in rules.learning_rates:
        if distance < step["below"]:
            return step["low"], step["high"]
    last = rules.learning_rates[-1]
    return last["low"], last["high"]


def _notes(evidence: Evidence, target: float | None, needed: Interval | None) -> tuple[str, ...]:
    notes = []
    if evidence.similarity is None:
        notes.append(
            f"Nothing tells how far the images are from those that {evidence.backbone} was trained "
            "on, so they were taken to be similar."
        )
    elif evidence.similarity.measured_with != evidence.backbone:
        notes.append(
            f"{evidence.backbone} has no batch normalisation that remembers its source, so the "
            f"distance was measured with {evidence.similarity.measured_with}, which was trained "
            "on the same images."
        )
    if evidence.size.smallest_class < 2:
        notes.append(
            "A class of one image can never be right while it is held out, so it counts as missed "
            "in what is expected; give more of its images."
        )
    if evidence.curve is None:
        notes.append(
            f"{evidence.size.images} images are too few for a learning curve, so what more of them "
            "would bring cannot be told."
        )
    if target is not None and evidence.curve is not None and needed is None:
        notes.append(
            f"The learning curve does not reach an accuracy of {target:g}, however many images; "
            "another backbone may, or fine-tuning."
        )
    return tuple(notes)


def ranked(found: Sequence[Evidence]) -> tuple[RankedBackbone, ...]:
    """Backbones by LogME of their features, of equals by what a linear probe on them is worth.

    On the grid of `benchmarks/advisor.py` the first by LogME loses far less than the first by the
    probe: where images are few, chance moves the probe more.
    """
    order = sorted(found, key=lambda e: (-e.probe.log_evidence, -e.probe.accuracy.value))
    return tuple(
        RankedBackbone(
            one.backbone,
            one.probe,
            one.forward,
            None if one.similarity is None else one.similarity.distance.value,
        )
        for one in order
    )


def _with_reasons(advice: Advice, own: Interval, rules: AdvisorRules) -> Advice:
    """The same with its three sentences."""
    size, by_name = advice.evidence.size, {one.strategy: one for one in advice.forecasts}
    where = "how far they are from the source cannot be told"
    if advice.evidence.similarity is not None:
        distance = advice.evidence.similarity.distance
        where = (
            f"they lie {distance.value:.3f} from the images that the network was trained on, "
            f"{_far_as(advice, distance.value)}"
        )
    copies = ""
    if size.effective < size.images:
        copies = f" ({size.effective:,} without near-duplicates)"
    first = (
        f"There are {size.images:,} images to learn from{copies}, {size.of_each_class:.0f} of each "
        f"class on average, and {where}."
    )
    chosen = by_name[advice.strategy].accuracy
    others = [one for one in advice.forecasts if one.strategy != advice.strategy]
    second = (
        f"A linear probe on the features is right for {_percent(advice.evidence.probe.accuracy)}; "
        f"from that, {advice.strategy} is expected to reach {_percent(chosen)}"
    )
    if others:
        best = others[0]
        second += f", and {best.strategy}, the next, {_percent(best.accuracy)}"
    if others and others[0].accuracy.value > chosen.value:
        gained = others[0].accuracy.value - chosen.value
        why = f"too little more for what {others[0].strategy} takes"
        if gained > rules.margin:
            why = "more than so few images can tell"
        second += f", which is {why}"
    if advice.evidence.curve is None:
        third = "What more images would bring cannot be told from so few."
    else:
        gain = advice.more[2].value - own.value
        third = (
            f"Twice the images would bring off-the-shelf features to {_percent(advice.more[2])}"
            + (
                ", so collecting more is the surest gain."
                if gain >= rules.worth_collecting
                else "."
            )
        )
    return replace(advice, reasons=(first, second + ".", third))


def _percent(interval: Interval) -> str:
    """ "84.0 % (82.7 to 85.3)"."""
    value, low, high = (100 * v for v in (interval.value, interval.low, interval.high))
    return f"{value:.1f} % ({low:.1f} to {high:.1f})"


def _logit(p: float) -> float:
    p = min(max(p, _SURE), 1 - _SURE)
    return math.log(p / (1 - p))


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x))
