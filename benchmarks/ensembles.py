"""What ensembles gain, what they cost, and how far their probabilities can be believed.

    TLTOOL_WEIGHTS=FOLDER python benchmarks/ensembles.py caltech 101_ObjectCategories --work FOLDER
    TLTOOL_WEIGHTS=FOLDER python benchmarks/ensembles.py cifar cifar10_jpeg --work FOLDER
    python benchmarks/ensembles.py parallel PHOTOS --work FOLDER
    python benchmarks/ensembles.py inference RUN RUN ... --images PHOTOS

`caltech`: 30 images a class as in `decaf.py`, three of them to validate on, one backbone: the
recommended recipe; and `tltool ensemble` of the feature-space ensemble and fine-tunings. It goes on
where it stopped.

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
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from decaf import draw

import tltool
from tltool._cores import cores
from tltool.data import check_listing, read_listing
from tltool.features import FeatureStore
from tltool.predictor import on_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    caltech_ = commands.add_parser("caltech")
    caltech_.add_argument("data", type=Path)
    caltech_.add_argument("--work", type=Path, required=True)
    caltech_.add_argument("--backbone", default="mobilenet-0.25")
    caltech_.add_argument("--seeds", type=int, default=1)
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
    for seed in range(options.seeds):
        folder = options.work / f"caltech-{seed}"
        data, recommended, both = folder / "data", folder / "recommended", folder / "ensemble"
        if not data.exists():
            draw_into(data, options.data, seed)
        if not finished(recommended):
            tltool.adapt(
                data, backbone=options.backbone, recipe="recommended", seed=seed, out=recommended
            )
        if not finished(both):
            tltool.ensemble(
                data,
                backbones=options.backbone,
                strategies=["feature-ensemble", "fine-tune"],
                members=1 + options.tuned,
                seed=seed,
                out=both,
            )
        facts = tltool.Run(both).facts
        for member in facts["members"]:
            print(member, flush=True)
        print(facts["choices"], facts["calibration"], sep="\n", flush=True)
        members = sorted(path.parent for path in both.glob("members/*/model.keras"))
        tell(tltool.compare([both, recommended, *members]))


def finished(run: Path) -> bool:
    """Whether it need not be run again."""
    try:
        tltool.Run(run)
    except tltool.TltoolError:
        return False
    return True


def draw_into(folder: Path, given: Path, seed: int) -> None:
    """30 images of each class as `decaf.py` draws them, three of them to validate on, and its
    test images."""
    with FeatureStore(None) as store:
        dataset, _ = check_listing(read_listing(given), cache=store)
    drawn = draw(dataset, seed, 30, 50)
    counts: Counter[str] = Counter()
    for example in drawn.examples:
        split = example.split
        if split == "train":
            counts[example.label] += 1
            split = "val" if counts[example.label] <= 3 else "train"
        target = folder.with_suffix(".new") / split / example.label / example.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(example.path, target)
    folder.with_suffix(".new").rename(folder)


def cifar(options) -> None:
    """Several fine-tunings, their ensemble, and its student."""
    data = options.work / "data"
    if not data.exists():
        half_of_the_tests(options.data, data)
    given: dict = {"distill_into": options.student, "soup": options.soup}
    if options.epochs:
        given["settings"] = {"epochs": options.epochs}
    if options.runs:
        found = tltool.ensemble(
            options.runs, out=options.work / "combined", force=True, data=data, **given
        )
    else:
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
    tell(found.comparison)


def tell(comparison) -> None:
    """Figures of each run, and the best against the others."""
    for one in comparison.runs:
        metrics = {k: round(v.value, 4) for k, v in one.evaluation.metrics.items()}
        print(one.run, one.strategy, metrics)
    for pair in comparison.pairs:
        print(pair.in_words(), pair.accuracy, flush=True)


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
