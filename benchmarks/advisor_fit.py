"""From the grid of `advisor.py` to the advisor's coefficients, and what its advice is worth."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
from scipy import optimize, special, stats

from tltool._presets import AdvisorRules, advisor_rules
from tltool.advice import Evidence, Similarity, Size, TapEvidence
from tltool.advisor import (
    advise_on,
    expected_accuracies,
    predictors,
    probe_spreads,
    table_strategy,
    told_by,
    with_more,
)
from tltool.evidence import source_of
from tltool.learning_curve import widened
from tltool.metrics import Interval, logit_of_share, simplest_of_the_best

__all__ = ["fit"]

PRESET = Path(__file__).parents[1] / "presets" / "advisor.toml"
MARK = "# Fitted on benchmarks/advisor.csv from here on."
TWICE = "off-the-shelf, twice the images"
# What acts like "collect more data" today.
MEANWHILE = "off-the-shelf"
# On the squared coefficients: a gain is near the mean one unless the grid says otherwise.
PENALTY = 0.3
LEVEL = 0.9
SPREADS = np.arange(0.02, 2.0, 0.02)
# Thresholds that are tried.
MARGINS = (0.0, 0.0025, 0.005, 0.01, 0.015, 0.02)
SMALL = (10, 25, 50, 75, 150)
FAR = (0.01, 0.025, 0.05, 0.1, 0.14)


@dataclass
class Cell:
    """One draw of a set, seen by one backbone."""

    base: str
    draw: tuple[str, str, str]
    evidence: Evidence
    row: dict[str, str]
    tested_on: int = 0
    accuracy: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    twice: float | None = None


def fit(results: Path, *, write: bool, figure: Path | None) -> None:
    """Print what the advice is worth, bases left out one at a time; write what was fitted."""
    cells = read_cells(results)
    rules = advisor_rules()
    order = rules.order
    whole = [cell for cell in cells if set(order) <= set(cell.accuracy)]
    print(f"{len(cells)} cells, {len(whole)} with all strategies, bases: {sorted(bases(cells))}")
    regrets, tables, always, residuals = [], defaultdict(list), defaultdict(list), defaultdict(list)
    for base in sorted(bases(whole)):
        others = [c for c in whole if c.base != base]
        learned = with_thresholds(fitted_rules(rules, others), others)
        for cell in (c for c in whole if c.base == base):
            best = max(cell.accuracy[name] for name in order)
            advice = advise_on(cell.evidence, rules=learned)
            regrets.append((cell, advice.strategy, best - cell.accuracy[advice.strategy]))
            tables["the table, fitted on other bases"].append(table_regret(cell, learned))
            tables["the table"].append(table_regret(cell, rules))
            for name in order:
                always[name].append(best - cell.accuracy[name])
            for one in advice.forecasts:
                reached = logit_of_share(cell.accuracy[one.strategy], cell.tested_on)
                off = reached - logit_of_share(one.accuracy.value, cell.tested_on)
                held = one.accuracy.low <= cell.accuracy[one.strategy] <= one.accuracy.high
                residuals[one.strategy].append((off, held))
    print("\nregret in points             mean   90 %  worst")
    print_regret("advice, bases left out", [r for *_, r in regrets])
    for name, found in tables.items():
        print_regret(name, found)
    for name in order:
        print_regret(f"always {name}", always[name])
    by_set = defaultdict(list)
    for cell, _, regret in regrets:
        by_set[cell.draw[0]].append(regret)
    print(
        "\nof the advice, by set: "
        + ", ".join(f"{name} {100 * np.mean(r):.2f}" for name, r in sorted(by_set.items()))
    )
    named = [strategy for _, strategy, _ in regrets]
    print("advised: " + ", ".join(f"{name} {named.count(name)}" for name in order))
    for name in order:
        off, held = np.array(residuals[name]).T
        print(
            f"  {name}: 90 % intervals hold {100 * held.mean():.0f} %, logit off by {off.std():.2f}"
        )
    factor = report_curves(cells, rules)
    report_ranking(cells)
    if figure is not None:
        draw(whole, figure)
    if write:
        final = with_thresholds(fitted_rules(rules, whole), whole)
        final = replace(final, curve_widening=factor)
        write_preset(final, costs(whole, order))


def draw(cells: Sequence[Cell], path: Path) -> None:
    """Size against distance, coloured by the best strategy; larger where choosing matters more."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = {
        "off-the-shelf": "#1b6ca8",
        "frozen-head": "#5fb49c",
        "fine-tune": "#e08e45",
        "from-scratch": "#9b2335",
    }
    markers = ("o", "s", "^", "D")
    figure, axis = plt.subplots(figsize=(9, 5.5), layout="constrained")
    rules, names = advisor_rules(), sorted({cell.evidence.backbone for cell in cells})
    jitter = np.random.default_rng(0)
    for cell in cells:
        order = sorted(cell.accuracy, key=lambda name: -cell.accuracy[name])
        ahead = cell.accuracy[order[0]] - cell.accuracy[order[1]]
        assert cell.evidence.similarity is not None
        axis.scatter(
            cell.evidence.size.of_each_class * math.exp(jitter.uniform(-0.12, 0.12)),
            cell.evidence.similarity.distance.value
            / rules.sources[cell.evidence.similarity.source].unit,
            s=25 + 1200 * ahead,
            c=colours[order[0]],
            marker=markers[names.index(cell.evidence.backbone)],
            alpha=0.7,
            linewidths=0,
        )
    for name, colour in colours.items():
        axis.scatter([], [], c=colour, s=60, label=f"{name} is best")
    for name, marker in zip(names, markers, strict=False):
        axis.scatter([], [], c="grey", s=60, marker=marker, label=name)
    axis.axvline(rules.small, color="grey", linewidth=0.8)
    axis.axhline(rules.far, color="grey", linewidth=0.8)
    axis.set(xscale="log", xlabel="images of each class", ylabel="distance, in the source's units")
    axis.set_title("Larger marks: the best strategy is further ahead of the next. Lines: the table")
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def read_cells(path: Path) -> list[Cell]:
    """Cells, the fits from scratch shared by all backbones of a draw."""
    cells: dict[tuple[str, ...], Cell] = {}
    scratch: dict[tuple[str, ...], dict[str, str]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            draw = (row["set"], row["per_class"], row["seed"])
            cell = cells.setdefault(
                (*draw, row["backbone"]), Cell(row["base"], draw, evidence_of(row), row)
            )
            cell.tested_on = int(row["tested_on"])
            if row["strategy"] == TWICE:
                if int(row["fitted_on"]) >= 1.9 * int(row["images"]) and row["twice"]:
                    cell.twice = float(row["accuracy"])
            elif row["strategy"] == "from-scratch":
                scratch[draw] = row
            else:
                cell.accuracy[row["strategy"]] = float(row["accuracy"])
                cell.seconds[row["strategy"]] = float(row["seconds"])
    for cell in cells.values():
        if cell.draw in scratch:
            cell.accuracy["from-scratch"] = float(scratch[cell.draw]["accuracy"])
            cell.seconds["from-scratch"] = float(scratch[cell.draw]["seconds"])
    return list(cells.values())


def evidence_of(row: dict[str, str]) -> Evidence:
    number = {name: float(value) for name, value in row.items() if is_number(value)}
    distance = Interval(number["distance"], number["distance_low"], number["distance_high"])
    probe = Interval(number["probe"], number["probe_low"], number["probe_high"])
    tap = TapEvidence("own", probe, number["neighbours"], number["log_evidence"], number["h_score"])
    told = Interval(number["pixels"], number["pixels_low"], number["pixels_high"])
    pixels = TapEvidence("pixels", told, number["pixels_neighbours"], 0.0, 0.0)
    return Evidence(
        row["backbone"],
        Size(*(int(row[k]) for k in ("images", "classes", "smallest_class", "effective"))),
        Similarity(distance, {}, row["backbone"], source_of(row["backbone"])),
        (tap,),
        None,
        number["forward"],
        number["scratch_forward"],
        number["multiply_adds"],
        pixels=pixels,
    )


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def bases(cells: Iterable[Cell]) -> set[str]:
    return {cell.base for cell in cells}


def fitted_rules(rules: AdvisorRules, cells: Sequence[Cell]) -> AdvisorRules:
    """Gains, and the spreads with which nine of ten intervals hold of bases that are left out."""
    if not cells:
        raise SystemExit("Give results of two base sets at least: one is left out at a time.")
    found = sorted(bases(cells))
    off: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for base in found:
        others = [c for c in cells if c.base != base] if len(found) > 1 else cells
        gains, inside = fitted_gains(rules, others), [c for c in cells if c.base == base]
        x = predicted(rules, inside)
        for strategy, (told, shares) in told_and_reached(rules, inside).items():
            expected = told + x @ list(gains[strategy].values())
            for cell, share, middle in zip(inside, shares, expected, strict=True):
                left = logit_of_share(share, cell.tested_on) - middle
                off[strategy].append((left, *own_spreads(cell.evidence, strategy, rules)))
    spreads = {}
    for strategy in rules.order:
        left, low, high = np.array(off[strategy]).T
        known = np.where(left < 0, low, high)
        held = ((s, np.mean(abs(left) <= 1.645 * np.hypot(s, known))) for s in SPREADS)
        spreads[strategy] = float(next((s for s, share in held if share >= LEVEL), SPREADS[-1]))
    return replace(rules, gains=fitted_gains(rules, cells), spreads=spreads)


def fitted_gains(rules: AdvisorRules, cells: Sequence[Cell]) -> dict[str, dict[str, float]]:
    """By logistic regression of shares, on top of what the probe tells; every set weighs the same.

    A gain in logits counts for less where nearly all is right, as it does in points. Source: Papke
    and Wooldridge, "Econometric methods for fractional response variables", 1996; quadratic penalty
    on all but the constant.
    """
    names = list(predictors(cells[0].evidence, rules))
    x = predicted(rules, cells)
    sets = [cell.draw[0] for cell in cells]
    weights = np.array([1 / sets.count(name) for name in sets])
    weights *= len(cells) / weights.sum()
    penalty = np.where(np.array(names) == "constant", 0.0, PENALTY)
    gains = {}
    for strategy, (told, shares) in told_and_reached(rules, cells).items():

        def loss(beta, told=told, shares=shares):
            scores = told + x @ beta
            off = weights * (special.expit(scores) - shares)
            likelihood = weights @ (np.logaddexp(0, scores) - shares * scores)
            return likelihood + 0.5 * penalty @ beta**2, x.T @ off + penalty * beta

        found = optimize.minimize(loss, np.zeros(len(names)), jac=True, method="BFGS").x
        gains[strategy] = dict(zip(names, found.tolist(), strict=True))
    return gains


def predicted(rules: AdvisorRules, cells: Sequence[Cell]) -> np.ndarray:
    """What gains may depend on, a row for each cell."""
    return np.array([list(predictors(cell.evidence, rules).values()) for cell in cells])


def told_and_reached(
    rules: AdvisorRules, cells: Sequence[Cell]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each strategy the logits that a probe tells, and the accuracies that it reached."""

    def told(cell: Cell, strategy: str) -> float:
        value = told_by(cell.evidence, strategy, rules).accuracy.value
        return logit_of_share(value, cell.evidence.size.effective)

    return {
        name: (
            np.array([told(cell, name) for cell in cells]),
            np.array([cell.accuracy[name] for cell in cells]),
        )
        for name in rules.order
    }


def with_thresholds(rules: AdvisorRules, cells: Sequence[Cell]) -> AdvisorRules:
    """The margin of the advice, and the table's thresholds with which that loses least.

    Each base is judged by gains of the others. The margin is the largest, which names the simplest
    strategies, that loses no more than one standard error above the one that loses least (Breiman
    et al., 1984): margins differ by little, so that chance says which loses least. Of equal
    thresholds those nearest to the rules' are taken.
    """
    advised: dict[float, list[float]] = defaultdict(list)
    for base in sorted(bases(cells)):
        others = [c for c in cells if c.base != base]
        if not others:
            continue
        gains = fitted_gains(rules, others)
        for margin in MARGINS:
            one = replace(rules, gains=gains, margin=margin)
            advised[margin] += [
                max(cell.accuracy[name] for name in rules.order)
                - cell.accuracy[advise_on(cell.evidence, rules=one).strategy]
                for cell in cells
                if cell.base == base
            ]
    largest_first = {m: np.array(advised[m]) for m in sorted(MARGINS, reverse=True)}
    margin = simplest_of_the_best(largest_first) if advised else rules.margin

    def lost(pair: tuple[float, float]) -> tuple[float, float]:
        small, far = pair
        table = replace(rules, small=small, far=far)
        off = abs(math.log(small / rules.small)) + abs(math.log(far / rules.far))
        return round(float(np.mean([table_regret(cell, table) for cell in cells])), 6), off

    small, far = min(product(SMALL, FAR), key=lost)
    return replace(rules, margin=margin, small=small, far=far)


def table_regret(cell: Cell, rules: AdvisorRules) -> float:
    """What the table's strategy loses; collecting more is what it is today."""
    named = table_strategy(cell.evidence, rules)
    named = named if named in rules.order else MEANWHILE
    return max(cell.accuracy[name] for name in rules.order) - cell.accuracy[named]


def own_spreads(evidence: Evidence, strategy: str, rules: AdvisorRules) -> tuple[float, float]:
    """What is not known of the probe, downwards and upwards."""
    told = told_by(evidence, strategy, rules).accuracy
    return probe_spreads(told, evidence.size.effective)


def costs(cells: Sequence[Cell], order: Sequence[str]) -> dict[str, dict[str, float]]:
    """Seconds: a start, and of each image a constant and so many passes; relative errors count.

    Of a strategy with a network of its own all is put down to passes, which no constant can be told
    apart from: they are what differs from machine to machine.
    """
    found = {}
    for name in order:
        rows, seconds = [], []
        for cell in cells:
            n, evidence = cell.evidence.size.images, cell.evidence
            own = name in advisor_rules().backbones
            forward = evidence.scratch_forward if own else evidence.forward
            rows.append([1.0, 0.0 if own else n, n * forward])
            seconds.append(cell.seconds[name])
        x, y = np.array(rows), np.array(seconds)
        solved, _ = optimize.nnls(x / y[:, None], np.ones(len(y)))
        left = np.log(y / np.maximum(x @ solved, 1e-9))
        start, image, passes = (float(v) for v in solved)
        found[name] = {
            "start": start,
            "image": image,
            "passes": passes,
            "spread": float(left.std()),
        }
    return found


def report_curves(cells: Sequence[Cell], rules: AdvisorRules) -> float:
    """How often the printed interval for twice the data holds; returns the factor on its width.

    The rules and the factor are those of the other bases.
    """
    known = [cell for cell in cells if cell.twice is not None]
    held = []
    for base in sorted(bases(known)):
        others = [cell for cell in known if cell.base != base]
        learned = fitted_rules(rules, [c for c in others if set(rules.order) <= set(c.accuracy)])
        factor = widening(others, learned)
        held += [inside(cell, learned, factor) for cell in known if cell.base == base]
    learned = fitted_rules(rules, [c for c in known if set(rules.order) <= set(c.accuracy)])
    factor = widening(known, learned)
    print(
        f"\ntwice the data: 90 % intervals hold {100 * np.mean(held):.0f} % of {len(held)}, bases "
        f"left out; factor on their width {factor:.2f}; without it "
        f"{100 * np.mean([inside(c, learned, 1.0) for c in known]):.0f} %"
    )
    return factor


def widening(cells: Sequence[Cell], rules: AdvisorRules) -> float:
    """The smallest factor with which so many intervals hold."""
    factors = np.arange(1.0, 8.0, 0.05)
    shares = ((f, np.mean([inside(c, rules, f) for c in cells])) for f in factors)
    return float(next((f for f, share in shares if share >= LEVEL), 8.0))


def inside(cell: Cell, rules: AdvisorRules, factor: float) -> bool:
    """Whether the accuracy with twice the data is in the interval that `advise` would print, but
    for its ends, which there never fall below those with fewer images."""
    then = Interval(*(float(cell.row[name]) for name in ("twice", "twice_low", "twice_high")))
    then = widened(then, factor, cell.evidence.size.effective)
    own = expected_accuracies(cell.evidence, rules)[MEANWHILE].value
    now, spread = float(cell.row["curve"]), rules.spreads[MEANWHILE]
    found = with_more(now, then, own, spread, cell.evidence.size.effective)
    return found.low <= float(cell.twice or 0) <= found.high


def report_ranking(cells: Sequence[Cell]) -> None:
    """What the backbone loses that a score puts first, of off-the-shelf accuracy.

    Of two backbones, Kendall's tau says no more than how often the right one came first.
    """
    draws = defaultdict(list)
    for cell in cells:
        if "off-the-shelf" in cell.accuracy:
            draws[cell.draw].append(cell)
    draws = {draw: found for draw, found in draws.items() if len(found) > 1}
    print("\nbackbones, first by      loses of the best, mean points   weighted Kendall tau")
    for name in ("probe", "neighbours", "log_evidence", "h_score"):
        lost, taus = [], []
        for found in draws.values():
            scores = [float(cell.row[name]) for cell in found]
            reached = [cell.accuracy["off-the-shelf"] for cell in found]
            lost.append(max(reached) - reached[int(np.argmax(scores))])
            taus.append(stats.weightedtau(scores, reached).statistic)
        print(f"{name:24} {100 * np.mean(lost):6.2f} {np.nanmean(taus):30.2f}")


def print_regret(name: str, regrets: Sequence[float]) -> None:
    r = 100 * np.array(regrets)
    print(f"{name:26} {r.mean():6.2f} {np.quantile(r, 0.9):6.2f} {r.max():6.2f}")


def write_preset(rules: AdvisorRules, found: dict[str, dict[str, float]]) -> None:
    """Replace what was fitted before."""
    lines = [MARK, "", "[choice]", f"margin = {rules.margin:g}", ""]
    for name in rules.order:
        lines.append(f"[gains.{name}]")
        lines += [f"{key} = {value:.3f}" for key, value in rules.gains[name].items()]
        lines += [f"spread = {rules.spreads[name]:.3f}", ""]
    for name, cost in found.items():
        lines.append(f"[costs.{name}]")
        lines += [f"{key} = {value:.4g}" for key, value in cost.items()]
        lines.append("")
    lines += ["[curve]", f"widening = {rules.curve_widening:.2f}"]
    text = PRESET.read_text("utf-8")
    PRESET.write_text(text[: text.index(MARK)] + "\n".join(lines) + "\n", "utf-8")
    print(f"\nwrote {PRESET}")
