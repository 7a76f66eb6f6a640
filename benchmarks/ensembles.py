"""What ensembles gain, what they cost, and how far their probabilities can be believed.

    TLTOOL_WEIGHTS=FOLDER python benchmarks/ensembles.py caltech 101_ObjectCategories --out FILE
    TLTOOL_WEIGHTS=FOLDER python benchmarks/ensembles.py cifar cifar10_jpeg --work FOLDER
    python benchmarks/ensembles.py parallel PHOTOS --work FOLDER
    python benchmarks/ensembles.py inference RUN RUN ... --images PHOTOS

`caltech`: 30 images a class as in `decaf.py`, one backbone: the recommended recipe, the
feature-space ensemble, fine-tunings with several seeds, and all but the first combined, weighed by
images that none was fitted on. It goes on where it stopped.

`cifar`: 10,000 training images, half of the official test images to validate and calibrate on,
the other half to test: several fine-tunings (`--backbones`, `--members`), or the finished runs of
`--runs`; their ensemble; and its student (`--student`).

`parallel`: two members one after the other, side by side without a plan, and as `tltool ensemble`
runs them. `inference`: the one model against its members, one after the other.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from decaf import draw
from strategies import mean_class_accuracy

import tltool
from tltool._cores import cores
from tltool.combining import METHODS, choose_combination
from tltool.comparing import Entrant, comparison_of
from tltool.data import check_listing, read_listing
from tltool.evaluation import evaluate_predictions
from tltool.features import FeatureStore
from tltool.linear.calibration import choose_calibration
from tltool.linear.linear_head import softmax
from tltool.predictor import on_images
from tltool.runs import Said
from tltool.settings import AdaptSettings
from tltool.strategies.folds import stratified_folds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    caltech_ = commands.add_parser("caltech")
    caltech_.add_argument("data", type=Path)
    caltech_.add_argument("--out", type=Path, required=True, help="JSON lines; it goes on there")
    caltech_.add_argument("--backbone", default="mobilenet-0.25")
    caltech_.add_argument("--seeds", type=int, default=3)
    caltech_.add_argument("--tuned", type=int, default=2, help="fine-tunings a seed")
    cifar_ = commands.add_parser("cifar")
    cifar_.add_argument("data", type=Path)
    cifar_.add_argument("--work", type=Path, required=True)
    cifar_.add_argument("--runs", nargs="*", default=[])
    cifar_.add_argument("--backbones", default="cifar-resnet20")
    cifar_.add_argument("--members", type=int, default=5)
    cifar_.add_argument("--epochs", type=int)
    cifar_.add_argument("--student")
    cifar_.add_argument("--soup")
    parallel_ = commands.add_parser("parallel")
    parallel_.add_argument("data", type=Path)
    parallel_.add_argument("--work", type=Path, required=True)
    parallel_.add_argument("--backbone", default="cifar-resnet20")
    parallel_.add_argument("--epochs", type=int, default=5)
    parallel_.add_argument("--repeat", type=int, default=3)
    inference_ = commands.add_parser("inference")
    inference_.add_argument("runs", nargs="+")
    inference_.add_argument("--images", type=Path, required=True)
    inference_.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    {"caltech": caltech, "cifar": cifar, "parallel": parallel, "inference": inference}[
        options.command
    ](options)


def caltech(options) -> None:
    """One backbone, everything that it can be asked."""
    known = {}
    if options.out.exists():
        lines = map(json.loads, options.out.read_text().splitlines())
        known = {(line["seed"], line["row"]): line for line in lines}
    given = {"backbone": options.backbone}
    rows = {
        "recommended": AdaptSettings(**given, recipe="recommended"),
        "feature-ensemble": AdaptSettings(**given, strategy="feature-ensemble"),
    }
    for i in range(options.tuned):
        rows[f"fine-tune {i + 1}"] = AdaptSettings(**given, strategy="fine-tune", seed=i)
    with FeatureStore(None) as store:
        dataset, _ = check_listing(read_listing(options.data), cache=store)
        for seed in range(options.seeds):
            if (seed, "all") in known:
                print(*told(known[seed, "recommended"], known[seed, "all"]), sep="\n", flush=True)
                continue
            drawn = draw(dataset, seed, 30, 50)
            tests = drawn.of("test")
            targets = drawn.targets(tests)
            held, said = {}, {}
            for row, settings in rows.items():
                source = settings.make_source(store)
                started = time.perf_counter()
                fit = settings.make_strategy().fit(source, drawn, seed=settings.seed)
                seconds = time.perf_counter() - started
                scores = fit.held_out.scores
                held[row] = {
                    e.hash: p for e, p in zip(fit.held_out.examples, softmax(scores), strict=True)
                }
                said[row] = fit.predict_proba(source, tests)
                keep(options.out, seed, row, said[row], targets, seconds)
            members = [row for row in rows if row != "recommended"]
            common = [
                e for e in drawn.of("train", "val") if all(e.hash in held[row] for row in members)
            ]
            p = np.stack([[held[row][e.hash] for e in common] for row in members])
            folds = stratified_folds(common, 5, 0)
            choice = choose_combination(p, drawn.targets(common), folds, METHODS)
            calibration = choose_calibration(choice.scores, drawn.targets(common), folds)
            scores = choice.chosen.scores(np.stack([said[row] for row in members]))
            whole = softmax(calibration.apply(scores))
            entry = keep(options.out, seed, "all", whole, targets, 0.0, len(common), choice)
            names = ("all", "recommended", "feature-ensemble")
            entrants = [
                Entrant(
                    name,
                    "",
                    "",
                    0,
                    drawn.labels,
                    Said(tuple(e.name for e in tests), targets, q),
                )
                for name, q in zip(
                    names, (whole, said["recommended"], said["feature-ensemble"]), strict=True
                )
            ]
            for pair in comparison_of(entrants).pairs:
                print(pair.in_words(), pair.accuracy, flush=True)
            print(entry, flush=True)


def keep(out, seed, row, probabilities, targets, seconds, images=None, choice=None):
    """A line of what came of it."""
    found = evaluate_predictions(probabilities, targets, majority=0, seed=0).metrics
    entry = {
        "seed": seed,
        "row": row,
        "mean_class_accuracy": mean_class_accuracy(probabilities, targets),
        "accuracy": found["accuracy"].value,
        "log_loss": found["log_loss"].value,
        "calibration_error": found["expected_calibration_error"].value,
        "seconds": seconds,
    }
    if choice is not None:
        entry |= {
            "weighed_by": images,
            "combine": choice.chosen.method,
            "weights": choice.chosen.weights.tolist(),
            "table": choice.table,
        }
    with out.open("a") as file:
        file.write(json.dumps(entry) + "\n")
    print(
        f"seed {seed}, {row}: {100 * entry['mean_class_accuracy']:.2f} % mean class accuracy, log "
        f"loss {entry['log_loss']:.3f}, calibration error {entry['calibration_error']:.4f}, "
        f"{seconds:.0f} s",
        flush=True,
    )
    return entry


def told(*entries):
    for entry in entries:
        yield (
            f"seed {entry['seed']}, {entry['row']}: {100 * entry['mean_class_accuracy']:.2f} %, "
            f"log loss {entry['log_loss']:.3f}, error {entry['calibration_error']:.4f}"
        )


def cifar(options) -> None:
    """Several fine-tunings, their ensemble, and its student."""
    data = options.work / "data"
    if not data.exists():
        half_of_the_tests(options.data, data)
    given: dict = {"distill_into": options.student, "soup": options.soup}
    if options.runs:
        found = tltool.ensemble(
            options.runs, out=options.work / "combined", force=True, data=data, **given
        )
    else:
        if options.epochs:
            given["settings"] = {"epochs": options.epochs}
        found = tltool.ensemble(
            data,
            backbones=options.backbones,
            members=options.members,
            out=options.work / "ensemble",
            **given,
        )
    print(json.dumps(found.result.choices, indent=1))
    for member in found.members:
        print(member)
    print(found.result.calibration)
    for one in found.comparison.runs:
        metrics = {k: round(v.value, 4) for k, v in one.evaluation.metrics.items()}
        print(one.run, one.strategy, metrics)
    for pair in found.comparison.pairs:
        print(pair.in_words(), pair.accuracy)


def half_of_the_tests(given: Path, folder: Path) -> None:
    """10,000 training images; half of the test images to validate on, the others to test on."""
    draws = np.random.default_rng(0)
    files = {
        s: sorted(p for d in (given / s).iterdir() for p in d.iterdir()) for s in ("train", "test")
    }
    draws.shuffle(files["train"])
    draws.shuffle(files["test"])
    half = len(files["test"]) // 2
    parts = {
        "train": files["train"][:10000],
        "val": files["test"][:half],
        "test": files["test"][half:],
    }
    for split, paths in parts.items():
        for path in paths:
            target = folder / split / path.parent.name / f"{path.parent.parent.name}-{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def parallel(options) -> None:
    """Seconds of two members, three ways."""
    common = ["--epochs", str(options.epochs), "--strategy", "fine-tune", "--quiet"]
    common += ["--backbone", options.backbone, "--split-seed", "0"]
    tool = [sys.executable, "-c", "from tltool.cli import main; main()"]
    seconds: dict[str, list[float]] = {}
    for turn in range(options.repeat):
        for way in ("one after the other", "side by side", "tltool ensemble"):
            with tempfile.TemporaryDirectory(dir=options.work) as folder:
                place = ["--store", f"{folder}/store"]
                commands = [
                    [
                        *tool,
                        "adapt",
                        str(options.data),
                        *common,
                        *place,
                        "--seed",
                        str(i),
                        "--out",
                        f"{folder}/{i}",
                    ]
                    for i in range(2)
                ]
                started = time.perf_counter()
                if way == "one after the other":
                    for command in commands:
                        subprocess.run(command, check=True, capture_output=True)
                elif way == "side by side":
                    both = [
                        subprocess.Popen(c, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                        for c in commands
                    ]
                    assert not any(process.wait() for process in both)
                else:
                    found = tltool.ensemble(
                        options.data,
                        backbones=options.backbone,
                        members=2,
                        out=f"{folder}/both",
                        store=f"{folder}/store",
                        soup="none",
                        settings={"epochs": options.epochs},
                    )
                    # what combining takes is not the members' time
                    started = time.perf_counter() - found.growth.seconds
                    print(f"{found.growth}")
                seconds.setdefault(way, []).append(time.perf_counter() - started)
            print(f"{turn}: {way}: {seconds[way][-1]:.1f} s", flush=True)
    medians = {way: float(np.median(found)) for way, found in seconds.items()}
    better = min(medians["one after the other"], medians["side by side"])
    print(f"{cores()} cores: {medians}; ratio {medians['tltool ensemble'] / better:.2f} (aim 1.25)")


def inference(options) -> None:
    """Seconds of the one model, and of its members together."""
    with FeatureStore(None) as store:
        dataset, _ = check_listing(read_listing(options.images), cache=store, for_training=False)
    examples = [replace(e, split="") for e in dataset.examples][:512]
    with tempfile.TemporaryDirectory() as folder:
        tltool.ensemble(options.runs, out=f"{folder}/both", combine="mean")
        predictors = [tltool.Run(run).predictor() for run in (f"{folder}/both", *options.runs)]
        seconds = np.zeros((options.repeat, len(predictors)))
        for turn in range(-1, options.repeat):
            for i, predictor in enumerate(predictors):
                started = time.perf_counter()
                on_images(predictor, predictor, examples)
                if turn >= 0:
                    seconds[turn, i] = time.perf_counter() - started
    ratios = seconds[:, 0] / seconds[:, 1:].sum(axis=1)
    medians = [f"{s:.2f}" for s in np.median(seconds, axis=0)]
    print(f"{len(examples)} images; the one model and each member: {', '.join(medians)} s")
    print(f"against the sum of its members {np.median(ratios):.3f} (aim at most 1.05)")


if __name__ == "__main__":
    main()
