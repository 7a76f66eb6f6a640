"""Whole commands as a user waits for them: help, a second prediction, a warm adapt.

TLTOOL_WEIGHTS=FOLDER python benchmarks/commands.py caltech101/101_ObjectCategories
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

TLTOOL = str(Path(sys.executable).parent / "tltool")


def seconds(command: list[str], repetitions: int) -> tuple[float, str]:
    """Median wall time of a command, and what it printed last."""
    times, output = [], ""
    for _ in range(repetitions):
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - started)
        output = done.stdout
    return statistics.median(times), output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="mobilenet-0.25")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    n = options.repetitions

    print(f"python -c pass: {seconds([sys.executable, '-c', 'pass'], n)[0]:.3f} s")
    print(f"tltool --help: {seconds([TLTOOL, '--help'], n)[0]:.3f} s")
    imports = seconds([sys.executable, "-c", "import tltool.workflow, keras, openvino"], 3)[0]
    print(f"imports of adapt (TensorFlow, Keras, OpenVINO): {imports:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        adapt = [
            TLTOOL,
            "adapt",
            str(options.data),
            "--strategy",
            "off-the-shelf",
            "--backbone",
            options.backbone,
            "--out",
            str(run),
            "--store",
            str(Path(folder) / "store"),
            "--force",
            "--json",
        ]
        cold, printed = seconds(adapt, 1)
        print(f"adapt, cold store: {cold:.1f} s, phases {json.loads(printed)['seconds']}")
        warm, printed = seconds(adapt, 3)
        print(
            f"adapt, warm store: {warm:.1f} s, less imports {warm - imports:.1f} s, "
            f"phases {json.loads(printed)['seconds']}"
        )
        photo = next(options.data.rglob("*.jpg"))
        predict = [TLTOOL, "predict", str(run), str(photo)]
        first, _ = seconds(predict, 1)
        second, _ = seconds(predict, n)
        print(f"predict one photo: first {first:.2f} s, then {second:.2f} s")


if __name__ == "__main__":
    main()
