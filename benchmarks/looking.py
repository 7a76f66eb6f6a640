"""What looking into a network costs.

    TLTOOL_WEIGHTS=FOLDER python benchmarks/looking.py maximal caltech/101_ObjectCategories
    python benchmarks/looking.py occlusion RUN IMAGE
    TLTOOL_WEIGHTS=FOLDER python benchmarks/looking.py map caltech/101_ObjectCategories
    TLTOOL_WEIGHTS=FOLDER python benchmarks/looking.py run caltech/101_ObjectCategories WORK
    python benchmarks/looking.py report WORK/run
    tltool atlas WORK/run

`occlusion`: an occlusion map of every place, against the run's predictor on as many canvases that
are there already, in batches of the same size, in turns. `map`: a process that makes the map of the
first images of each class, whose features were stored by one before. `run` copies the images that
the protocol of `decaf.py` draws (30 of each class to learn from, at most 30 to test on) and adapts
the recommended recipe to them. `report`: a process that
writes the report of a run once more, maps of mistakes kept.

`maximal` measures the search for the images that excite each channel most. Each figure is of a
process of its own, after one that has checked the files and converted the networks, as on any
second run. Memory is the resident size that Linux tells of: before is after the imports
(TensorFlow's too), the peak is the largest since then (the kernel's high-water mark, which is reset
there), and the growth is what lies between them. It is of the whole look: reading the listing,
building the network, the pass, the crops and the page. The plain engine runs the same network to
the same layer, averaged over its places, on the same images, decoded in the same way.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def resident(name: str) -> float:
    """Megabytes of this process: "VmRSS" for those now, "VmHWM" for the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (line for line in lines if line.startswith(name))
    return int(found.split()[1]) * 1024 / 1e6


def reset_peak() -> None:
    """Let the peak begin at what is resident now; see proc(5), clear_refs."""
    Path("/proc/self/clear_refs").write_text("5")


def search(options: argparse.Namespace) -> dict[str, float]:
    """The whole look, and the pass within it."""
    from tltool import looking
    from tltool._keras import import_keras
    from tltool.features.openvino_engine import _import_openvino

    import_keras()
    _import_openvino()
    seconds = 0.0
    pass_over = looking.most_exciting

    def timed(*given):
        nonlocal seconds
        start = time.perf_counter()
        found = pass_over(*given)
        seconds = time.perf_counter() - start
        return found

    looking.most_exciting = timed
    reset_peak()
    before, start = resident("VmRSS"), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        done = looking.look(
            options.backbone,
            data=options.data,
            tap=options.tap,
            engine=options.engine,
            store=options.store,
            out=Path(folder) / "look.html",
        )
    whole, peak = time.perf_counter() - start, resident("VmHWM")
    return {"images": done.searched, "seconds": seconds, "whole": whole} | {
        "before": before,
        "peak": peak,
    }


def plain(options: argparse.Namespace) -> dict[str, float]:
    """Features of the same layer, of the same images, by the same engine."""
    from tltool.backbones import Backbone
    from tltool.data import read_listing, readable_images
    from tltool.features import FeatureStore, canvas_batches, checked_bytes, make_engine
    from tltool.map_taps import MapTaps

    backbone = Backbone(options.backbone)
    tap = MapTaps(backbone.preset, backbone.input_size).choose(options.tap)
    backbone = backbone.tapping(tap.layer)
    with FeatureStore(options.store) as kept:
        examples, _ = readable_images(read_listing(options.data), cache=kept)
    examples = list({e.hash: e for e in examples}.values())
    run = make_engine(options.engine, f"{backbone.key}-plain-{tap.layer}", lambda: backbone.model)
    readers = [lambda e=e: checked_bytes(e) for e in examples]
    start = time.perf_counter()
    for batch in canvas_batches(readers, backbone.input_size):
        run(batch.pixels)
    return {"images": len(examples), "seconds": time.perf_counter() - start}


def maximal(options: argparse.Namespace) -> None:
    """Seconds, images a second and memory, the two ways in turn."""
    parts = {"search": search, "plain": plain}
    if options.measure:
        print(json.dumps(parts[options.measure](options)))
        return
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in parts}
    for turn in range(options.repetitions + 1):  # the first checks files and converts networks
        for name in parts:
            command = [sys.executable, *sys.argv, "--measure", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            if turn:
                rows[name].append(json.loads(done.stdout.splitlines()[-1]))
    middle = {
        name: {key: statistics.median(row[key] for row in found) for key in found[0]}
        for name, found in rows.items()
    }
    for name, title in (("search", "search for maxima"), ("plain", "plain engine")):
        n, seconds = middle[name]["images"], middle[name]["seconds"]
        print(f"{title}: {n:,.0f} images in {seconds:.1f} s, {n / seconds:.0f} a second")
    found = middle["search"]
    print(f"whole look: {found['whole']:.1f} s")
    print(
        f"memory: {found['before']:.0f} MB before, {found['peak']:.0f} MB at the peak, "
        f"{found['peak'] - found['before']:.0f} MB more"
    )


def occlusion(options: argparse.Namespace) -> None:
    """An occlusion map against the bare predictor, in turns."""
    import numpy as np

    import tltool
    from tltool.data import canvas
    from tltool.saliency import batch_of, occlusion_map

    run = tltool.Run(options.run_folder)
    predictor = run.predictor()
    pixels = canvas(options.image.read_bytes(), run.canvas_size)
    batch = batch_of(run.canvas_size, run.n_views)
    copies = np.repeat(pixels[None], batch, axis=0)
    target = int(predictor(copies).argmax(axis=1)[0])
    ratios, seconds = [], []
    for turn in range(options.repetitions + 1):
        start = time.perf_counter()
        found = occlusion_map(
            predictor, pixels, target, stride=options.stride, batch=batch, tolerance=0.0
        )
        taken = time.perf_counter() - start
        start = time.perf_counter()
        for first in range(0, found.asked, batch):
            predictor(copies[: min(batch, found.asked - first)])
        bare = time.perf_counter() - start
        if turn:
            ratios.append(taken / bare)
            seconds.append(taken)
    coarse = occlusion_map(predictor, pixels, target, stride=options.stride, batch=batch)
    print(
        f"{found.asked} images: {statistics.median(seconds):.3f} s, "
        f"{statistics.median(ratios):.3f} times the bare engine "
        f"({min(ratios):.3f} to {max(ratios):.3f})"
    )
    difference = float(np.abs(coarse.covered - found.covered).max())
    print(f"coarse to fine: {coarse.asked} images, at most {difference:.4f} apart")


def timed_commands(command: list[str], repetitions: int) -> list[float]:
    """Seconds of a process of its own, after one that is not counted."""
    seconds = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def told(what: str, seconds: list[float]) -> None:
    spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
    print(f"{what}: {statistics.median(seconds):.1f} s ({spread})")


def layout(options: argparse.Namespace) -> None:
    """`tltool map` on a warm store."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder) / "images"
        for one in sorted(p for p in options.data.iterdir() if p.is_dir()):
            if one.name == "BACKGROUND_Google":
                continue
            (chosen / one.name).mkdir(parents=True)
            for file in sorted(one.iterdir())[: options.per_class]:
                (chosen / one.name / file.name).write_bytes(file.read_bytes())
        command = [str(Path(sys.executable).parent / "tltool"), "map", str(chosen), "--force"]
        command += ["--backbone", options.backbone, "--store", f"{folder}/store"]
        command += ["--out", f"{folder}/map.html", "--quiet"]
        seconds = timed_commands(command, options.repetitions)
        images = sum(1 for _ in chosen.glob("*/*"))
        size = (Path(folder) / "map.html").stat().st_size / 1e6
    told(f"map of {images:,} images, {size:.1f} MB", seconds)


def run(options: argparse.Namespace) -> None:
    """The first run of `decaf.py`, as a run folder."""
    from decaf import draw

    import tltool
    from tltool.data import check_listing, read_listing
    from tltool.features import FeatureStore

    photos = options.work / "photos"
    with FeatureStore(options.work / "store") as kept:
        dataset, _ = check_listing(read_listing(options.data), cache=kept)
    for one in draw(dataset, 0, 30, 30).examples:
        if one.label != "BACKGROUND_Google":
            file = photos / one.split / one.label / one.path.name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(one.path.read_bytes())
    found = tltool.adapt(
        photos,
        backbone=options.backbone,
        strategy="off-the-shelf",
        recipe="recommended",
        out=options.work / "run",
        store=options.work / "store",
        force=True,
    )
    print(found.run, found.evaluation.metrics["mean_class_accuracy"])


def report(options: argparse.Namespace) -> None:
    """`tltool report` of a finished run."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        command = [str(Path(sys.executable).parent / "tltool"), "report", str(options.run_folder)]
        command += ["--out", str(page), "--force"]
        seconds = timed_commands(command, options.repetitions)
        size = page.stat().st_size / 1e6
    told(f"report of {options.run_folder.name}, {size:.1f} MB", seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("maximal", help="the images that excite each channel most")
    one.add_argument("data", type=Path)
    one.add_argument("--backbone", default="mobilenet-0.25")
    one.add_argument("--tap", help="default: that of tltool look")
    one.add_argument("--engine", default="openvino", choices=("keras", "openvino"))
    one.add_argument("--store", type=Path, help="where checks are kept; default: the user's")
    one.add_argument("--repetitions", type=int, default=3)
    one.add_argument("--measure", choices=("search", "plain"), help=argparse.SUPPRESS)
    one.set_defaults(run=maximal)
    one = commands.add_parser("occlusion", help="an occlusion map against the bare engine")
    one.add_argument("run_folder", type=Path, metavar="RUN")
    one.add_argument("image", type=Path, metavar="IMAGE")
    one.add_argument("--stride", type=int, default=8, help="pixels")
    one.add_argument("--repetitions", type=int, default=9)
    one.set_defaults(run=occlusion)
    one = commands.add_parser("map", help="a map on a warm store")
    one.add_argument("data", type=Path, help="a folder of class folders")
    one.add_argument("--backbone", default="mobilenet-0.25")
    one.add_argument("--per-class", type=int, default=30)
    one.add_argument("--repetitions", type=int, default=3)
    one.set_defaults(run=layout)
    one = commands.add_parser("run", help="the run of decaf.py's protocol")
    one.add_argument("data", type=Path)
    one.add_argument("work", type=Path, help="folder to make")
    one.add_argument("--backbone", default="mobilenet-0.25")
    one.set_defaults(run=run)
    one = commands.add_parser("report", help="the report of a run once more")
    one.add_argument("run_folder", type=Path, metavar="RUN")
    one.add_argument("--repetitions", type=int, default=3)
    one.set_defaults(run=report)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
