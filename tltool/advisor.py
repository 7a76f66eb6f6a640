"""Which strategy, and why: from measures of a data set to advice, by rules in a preset.

Nothing is measured and no network is run here: numbers go in, numbers and sentences come out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from tltool._presets import AdvisorRules, advisor_rules, recipe_names
from tltool.advice import Advice, Evidence, Forecast, RankedBackbone, TapEvidence
from tltool.metrics import Interval

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
    chosen = _chosen(forecasts, rules)
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
    needed = _needed(evidence, own, target)
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
        _nearest(evidence, rules),
        dict(rules.references),
        _parts_at(evidence, rules),
        _learning_rate(evidence, rules),
        (),
        _notes(evidence, target, needed),
    )
    return _with_reasons(advice, own, rules)


def table_cell(evidence: Evidence, rules: AdvisorRules) -> tuple[str, str]:
    """Where a data set stands: "small" or "big", and "similar" or "not similar"."""
    size = "small" if evidence.size.of_each_class < rules.small else "big"
    distance = evidence.similarity.distance.value if evidence.similarity else 0.0
    return size, "not similar" if distance >= rules.far else "similar"


def table_strategy(evidence: Evidence, rules: AdvisorRules) -> str:
    """What the table alone says, "collect more data" included."""
    return rules.table[table_cell(evidence, rules)]


def predictors(evidence: Evidence) -> dict[str, float]:
    """What a strategy's gain over the linear probe may depend on."""
    distance = evidence.similarity.distance.value if evidence.similarity else 0.0
    return {
        "constant": 1.0,
        "images_of_each_class": math.log10(max(evidence.size.of_each_class, 1.0) / 20),
        "distance": math.sqrt(distance),
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
        measured = predictors(evidence)
        gain = sum(rules.gains[name].get(key, 0.0) * value for key, value in measured.items())
        middle = _logit(probe.value) + gain
        low, high = (
            1.645 * math.hypot(rules.spreads[name], spread) for spread in probe_spreads(probe)
        )
        found[name] = Interval(_expit(middle), _expit(middle - low), _expit(middle + high))
    return found


def told_by(evidence: Evidence, strategy: str, rules: AdvisorRules) -> TapEvidence:
    """The probe that a strategy's accuracy is told by."""
    if strategy in rules.backbones and evidence.pixels is not None:
        return evidence.pixels
    return _probed(evidence, strategy)


def probe_spreads(found: Interval) -> tuple[float, float]:
    """Standard errors of the logit of a share, downwards and upwards, of its 95 % interval."""
    middle = _logit(found.value)
    return (middle - _logit(found.low)) / 1.96, (_logit(found.high) - middle) / 1.96


def _chosen(forecasts: Sequence[Forecast], rules: AdvisorRules) -> Forecast:
    """The simplest of those that are within the margin of the best."""
    best = max(one.accuracy.value for one in forecasts)
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


def with_more(now: float, then: Interval, own: float, spread: float) -> Interval:
    """Off-the-shelf accuracy to expect with more images.

    Args:
        now: the learning curve's accuracy with those there are.
        then: with more, with a 90 % interval.
        own: off-the-shelf accuracy expected now: the classifier may do better than the probe.
        spread: standard deviation of what is not known of its logit.
    """
    middle = _logit(then.value)
    low = math.hypot(middle - _logit(then.low), 1.645 * spread)
    high = math.hypot(_logit(then.high) - middle, 1.645 * spread)
    middle += _logit(own) - _logit(now)
    return Interval(_expit(middle), _expit(middle - low), _expit(middle + high))


def _with_more(evidence: Evidence, own: Interval, times: int, rules: AdvisorRules) -> Interval:
    """Where there is no curve, it is no worse than now and may be perfect."""
    if evidence.curve is None:
        return Interval(own.value, own.low, 1.0)
    n = evidence.size.images
    now, then = evidence.curve.accuracy(n).value, evidence.curve.accuracy(n * times)
    return with_more(now, then, own.value, rules.spreads[rules.order[0]])


def _needed(evidence: Evidence, own: Interval, target: float | None) -> Interval | None:
    """Images of each class for an accuracy, by the curve that `_with_more` tells from."""
    if target is None or evidence.curve is None:
        return None
    ahead = _logit(own.value) - _logit(evidence.curve.accuracy(evidence.size.images).value)
    found = evidence.curve.images_for(_expit(_logit(target) - ahead))
    if found is None:
        return None
    return Interval(*(max(1.0, n / evidence.size.classes) for n in asdict(found).values()))


def _probed(evidence: Evidence, strategy: str) -> TapEvidence:
    """The layer whose features a strategy is to use.

    The backbone's own tap, unless the network stays as it is and another one's features are better
    by more than chance makes.
    """
    own = evidence.probe
    best = max(evidence.taps, key=lambda tap: tap.accuracy.value)
    better = strategy in _ON_FEATURES and best.accuracy.low > own.accuracy.high
    return best if better else own


def _nearest(evidence: Evidence, rules: AdvisorRules) -> str | None:
    if evidence.similarity is None:
        return None
    distance = evidence.similarity.distance.value
    return min(rules.references, key=lambda name: abs(rules.references[name] - distance))


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
        if distance < rules.apart:
            break
        found = block
    return found


def _learning_rate(evidence: Evidence, rules: AdvisorRules) -> tuple[float, float]:
    """Of SGD with a momentum of 0.9, by distance."""
    distance = evidence.similarity.distance.value if evidence.similarity else 0.0
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
    if evidence.curve is None:
        notes.append(
            f"{evidence.size.images} images are too few for a learning curve, so what more of them "
            "would bring cannot be told."
        )
    if target is not None and evidence.curve is not None and needed is None:
        notes.append(
            f"The learning curve does not reach an accuracy of {target:.3g}, however many images; "
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
            f"they lie {distance.value:.3f} from the images that the network was trained on, about "
            f"as far as {advice.nearest} ({advice.references[str(advice.nearest)]:.3f})"
        )
    first = (
        f"There are {size.images:,} images to learn from, {size.of_each_class:.0f} of each class "
        f"on average, and {where}."
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
        second += ", which is no more than its trouble is worth"
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
