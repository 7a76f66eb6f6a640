"""What looking into a network costs.

    TLTOOL_WEIGHTS=FOLDER python benchmarks/looking.py maximal caltech/101_ObjectCategories

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
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
