"""Each classifier's own choice of its penalty, and the whole of `auto`, against a grid search.

    TLTOOL_WEIGHTS=FOLDER python benchmarks/classifiers.py caltech101/101_ObjectCategories

The peer is `GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)))` over
eight values of C and five folds, on the same features in the same run. Features are those of the
last three blocks, averaged and maximal (1,280 of MobileNet 0.25), and as many columns of the last
block's activations, drawn by lot, as `--wide` says. A classifier alone chooses its penalty after
`l2`, ridge after that or `dropout`; `auto` chooses among all transforms. The peer and `auto` run
once, each classifier alone `--repeat` times (medians). `--rows others` times what scikit-learn has
for the same classifiers: a single fit at one penalty on all rows, of ridge its own choice of eight.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from decaf import draw
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC, LinearSVC

from tltool.data import check_listing, read_listing
from tltool.features import FeatureStore
from tltool.linear import CLASSIFIERS, Problem, choose, fit_candidate
from tltool.settings import AdaptSettings
from tltool.strategies.folds import stratified_folds
from tltool.strategies.off_the_shelf import CHAINS

PEER_VALUES = np.logspace(-3, 0.5, 8)

OTHERS = {
    "LDA, lsqr": LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3),
    "LDA, eigen": LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.3),
    "RidgeClassifierCV": RidgeClassifierCV(np.logspace(-3, 2, 8)),
    "LinearSVC": LinearSVC(C=1.0),
    "SVC, linear kernel": SVC(kernel="linear", C=1.0),
}

# Transforms that a classifier alone chooses from. Ridge regression is the one whose best ones
# differ between the two feature sets, told by cross-validation on the training images.
ALONE = dict.fromkeys(CLASSIFIERS, (("l2",),)) | {"ridge": (("l2",), ("dropout",))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="mobilenet-0.25")
    parser.add_argument("--weights")
    parser.add_argument("--views", default="1")
    parser.add_argument("--wide", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=("narrow", "wide"), help="one of the two feature sets")
    parser.add_argument("--rows", default=",".join((*CLASSIFIERS, "auto")), help="what to time")
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()

    blocks = AdaptSettings(backbone=options.backbone, weights=options.weights, views=options.views)
    with FeatureStore(options.store) as store:
        dataset, _ = check_listing(read_listing(options.data), cache=store)
        drawn = draw(dataset, 0, 30, 50)
        train, test = drawn.of("train"), drawn.of("test")
        given = {"backbone": options.backbone, "weights": options.weights}
        preset = blocks.make_backbone([]).preset
        last = list(preset.blocks)[-1]
        sets = {
            "narrow": ("last3:avg+max", options.views, None),
            "wide": (f"{last}:flatten", "1", options.wide),
        }
        for tap, views, columns in [sets[options.only]] if options.only else sets.values():
            source = AdaptSettings(**given, tap=tap, views=views).make_source(store)
            known, unknown = (source.features(part).values for part in (train, test))
            widths = source.widths
            if columns:
                kept = np.sort(np.random.default_rng(0).permutation(known.shape[1])[:columns])
                known, unknown, widths = known[:, kept], unknown[:, kept], (columns,)
            targets = drawn.targets(train), drawn.targets(test)
            folds = stratified_folds(train, 5, 0)
            rows = options.rows.split(",")
            if "others" in rows:
                time_others(known, unknown, *targets)
            if rows := [row for row in rows if row != "others"]:
                compare(known, unknown, *targets, widths, folds, rows, options.repeat)


def time_others(known, unknown, targets, expected) -> None:
    """One fit of each, after the same transform."""
    print(f"\nscikit-learn, single fits, {len(known):,} images, {known.shape[1]:,} features")
    for name, estimator in OTHERS.items():
        started = time.perf_counter()
        model = make_pipeline(Normalizer(), estimator).fit(known, targets)
        seconds = time.perf_counter() - started
        accuracy = 100 * model.score(unknown, expected)
        print(f"{name:22}{seconds:8.1f} s          test accuracy {accuracy:.2f} %", flush=True)


def compare(known, unknown, targets, expected, widths, folds, names, repeat) -> None:
    """Everything on one set of features."""
    n_classes = int(targets.max()) + 1
    print(f"\n{len(known):,} images, {known.shape[1]:,} features, {n_classes} classes", flush=True)
    started = time.perf_counter()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    grid = GridSearchCV(model, {"logisticregression__C": PEER_VALUES}, cv=5).fit(known, targets)
    peer = time.perf_counter() - started
    accuracy = grid.score(unknown, expected)
    print(f"{'grid search':22}{peer:8.1f} s          test accuracy {100 * accuracy:.2f} %")
    problem = Problem(known, targets, n_classes, widths)
    for name in names:
        taken = []
        for _ in range(1 if name == "auto" else repeat):
            started = time.perf_counter()
            if name == "auto":
                choice = choose(problem, folds, CLASSIFIERS, CHAINS)
            else:
                choice = choose(problem, folds, (name,), ALONE[name], nested=False)
            head = fit_candidate(problem, choice.chosen.candidate)
            taken.append(time.perf_counter() - started)
        seconds = float(np.median(taken))
        accuracy = np.mean(head.predict_proba(unknown).argmax(axis=1) == expected)
        print(
            f"{name:22}{seconds:8.1f} s {peer / seconds:6.1f}x  test accuracy "
            f"{100 * accuracy:.2f} %  {choice.chosen.candidate}",
            flush=True,
        )


if __name__ == "__main__":
    main()
