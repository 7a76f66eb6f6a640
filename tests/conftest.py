"""What the tests share: small image folders, and caches that belong to one test session."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[2] / "shared"


def needs_shared(*names):
    """Skip, saying why, where a file of ../shared is missing."""
    missing = [name for name in names if not (SHARED / name).exists()]
    return pytest.mark.skipif(
        bool(missing), reason=f"../shared/{missing and missing[0]} is missing"
    )


def pytest_configure():
    """Ctrl-C reaches the processes that tests start, even where the tests run in the background:
    a shell without job control has its background jobs ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Files with slow tests go first: where files end at different times, short ones end last."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory):
    """No test reads or writes the caches of whoever runs it."""
    folder = tmp_path_factory.mktemp("cache")
    kept = dict(os.environ)
    os.environ["TLTOOL_CACHE"] = str(folder)
    os.environ["KERAS_HOME"] = str(folder / "keras")
    os.environ["XDG_DATA_HOME"] = str(folder / "data")
    os.environ.pop("TLTOOL_WEIGHTS", None)
    os.environ.pop("TLTOOL_STORE", None)
    yield folder
    os.environ.clear()
    os.environ.update(kept)


def picture(seed, size=(40, 30), hue=0):
    """A smooth random picture `(height, width, 3)`, uint8; `hue` says which channel is strong."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 120, (4, 4, 3)).astype(np.uint8)
    coarse[..., hue % 3] += 120
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def class_folders(root, classes=("red", "green", "blue"), n=12, size=(40, 30), start=0):
    """Folders of PNGs whose strong channel tells their class."""
    for hue, label in enumerate(classes):
        for i in range(n):
            save(root / label / f"{i}.png", picture(start + 1000 * hue + i, size, hue))
    return root


def killed_in_training(data, out, store, settings, longest):
    """`tltool adapt`, killed at a random moment once an epoch was finished."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    command = [str(Path(sys.executable).parent / "tltool"), "adapt", str(data), *options]
    command += ["--out", str(out), "--store", str(store)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=dict(os.environ))
    while not (out / "training.safetensors").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    time.sleep(np.random.default_rng().uniform(0.0, longest))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert json.loads((out / "run.json").read_text())["state"] == "running"


def histories(*runs):
    """Of each run, what came of its epochs, without the seconds that they took."""
    found = []
    for run in runs:
        with (run / "history.csv").open() as file:
            found.append([row[:-1] for row in csv.reader(file)])
    return found


def features_run(data, out, **given):
    """`tltool.adapt` with off-the-shelf features of the embedded network."""
    import tltool

    usual = {"strategy": "off-the-shelf", "backbone": "cifar-resnet20", "test": 0.3}
    return tltool.adapt(data, out=out, **{**usual, **given})


@pytest.fixture
def photos(tmp_path):
    """Three classes of twelve small pictures."""
    return class_folders(tmp_path / "photos")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A finished run on three easy classes, its data, and what `adapt` returned."""

    root = tmp_path_factory.mktemp("finished")
    data = class_folders(root / "photos", n=20)
    result = features_run(data, root / "run", store=root / "store")
    return data, result


def lively(network):
    """Random weights under which every layer matters: batch norms and biases included."""
    random = np.random.default_rng(0)
    ranges = {"moving_variance": (1, 2), "gamma": (0.5, 1)}  # no layer makes its input larger
    for variable in network.weights:
        if variable.name in ranges:
            variable.assign(random.uniform(*ranges[variable.name], variable.shape))
        elif variable.name in ("beta", "bias", "moving_mean"):
            variable.assign(random.normal(0, 0.1, variable.shape))
    return network


@pytest.fixture(scope="session")
def caltech_files():
    """Gives the bytes of images of Caltech-101, spread evenly over all classes or over one."""

    def some(n, label=""):
        with zipfile.ZipFile(SHARED / "data" / "caltech101.zip") as files:
            wanted = f"/{label}/" if label else "/"
            names = [x for x in files.namelist() if wanted in x and x.endswith(".jpg")]
            names = [name for name in sorted(names) if "/." not in name]
            return [files.read(names[i * len(names) // n]) for i in range(n)]

    return some
