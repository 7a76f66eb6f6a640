"""The DeCAF table on any folder and backbone, and this project's recipes below it.

    TLTOOL_WEIGHTS=FOLDER python benchmarks/decaf.py caltech101/101_ObjectCategories

For each seed, per class (sorted) `default_rng(seed).permutation` of the sorted files from one
generator; the first 30 train, the next 50 at most test; the figure is the mean over classes of
the class's accuracy. Everything is chosen by cross-validation on the training images. Of `auto`
the table also tells what it expected of itself, and for how many seeds the 95 % interval of that
difference, paired by class, holds zero.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from tltool._presets import backbone_preset, recipe_names
from tltool.data import Dataset, Example, check_listing, read_listing
from tltool.features import FeatureStore
from tltool.settings import AdaptSettings

# Published, on Caltech-101 with 30 images a class, in percent: Donahue et al. 2013, table 1.
PUBLISHED = {
    ("logistic-regression", False): ("63.29 ± 6.6", "84.30 ± 1.6", "84.87 ± 0.6"),
    ("logistic-regression", True): ("-", "86.08 ± 0.8", "85.68 ± 0.6"),
    ("svm", False): ("77.12 ± 1.1", "84.77 ± 1.2", "83.24 ± 1.2"),
    ("svm", True): ("-", "86.91 ± 0.7", "85.51 ± 0.9"),
}
NAMES = {"logistic-regression": "LogReg", "svm": "SVM"}


def draw(dataset: Dataset, seed: int, n_train: int, most_test: int) -> Dataset:
    """The protocol's splits; images that are not drawn are left out."""
    random = np.random.default_rng(seed)
    examples: list[Example] = []
    for label in sorted(dataset.labels):
        rows = sorted((e for e in dataset.examples if e.label == label), key=lambda e: e.name)
        order = random.permutation(len(rows))
        examples += [replace(rows[i], split="train") for i in order[:n_train]]
        test = order[n_train : n_train + most_test]
        examples += [replace(rows[i], split="test") for i in test]
    return Dataset(dataset.source, tuple(examples), dataset.labels)


def run(
    dataset: Dataset, settings: AdaptSettings, store: FeatureStore, seed: int
) -> dict[str, Any]:
    """One fit: figure, choice, and how far off its own estimate was."""
    started = time.perf_counter()
    source = settings.make_source(store)
    fitted = settings.make_strategy().fit(source, dataset, seed=seed)
    seconds = time.perf_counter() - started
    test = dataset.of("test")
    targets = dataset.targets(test)
    right = fitted.predict_proba(source, test).argmax(axis=1) == targets
    counts = np.bincount(targets, minlength=len(dataset.labels))
    of_each_class = np.bincount(targets, right, len(dataset.labels)) / np.maximum(counts, 1)
    tested = counts > 0
    found = {
        "figure": float(of_each_class[tested].mean()),
        "seconds": seconds,
        "chosen": {k: v for k, v in fitted.choices.items() if k not in ("cross_validation",)},
    }
    if estimate := found["chosen"].pop("estimate"):
        moved = estimate["accuracy"] - estimate["nested"]
        apart = np.array(estimate["nested_of_each_class"])[tested] + moved - of_each_class[tested]
        half = stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart))
        found |= {
            "expected": estimate["accuracy"],
            "nested": estimate["nested"],
            "difference": [float(apart.mean() - half), float(apart.mean() + half)],
        }
    return found


def spread(figures: list[float]) -> str:
    """Mean and deviation in percent."""
    deviation = np.std(figures, ddof=1) if len(figures) > 1 else 0.0
    return f"{100 * np.mean(figures):.2f} ± {100 * deviation:.2f}"


def depths(name: str) -> tuple[str, ...]:
    """DeCAF's three layers where the backbone has them, else its last three blocks."""
    preset = backbone_preset(name)
    decaf = [tap for tap in ("decaf5", "decaf6", "decaf7") if tap in preset.named_taps]
    return tuple(decaf) if len(decaf) == 3 else tuple(preset.blocks)[-3:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="mobilenet-0.25")
    parser.add_argument("--weights")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--train", type=int, default=30, help="images a class")
    parser.add_argument("--test", type=int, default=50, help="images a class, at most")
    parser.add_argument("--rows", default="table,fast,default,recommended", help="what to run")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--out", type=Path, help="JSON lines, one a fit; those there are kept")
    options = parser.parse_args()

    wanted = options.rows.split(",")
    given = {"backbone": options.backbone, "weights": options.weights}
    rows: list[tuple[str, AdaptSettings]] = []
    layers = depths(options.backbone)
    if "table" in wanted:
        for classifier, dropout in PUBLISHED:
            steps = "dropout" if dropout else "standardise"
            for layer in layers:
                rows.append(
                    (
                        f"{NAMES[classifier]}{' with dropout' if dropout else ''}|{layer}",
                        AdaptSettings(**given, tap=layer, classifier=classifier, transforms=steps),
                    )
                )
    for name in wanted:
        if name == "default":
            rows.append(("one view, auto", AdaptSettings(**given)))
        elif name != "table":
            assert name in recipe_names(), name
            rows.append((f"recipe {name}", AdaptSettings(**given, recipe=name)))

    found: dict[tuple[str, int], dict[str, Any]] = {}
    if options.out and options.out.exists():
        for line in options.out.read_text().splitlines():
            entry = json.loads(line)
            found[entry["row"], entry["seed"]] = entry
    with FeatureStore(options.store) as store:
        dataset, _ = check_listing(read_listing(options.data), cache=store)
        for seed in range(options.seeds):
            drawn = draw(dataset, seed, options.train, options.test)
            for row, settings in rows:
                if (row, seed) in found:
                    continue
                entry = {"row": row, "seed": seed} | run(drawn, settings, store, seed)
                found[row, seed] = entry
                print(f"seed {seed}, {row}: {100 * entry['figure']:.2f} %", flush=True)
                if options.out:
                    with options.out.open("a") as file:
                        file.write(json.dumps(entry) + "\n")

    def figures(row: str, key: str = "figure") -> list[float]:
        return [found[row, seed][key] for seed in range(options.seeds)]

    print(f"\nMean class accuracy in %, {options.backbone}, {options.train} images a class, ")
    print(f"{options.seeds} seeds; in brackets DeCAF5, 6 and 7 on Caltech-101 (60 M parameters).\n")
    if "table" in wanted:
        print(f"{'':22}" + "".join(f"{layer:>30}" for layer in layers))
        for (classifier, dropout), published in PUBLISHED.items():
            name = f"{NAMES[classifier]}{' with dropout' if dropout else ''}"
            cells = [
                f"{spread(figures(f'{name}|{layer}'))} ({paper})"
                for layer, paper in zip(layers, published, strict=True)
            ]
            print(f"{name:22}" + "".join(f"{cell:>30}" for cell in cells))
    for row, _ in rows:
        if "|" in row:
            continue
        expected = [found[row, seed].get("expected") for seed in range(options.seeds)]
        print(f"\n{row:30}{spread(figures(row))}, {np.median(figures(row, 'seconds')):.0f} s a fit")
        if None not in expected:
            held = sum(low <= 0 <= high for low, high in figures(row, "difference"))
            print(f"{'':30}expected {spread(expected)}, nested {spread(figures(row, 'nested'))};")
            print(f"{'':30}interval of expected - tested holds 0 for {held} of {options.seeds}")


if __name__ == "__main__":
    main()
