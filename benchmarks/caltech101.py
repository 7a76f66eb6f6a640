"""The Caltech-101 protocol: 30 images a class to train, up to 50 to test, ten seeds.

    TLTOOL_WEIGHTS=FOLDER python benchmarks/caltech101.py caltech101/101_ObjectCategories

For each seed, per class (sorted) `default_rng(seed).permutation` of the sorted files from one
generator; the first 30 train, the next 50 at most test; the figure is the mean over classes of
the class's accuracy. The regularisation is chosen by cross-validation on the training images.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from tltool.backbones import Backbone
from tltool.data import Dataset, Example, check_listing, read_listing
from tltool.features import FeatureSource, FeatureStore
from tltool.metrics import mean_class_accuracy
from tltool.strategies import STRATEGIES

N_TRAIN = 30
MOST_TEST = 50


def draw(dataset: Dataset, seed: int) -> Dataset:
    """The protocol's splits; images that are not drawn are left out."""
    random = np.random.default_rng(seed)
    examples: list[Example] = []
    for label in sorted(dataset.labels):
        rows = sorted((e for e in dataset.examples if e.label == label), key=lambda e: e.name)
        order = random.permutation(len(rows))
        examples += [replace(rows[i], split="train") for i in order[:N_TRAIN]]
        test = order[N_TRAIN : N_TRAIN + MOST_TEST]
        examples += [replace(rows[i], split="test") for i in test]
    return Dataset(dataset.source, tuple(examples), dataset.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="mobilenet-0.25")
    parser.add_argument("--weights")
    parser.add_argument("--strategy", default="off-the-shelf", choices=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()

    figures = []
    with FeatureStore(options.store) as store:
        dataset, _ = check_listing(read_listing(options.data), cache=store)
        source = FeatureSource(Backbone(options.backbone, options.weights), store)
        for seed in range(options.seeds):
            drawn = draw(dataset, seed)
            fitted = STRATEGIES[options.strategy]().fit(source, drawn, seed=seed)
            test = drawn.of("test")
            targets = drawn.targets(test)
            probabilities = fitted.predict_proba(test)
            figure = mean_class_accuracy(probabilities, targets, np.ones((1, len(test))))[0]
            figures.append(100 * figure)
            print(f"seed {seed}: {figures[-1]:.2f} %  (C = {fitted.choices['C']:g})", flush=True)
    print(
        f"{options.backbone}, {options.strategy}: mean class accuracy {np.mean(figures):.2f} "
        f"± {np.std(figures, ddof=1):.2f} % over {options.seeds} seeds"
    )


if __name__ == "__main__":
    main()
