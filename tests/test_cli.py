"""The command as a user meets it: what it prints where, and its exit status."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import picture, save

COMMAND = [str(Path(sys.executable).parent / "tltool")]


def tltool(*arguments, **options):
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )
    assert "Traceback" not in done.stderr
    return done


def sentence(done):
    """The one sentence of an error: the last line on standard error."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    return done.stderr.strip().splitlines()[-1]


HELP = [
    "adapt",
    "check",
    "predict",
    "evaluate",
    "compare",
    "advise",
    "demo",
    "store",
    ["store", "info"],
    ["store", "prune"],
    "backbones",
    ["weights", "import"],
]


@pytest.mark.parametrize("command", HELP, ids=str)
def test_help(command):
    done = tltool(*([command] if isinstance(command, str) else command), "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_version():
    assert tltool("--version").stdout.startswith("tltool 0.")


def test_adapt_prints_the_json_that_is_promised(photos, tmp_path):
    (photos / "red" / "0.png").write_bytes(b"")
    done = tltool(
        "adapt",
        photos,
        "--backbone",
        "cifar-resnet20",
        "--out",
        tmp_path / "run",
        "--store",
        tmp_path / "store",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert {
        "run",
        "strategy",
        "backbone",
        "n_train",
        "n_test",
        "metrics",
        "seconds",
        "bad_files",
    } <= set(printed)
    assert printed["n_train"] + printed["n_test"] == 35
    assert set(printed["metrics"]) == {
        "accuracy",
        "mean_class_accuracy",
        "macro_f1",
        "log_loss",
        "expected_calibration_error",
    }
    for interval in printed["metrics"].values():
        assert set(interval) == {"value", "low", "high"}
    assert set(printed["seconds"]) == {"check", "advise", "extract", "fit", "evaluate"}
    assert printed["bad_files"] == [{"file": "red/0.png", "reason": "is empty (0 bytes)"}]
    assert done.stderr.splitlines() == ["red/0.png: is empty (0 bytes)"]

    again = tltool("evaluate", tmp_path / "run", photos, "--split", "test", "--json")
    other = json.loads(again.stdout)
    assert set(other) == set(printed)
    assert other["metrics"]["accuracy"] == printed["metrics"]["accuracy"]


def test_adapt_table_and_quiet(photos, tmp_path):
    arguments = [
        *("adapt", photos, "--strategy", "off-the-shelf", "--backbone", "cifar-resnet20"),
        *("--store", tmp_path / "store"),
    ]
    done = tltool(*arguments, "--out", tmp_path / "run")
    assert "Accuracy" in done.stdout
    assert "most frequent class" in done.stdout
    assert done.stderr == ""
    quiet = tltool(*arguments, "--out", tmp_path / "other", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_long_bad_file_names_are_not_wrapped(photos, tmp_path):
    name = "long name " * 20 + ".png"
    (photos / "red" / name).write_bytes(b"x")
    done = tltool("check", photos, "--store", tmp_path / "store", "--json")
    line = f"red/{name}: is not an image that can be read (starts with b'x')"
    assert done.stderr.splitlines() == [line]
    assert json.loads(done.stdout)["bad_files"][0]["file"] == f"red/{name}"


def test_check_table(photos, tmp_path):
    done = tltool("check", photos, "--store", tmp_path / "store")
    assert "36 of 36 files can be used" in done.stdout


class TestPredict:
    def run(self, finished_run, *arguments):
        return tltool("predict", finished_run[1].run, *arguments)

    def test_table(self, finished_run):
        photo = finished_run[0] / "red" / "0.png"
        assert str(photo) in self.run(finished_run, photo).stdout

    def test_csv(self, finished_run):
        done = self.run(finished_run, finished_run[0] / "red", "--format", "csv", "--top-k", "2")
        lines = done.stdout.splitlines()
        assert lines[0] == "file,label_1,probability_1,label_2,probability_2"
        assert len(lines) == 21

    def test_json(self, finished_run):
        done = self.run(finished_run, finished_run[0] / "red" / "0.png", "--format", "json")
        printed = json.loads(done.stdout)
        assert printed["bad_files"] == []
        (one,) = printed["predictions"]
        assert one["predicted"] == one["top"][0]["label"]
        assert one["probability"] == one["top"][0]["probability"]

    def test_good_ones_are_printed_beside_bad_ones(self, finished_run, tmp_path):
        bad = tmp_path / "bad.png"
        bad.write_bytes(b"")
        done = self.run(finished_run, finished_run[0] / "red" / "0.png", bad, "--format", "csv")
        assert done.returncode == 1
        assert len(done.stdout.splitlines()) == 2
        assert done.stderr == f"{bad}: is empty (0 bytes)\n"


class TestBadInput:
    def test_wrong_usage_is_status_2(self, photos):
        assert tltool("adapt").returncode == 2
        assert tltool("adapt", photos, "--no-such-option").returncode == 2
        assert tltool("adapt", photos, "--engine", "tensorrt").returncode == 2
        assert tltool("no-such-command").returncode == 2

    def test_missing_folder(self, tmp_path):
        assert "does not exist" in sentence(tltool("adapt", tmp_path / "gone"))

    def test_wrong_backbone_offers_the_nearest(self, photos):
        done = tltool("adapt", photos, "--backbone", "mobilenet")
        assert "did you mean 'mobilenet-v2' or 'mobilenet-1.0'" in sentence(done)

    @pytest.mark.skipif(not Path("/proc").is_dir(), reason="this system has no /proc")
    def test_output_where_not_even_root_may_write(self, photos, tmp_path):
        done = tltool(
            "adapt",
            photos,
            "--backbone",
            "cifar-resnet20",
            "--out",
            "/proc/run",
            "--store",
            tmp_path / "store",
        )
        assert "Could not write to /proc/run" in sentence(done)

    def test_output_below_a_file(self, photos, tmp_path):
        (tmp_path / "file").write_text("x")
        done = tltool(
            "adapt",
            photos,
            "--backbone",
            "cifar-resnet20",
            "--out",
            tmp_path / "file" / "run",
            "--store",
            tmp_path / "store",
        )
        assert "Could not write to" in sentence(done)

    def test_store_that_cannot_be(self, photos, tmp_path):
        (tmp_path / "file").write_text("x")
        done = tltool("adapt", photos, "--backbone", "cifar-resnet20", "--store", tmp_path / "file")
        assert "name another with --store" in sentence(done)

    def test_finished_run_is_not_overwritten(self, finished_run):
        data, result = finished_run
        before = (result.run / "model.keras").stat().st_mtime_ns
        done = tltool("adapt", data, "--backbone", "cifar-resnet20", "--out", result.run)
        assert "--force" in sentence(done)
        assert (result.run / "model.keras").stat().st_mtime_ns == before

    def test_debug_shows_the_traceback(self, tmp_path):
        done = subprocess.run(
            [*COMMAND, "adapt", str(tmp_path / "gone"), "--backbone", "cifar-resnet20", "--debug"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert "Traceback" in done.stderr


def test_interrupt_and_again(tmp_path):
    """Ctrl-C in the middle: status 130, one sentence, and the next call goes on."""
    photos = tmp_path / "photos"
    for i in range(400):
        save(photos / "ab"[i % 2] / f"{i}.png", picture(i, (300, 200), i))
    arguments = [
        "adapt",
        str(photos),
        "--strategy",
        "off-the-shelf",
        "--backbone",
        "cifar-resnet20",
        "--out",
        str(tmp_path / "run"),
        "--store",
        str(tmp_path / "store"),
    ]
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "run.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.splitlines()[-1].startswith("Interrupted; what was stored is kept")
    assert "Traceback" not in error
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "running"
    assert "was not finished" in sentence(tltool("predict", tmp_path / "run", photos))
    done = tltool(*arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "finished"


def test_an_interrupt_that_a_library_drops_comes_with_the_next_step():
    code = (
        "import os, signal\n"
        "from tltool._progress import progress\n"
        "from tltool.cli.running import explained\n"
        "@explained\n"
        "def work():\n"
        "    with progress('working', 3) as advance:\n"
        "        advance(1)\n"
        "        try:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "        except BaseException:\n"
        "            print('dropped')\n"
        "        advance(1)\n"
        "        print('done all the same')\n"
        "work()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stdout == "dropped\n"
    assert done.stderr.startswith("Interrupted; what was stored is kept")


def test_store_info_and_prune(finished_run):
    store = finished_run[1].run.parent / "store"
    printed = json.loads(tltool("store", "info", "--store", store, "--json").stdout)
    assert printed["inspections"] == 60
    assert printed["spaces"][0]["images"] == 60
    assert "cifar-resnet20" in tltool("store", "info", "--store", store).stdout
    assert tltool("store", "prune", "--store", store, "--max-size", "lots").returncode == 2
    done = tltool("store", "prune", "--store", store, "--max-size", "1GB", "--json")
    assert json.loads(done.stdout)["freed"] == 0


@pytest.mark.slow
def test_demo(tmp_path):
    done = tltool("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "tltool-demo" / "digits").rglob("*.png"))) == 1797
    assert "report.html" in done.stdout
    assert "tltool adapt PHOTOS" in done.stdout
    facts = json.loads((tmp_path / "tltool-demo" / "run" / "run.json").read_text())
    assert facts["metrics"]["accuracy"]["value"] > 0.9
    advice = next(line for line in done.stdout.splitlines() if "tltool predict" in line)
    again = tltool("predict", *advice.split("tltool predict")[1].split(), cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert tltool("demo", "--quiet", cwd=tmp_path).returncode == 0  # a second time as well


def test_backbones_are_listed_without_tensorflow():
    done = tltool("backbones")
    for part in ("resnet50", "25.6 M", "224x224", "74.9", "92.1", "packaged", "CC BY 4.0"):
        assert part in done.stdout
    code = (
        "import sys; sys.argv = ['tltool', 'backbones']\nfrom tltool.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'tensorflow', 'keras', 'sklearn', 'openvino'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_backbones_as_json():
    listed = json.loads(tltool("backbones", "--json").stdout)["backbones"]
    facts = {entry["name"]: entry for entry in listed}
    assert facts["vgg16"]["parameters"] == 138_357_544
    assert facts["vgg16"]["accuracy"]["top5"] == 90.1
    assert facts["cifar-resnet20"]["weights"]["here"] == "packaged"


def test_narrow_terminal_shows_every_figure():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80"}
    with subprocess.Popen([*COMMAND, "backbones", "vgg16"], stdout=theirs, env=environment) as run:
        os.close(theirs)
        printed = b""
        with contextlib.suppress(OSError):  # how Linux tells that the other end is closed
            while piece := os.read(ours, 65536):
                printed += piece
    os.close(ours)
    assert run.returncode == 0
    assert printed.count(b"1,849,688,064") == 6
    assert "…".encode() not in printed


def test_options_of_a_page_need_its_name():
    done = tltool("backbones", "--by", "layer")
    assert done.returncode == 2
    assert "need the NAME" in done.stderr


def test_layers_of_a_backbone():
    page = tltool("backbones", "lenet5").stdout
    assert "c3                Conv2D            10x10x16       2,416" in page
    facts = json.loads(tltool("backbones", "lenet5", "--json").stdout)
    assert [row["name"] for row in facts["blocks"]] == ["block1", "block2", "block3", "head"]
    assert len(facts["layers"]) == 11
    by_block = tltool("backbones", "lenet5", "--by", "block").stdout
    assert "head" in by_block
    assert "Conv2D" not in by_block
    larger = json.loads(tltool("backbones", "lenet5", "--input-size", "36x40", "--json").stdout)
    assert larger["layers"][0]["output_shape"] == [36, 40, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["backbones", "resnet-50"], "did you mean 'resnet50'"),
        (["backbones", "vgg16", "--input-size", "20"], "from 32x32 to 2048x2048 pixels"),
        (["weights", "import", "nothing.h5", "--backbone", "resnet50"], "no such file"),
        (["weights", "import", "nothing.h5", "--backbone", "resnet5"], "did you mean"),
    ],
)
def test_backbones_and_weights_that_are_wrong(arguments, message):
    assert message in sentence(tltool(*arguments))


def test_imported_weights_are_used(tmp_path, photos):
    """The embedded network's, as a file of unknown origin for the small VGG's sister."""
    from tltool import Backbone

    network = Backbone("cifar-resnet32", "none", 3).network
    network.save(tmp_path / "mine.keras")
    (tmp_path / "weights").mkdir()
    environment = {**os.environ, "TLTOOL_WEIGHTS": str(tmp_path / "weights")}
    done = tltool(
        "weights",
        "import",
        tmp_path / "mine.keras",
        "--backbone",
        "cifar-resnet32",
        env=environment,
    )
    assert "without classification layers" in done.stdout
    assert "imported" in tltool("backbones", "cifar-resnet32", env=environment).stdout
    result = tltool(
        *("adapt", photos, "--strategy", "off-the-shelf", "--backbone", "cifar-resnet32"),
        *("--tap", "stage2:max,avgpool"),
        *("--out", tmp_path / "run", "--store", tmp_path / "store"),
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["settings"]["tap"] == ["stage2_block5_out:max", "stage3_block5_out:avg"]
    assert facts["weights"]["sha256"] in done.stdout
    spaces = json.loads(tltool("store", "info", "--store", tmp_path / "store", "--json").stdout)
    assert {space["tap"] for space in spaces["spaces"]} == set(facts["settings"]["tap"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tap", "stage9"], "did you mean 'stage3'"),
        (["--tap", "stage2:mean"], "Unknown pooling 'mean'"),
        (["--tap", "stage2,,"], "names no layer"),
        (["--input-size", "2"], "from 4x4 to 2048x2048 pixels"),
    ],
)
def test_taps_and_sizes_that_are_wrong(photos, options, message):
    done = tltool("adapt", photos, "--backbone", "cifar-resnet20", *options)
    assert message in sentence(done)


def test_tap_needs_a_backbone(photos):
    assert "needs --backbone" in sentence(tltool("adapt", photos, "--tap", "avgpool"))
