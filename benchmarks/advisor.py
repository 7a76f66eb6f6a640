"""The grid that the advisor's rules are fitted on, and how far its advice is from the best.

    TLTOOL_WEIGHTS=FOLDER python benchmarks/advisor.py run --caltech 101_ObjectCategories \\
        --cifar cifar10_jpeg --bccd BCCD --work FOLDER
    python benchmarks/advisor.py measure ... (as for run)
    python benchmarks/advisor.py fit [--write] [--figure docs/advisor.png]
    python benchmarks/advisor.py time DATA

`run` adapts networks to sets of different size and distance with every strategy, and keeps a row
for each fit in `advisor.csv`; it goes on where it stopped. Sets: Caltech-101 and a coarse subset
(six kinds of things), CIFAR-10 (drawn from the test images alone, which its networks have not
seen: half of each class to train on, half to test), scikit-learn's digits, blood cells (crops of
BCCD by box), and the coarse subset and CIFAR-10 inverted, blurred and as edges. All strategies see
one view of an image in predictions.

`measure` measures the evidence of every row again, where the advisor has come to look at more; the
networks are not adapted again.

`fit` fits the gains of the strategies, leaving one base set out at a time with its distortions;
prints the regrets of the advice and of the bare table, how often the intervals for twice the data
hold, and the ranking of backbones; and with `--write` puts the coefficients fitted on everything
into `presets/advisor.toml`. `time` compares the whole of `advise` with one extraction.
"""

from __future__ import annotations

import argparse
import csv
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import keras
import numpy as np
from advisor_fit import fit
from PIL import Image, ImageFilter, ImageOps

from tltool._files import atomic_path
from tltool._presets import advisor_rules
from tltool.advice import Evidence
from tltool.advisor import boundary_of
from tltool.data import Dataset, Example, check_listing, read_listing
from tltool.evaluation import evaluate_predictions
from tltool.evidence import measure_evidence
from tltool.features import FeatureStore
from tltool.settings import AdaptSettings

RESULTS = Path(__file__).with_name("advisor.csv")
BACKBONES = ("mobilenet-0.25", "cifar-resnet20")
# Off the shelf alone: three candidates to rank.
RANKED = "cifar-resnet56"
STRATEGIES = ("off-the-shelf", "frozen-head", "fine-tune")
SIZES = (5, 20, 100)
FITTED = ("fitted_on", "tested_on", "accuracy", "mean_class_accuracy", "log_loss", "seconds")
TWICE = "off-the-shelf, twice the images"

# Folders of Caltech-101 that make a kind.
KINDS = {
    "animals": "elephant emu flamingo gerenuk hedgehog kangaroo llama okapi wild_cat platypus "
    "beaver",
    "insects": "ant butterfly dragonfly mayfly scorpion tick crab crayfish lobster",
    "instruments": "accordion bass electric_guitar euphonium gramophone grand_piano mandolin "
    "metronome saxophone",
    "furniture": "chair ceiling_fan chandelier lamp windsor_chair menorah",
    "vehicles": "airplanes Motorbikes car_side ferry helicopter ketch schooner",
    "plants": "bonsai joshua_tree lotus sunflower water_lilly strawberry",
}


@dataclass(frozen=True)
class Pool:
    """Images to draw from.

    Args:
        name: of the set.
        base: what it was made of.
        make: writes it into a folder of class folders.
        sizes: images of a class to train on.
        test: images of a class to test on, at most.
    """

    name: str
    base: str
    make: Callable[[Path], None]
    sizes: tuple[int, ...]
    test: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("run", "measure"):
        running = commands.add_parser(command)
        for name in ("caltech", "cifar", "bccd", "work"):
            running.add_argument(f"--{name}", type=Path, required=True)
        running.add_argument("--seeds", type=int, default=2)
        running.add_argument("--weights", type=Path, help=f"of {RANKED}, which is left out without")
        running.add_argument("--sets", help="names with commas; default: all")
        running.add_argument("--out", type=Path, default=RESULTS)
    fitting = commands.add_parser("fit")
    fitting.add_argument("--results", type=Path, default=RESULTS)
    fitting.add_argument("--write", action="store_true")
    fitting.add_argument("--figure", type=Path, help="PNG of the grid's outcome")
    timing = commands.add_parser("time")
    timing.add_argument("data", type=Path)
    timing.add_argument("--backbone")
    timing.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    if options.command == "time":
        time_advice(options)
    elif options.command == "fit":
        fit(options.results, write=options.write, figure=options.figure)
    elif options.command == "measure":
        measure(options)
    else:
        run(options)


def run(options) -> None:
    """Every cell that is not there yet, the quick ones of all sets first."""
    known = read_rows(options.out)
    wanted = options.sets.split(",") if options.sets else None
    with FeatureStore(options.work / "store") as store:
        for seed in range(options.seeds):
            for place in range(len(SIZES)):
                for pool in pools(options):
                    if (wanted and pool.name not in wanted) or place >= len(pool.sizes):
                        continue
                    images = usable(pool, options.work, store)
                    draw = (pool, images, pool.sizes[place], seed)
                    run_cell(options.out, known, store, *draw, options.weights)


def measure(options) -> None:
    """Every row with the evidence as it is measured today."""
    with options.out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    known: dict[tuple[str, ...], dict] = {}
    changed = []
    with FeatureStore(options.work / "store") as store:
        images = {}
        named = {pool.name: pool for pool in pools(options)}
        for row in rows:
            pool, place = named[row["set"]], key_of(row)[:4]
            if place not in known:
                if pool.name not in images:
                    images[pool.name] = usable(pool, options.work, store)
                per_class, seed = int(row["per_class"]), int(row["seed"])
                part = drawn(images[pool.name], pool, per_class, seed)
                settings = candidates(options.weights)[row["backbone"]]
                known[place] = columns(
                    evidence_of(settings, store, part, seed), pool, per_class, seed
                )
                print(*place, flush=True)
            fitted = {name: row[name] for name in ("strategy", *FITTED)}
            changed.append(known[place] | fitted)
    with atomic_path(options.out) as temporary:
        temporary.unlink()
        for row in changed:
            write_row(temporary, row)


def time_advice(options) -> None:
    """Each in a process of its own, as a user starts them; the store is new, then warm."""
    given = [] if options.backbone is None else ["--backbone", options.backbone]
    found: dict[str, list[float]] = {"extract": [], "advise": [], "advise, warm": []}
    for _ in range(options.times):
        with tempfile.TemporaryDirectory() as folder:
            stores = [str(Path(folder) / name) for name in "ab"]
            data, out = str(options.data), str(Path(folder) / "features.npz")
            commands = {
                "extract": ["extract", data, "--out", out, "--store", stores[0]],
                "advise": ["advise", data, "--store", stores[1], "--quiet"],
                "advise, warm": ["advise", data, "--store", stores[1], "--quiet"],
            }
            for name, command in commands.items():
                started = time.perf_counter()
                tool = Path(sys.executable).with_name("tltool")
                subprocess.run([tool, *command, *given], check=True, capture_output=True)
                found[name].append(time.perf_counter() - started)
    median = {name: float(np.median(seconds)) for name, seconds in found.items()}
    for name, seconds in found.items():
        print(f"{name:14}{median[name]:8.1f} s   of " + ", ".join(f"{s:.1f}" for s in seconds))
    allowed = 1.3 * median["extract"] + 10
    print(f"allowed: 1.3 extractions and 10 s, {allowed:.1f} s; warm 20 s for 3,000 images")


def read_rows(path: Path) -> set[tuple[str, ...]]:
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {key_of(row) for row in csv.DictReader(file)}


def key_of(row: dict[str, str]) -> tuple[str, ...]:
    return row["set"], row["backbone"], row["per_class"], row["seed"], row["strategy"]


def run_cell(
    out: Path, known, store, pool: Pool, images: Dataset, per_class: int, seed: int, weights
):
    """All fits to one draw of a set."""
    for backbone, settings in candidates(weights).items():
        wanted = [*STRATEGIES, TWICE]
        if backbone == BACKBONES[-1]:  # its own network does not depend on the backbone
            wanted.append("from-scratch")
        if backbone == RANKED:
            wanted = ["off-the-shelf", TWICE]
        lacking = [
            strategy
            for strategy in wanted
            if (pool.name, backbone, str(per_class), str(seed), strategy) not in known
        ]
        if not lacking:
            continue
        part = drawn(images, pool, per_class, seed)
        evidence = evidence_of(settings, store, part, seed)
        boundary = boundary_of(evidence, advisor_rules())
        for strategy in lacking:
            shown = drawn(images, pool, 2 * per_class, seed) if strategy == TWICE else part
            row = columns(evidence, pool, per_class, seed) | {"strategy": strategy}
            row |= fitted(shown, strategy, settings, boundary, seed)
            write_row(out, row)
            print(
                f"{pool.name}, {backbone}, {per_class} a class, seed {seed}, {strategy}: "
                f"{100 * row['accuracy']:.1f} %, {row['seconds']:.0f} s",
                flush=True,
            )
            keras.backend.clear_session()
            gc.collect()


def candidates(weights: Path | None) -> dict[str, AdaptSettings]:
    """The networks, by name."""
    found = {name: AdaptSettings(backbone=name) for name in BACKBONES}
    if weights is not None:
        found[RANKED] = AdaptSettings(backbone=RANKED, weights=str(weights))
    return found


def evidence_of(settings: AdaptSettings, store: FeatureStore, part: Dataset, seed: int) -> Evidence:
    source = replace(settings, strategy="off-the-shelf").make_source(store)
    return measure_evidence(source, part, seed=seed)


def write_row(out: Path, row: dict) -> None:
    row = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
    new = not out.exists()
    with out.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def drawn(images: Dataset, pool: Pool, per_class: int, seed: int) -> Dataset:
    """So many images of each class to train on, the same ones among twice as many, and others
    to test on, the same ones always; where all are needed there are fewer."""
    examples: list[Example] = []
    for label in images.labels:
        rows = sorted((e for e in images.examples if e.label == label), key=lambda e: e.hash)
        random = np.random.default_rng(0)
        order = random.permutation(len(rows))
        tested = order[: pool.test]
        others = np.random.default_rng(seed).permutation(order[pool.test :])
        held = {rows[i].group for i in tested}
        fitting = [rows[i] for i in others if rows[i].group not in held]
        examples += [replace(e, split="train") for e in fitting[:per_class]]
        examples += [replace(rows[i], split="test") for i in tested]
    return Dataset(pool.name, tuple(examples), images.labels)


def columns(found: Evidence, pool: Pool, per_class: int, seed: int) -> dict:
    """What the advisor is given, as columns; of the learning curve what it is not widened by."""
    own, distance, pixels = found.probe, found.similarity.distance, found.pixels
    train = found.size.images
    twice = None if found.curve is None else replace(found.curve, widening=1.0).accuracy(2 * train)
    now = None if found.curve is None else found.curve.accuracy(train)
    return {
        "set": pool.name,
        "base": pool.base,
        "backbone": found.backbone,
        "per_class": per_class,
        "seed": seed,
        "classes": found.size.classes,
        "images": found.size.images,
        "smallest_class": found.size.smallest_class,
        "effective": found.size.effective,
        "distance": distance.value,
        "distance_low": distance.low,
        "distance_high": distance.high,
        "probe": own.accuracy.value,
        "probe_low": own.accuracy.low,
        "probe_high": own.accuracy.high,
        "neighbours": own.neighbours,
        "log_evidence": own.log_evidence,
        "h_score": own.h_score,
        "leep": "" if own.leep is None else own.leep,
        "nce": "" if own.nce is None else own.nce,
        "pixels": pixels.accuracy.value,
        "pixels_low": pixels.accuracy.low,
        "pixels_high": pixels.accuracy.high,
        "pixels_neighbours": pixels.neighbours,
        "curve": "" if now is None else now.value,
        "twice": "" if twice is None else twice.value,
        "twice_low": "" if twice is None else twice.low,
        "twice_high": "" if twice is None else twice.high,
        "multiply_adds": found.multiply_adds,
        "forward": found.forward,
        "scratch_forward": found.scratch_forward,
    }


def fitted(
    part: Dataset, strategy: str, base: AdaptSettings, boundary: str | None, seed: int
) -> dict:
    """Accuracy on the test images, and the seconds that a user would wait for it.

    The user has been advised, so that features of one view are stored; nothing else is.
    """
    name = "off-the-shelf" if strategy == TWICE else strategy
    settings = AdaptSettings(strategy=name, views="1")
    if name != "from-scratch":
        settings = replace(settings, backbone=base.backbone, weights=base.weights)
    if name == "fine-tune":
        settings = replace(settings, unfreeze=boundary)
    with tempfile.TemporaryDirectory() as folder, FeatureStore(folder) as store:
        source = settings.make_source(store)
        if name != "from-scratch":
            source.extract(part.examples)
        started = time.perf_counter()
        made = settings.make_strategy()
        made.extract(source, part)
        found = made.fit(source, part, seed=seed)
        seconds = time.perf_counter() - started
        probabilities = found.predict_proba(source, part.of("test"))
    test = part.of("test")
    targets = part.targets(test)
    judged = evaluate_predictions(probabilities, targets, majority=0, seed=0)
    return {
        "fitted_on": len(part.of("train")),
        "tested_on": len(test),
        "accuracy": judged.metrics["accuracy"].value,
        "mean_class_accuracy": judged.metrics["mean_class_accuracy"].value,
        "log_loss": judged.metrics["log_loss"].value,
        "seconds": seconds,
    }


def usable(pool: Pool, work: Path, store) -> Dataset:
    """The images of a set, made once."""
    folder = work / pool.name
    if not (work / f"{pool.name}.made").exists():
        pool.make(folder)
        (work / f"{pool.name}.made").touch()
    dataset, _ = check_listing(read_listing(folder), cache=store)
    return dataset


def pools(options) -> Iterator[Pool]:
    """All sets, each distortion beside what it was made of."""
    coarse = kinds_of(options.caltech)
    seen = classes_of(options.cifar / "test")
    yield Pool("caltech-101", "caltech", copying(classes_of(options.caltech)), (5, 20), 10)
    yield Pool("coarse", "caltech", copying(coarse), SIZES, 90)
    yield Pool("cifar", "cifar", copying(seen, most=400), SIZES, 200)
    yield Pool("digits", "digits", write_digits, (5, 20, 50), 70)
    yield Pool("blood", "blood", partial_crops(options.bccd), SIZES, 100)
    for name, change in (("inverted", ImageOps.invert), ("blurred", blurred), ("edges", edges)):
        yield Pool(f"coarse-{name}", "caltech", copying(coarse, change), SIZES, 90)
        yield Pool(f"cifar-{name}", "cifar", copying(seen, change, 400), SIZES, 200)


def classes_of(folder: Path) -> dict[str, list[Path]]:
    return {d.name: sorted(d.iterdir()) for d in sorted(folder.iterdir()) if d.is_dir()}


def kinds_of(caltech: Path) -> dict[str, list[Path]]:
    """Six kinds of things; as many images of each class of a kind as its smallest has, or more."""
    found = {}
    for kind, names in KINDS.items():
        files = [sorted((caltech / name).iterdir()) for name in names.split()]
        found[kind] = [f for rows in files for f in rows[:70]]
    return found


def copying(classes: dict[str, list[Path]], change=None, most: int = 500):
    """Writes up to so many images of each class, changed."""

    def make(folder: Path) -> None:
        for label, files in classes.items():
            (folder / label).mkdir(parents=True, exist_ok=True)
            order = np.random.default_rng(0).permutation(len(files))[:most]
            for i in order:
                target = folder / label / f"{files[i].parent.name}-{files[i].stem}.png"
                if change is None:
                    target.with_suffix(files[i].suffix).write_bytes(files[i].read_bytes())
                    continue
                with Image.open(files[i]) as image:
                    change(image.convert("RGB")).save(target)

    return make


def blurred(image: Image.Image) -> Image.Image:
    """By a Gaussian of a twelfth of the smaller side."""
    return image.filter(ImageFilter.GaussianBlur(min(image.size) / 12))


def edges(image: Image.Image) -> Image.Image:
    return image.convert("L").filter(ImageFilter.FIND_EDGES).convert("RGB")


def write_digits(folder: Path) -> None:
    from sklearn.datasets import load_digits

    found = load_digits()
    for i, (values, label) in enumerate(zip(found.images, found.target, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.uint8(np.minimum(values * 16, 255)))
        image.resize((32, 32), Image.Resampling.BILINEAR).save(folder / str(label) / f"{i}.png")


def partial_crops(bccd: Path):
    """Writes the blood cells that lie in the boxes, a little around them included."""

    def make(folder: Path) -> None:
        counts: dict[str, int] = {}
        for number, notes in enumerate(sorted((bccd / "Annotations").glob("*.xml"))):
            with Image.open(bccd / "JPEGImages" / f"{notes.stem}.jpg") as opened:
                image = opened.convert("RGB")
            for i, found in enumerate(ElementTree.parse(notes).iter("object")):  # noqa: S314
                label = found.findtext("name", "")
                box = [
                    int(found.findtext(f"bndbox/{k}", "0"))
                    for k in ("xmin", "ymin", "xmax", "ymax")
                ]
                if min(box[2] - box[0], box[3] - box[1]) < 8 or counts.get(label, 0) >= 400:
                    continue
                counts[label] = counts.get(label, 0) + 1
                (folder / label).mkdir(parents=True, exist_ok=True)
                image.crop(tuple(box)).save(folder / label / f"{number}-{i}.png")

    return make


if __name__ == "__main__":
    main()
