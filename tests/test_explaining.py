"""`tltool explain`: what is written, what is told, and what becomes of files and names."""

import json
import shutil
from itertools import count

import keras
import numpy as np
import pytest
from conftest import features_run, picture, save
from markupsafe import escape
from PIL import Image
from test_report import NASTY, Page, in_browser, needs_chromium
from typer.testing import CliRunner

import tltool
from tltool import TltoolError
from tltool import explaining as explaining_module
from tltool.cli import app
from tltool.data import canvas
from tltool.report.overlays import overlay, shown_image

LABELS = (NASTY, 'other & "more"', "\u05d0\u05d1/\u05d2", "\U0001f98b 'x'")
QUICK = {"checks": 0, "maps": "grad-cam"}
SMALL = ("--patch", "8", "--stride", "4")


@pytest.fixture(scope="module")
def ensemble(finished_run, tmp_path_factory):
    """An ensemble of the finished run and one on features of another depth."""
    data, result = finished_run
    root = tmp_path_factory.mktemp("ensemble")
    features_run(data, root / "low", tap="stage2", store=root / "store")
    given = {"combine": "mean", "store": root / "store"}
    return tltool.ensemble([result.run, root / "low"], out=root / "both", **given).result.run


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """A run whose classes are called what pages must not take at their word."""
    root = tmp_path_factory.mktemp("nasty")
    rows = ["image,label"]
    for number, label in enumerate(LABELS):
        for i in range(8):
            name = f"{number}-{i}.png"
            save(root / "files" / name, picture(i + 100 * number, hue=number % 3))
            quoted = label.replace('"', '""')
            rows.append(f'files/{name},"{quoted}"')
    (root / "table.csv").write_text("\n".join(rows) + "\n", "utf-8")
    given = {"classifier": "ridge", "store": root / "store"}
    return features_run(root / "table.csv", root / "run", **given).run


@pytest.fixture(scope="module")
def nasty_page(nasty, tmp_path_factory):
    """What was found of a file that is called as badly as the classes, and the page."""
    root = tmp_path_factory.mktemp("page")
    name = save(root / "<img src=x onerror=alert(1)>.png", picture(5))
    given = {"patch": 8, "stride": 4, "checks": 1, "label": NASTY}
    found, _ = tltool.explain(nasty, name, out=root / "out", **given)
    return found, found.page.read_text("utf-8")


@pytest.fixture(scope="module")
def explained(finished_run, tmp_path_factory):
    """What the command wrote and said of two images, with all checks."""
    data, result = finished_run
    out = tmp_path_factory.mktemp("explained") / "new" / "out"
    images = [data / "red" / "1.png", data / "blue" / "2.png"]
    done = command(result.run, *images, "--out", out, *SMALL, "--checks", "1", "--json")
    assert done.exit_code == 0, done.output
    return out, images, json.loads(done.stdout), result


def command(*given):
    return CliRunner().invoke(app, ["explain", *map(str, given)])


class TestWhatIsWritten:
    def test_overlays_and_a_page(self, explained):
        out, images, _, result = explained
        kinds = ("occlusion", "grad-cam", "class-activation")
        expected = {f"{image.stem}-{kind}.png" for image in images for kind in kinds}
        assert {path.name for path in out.iterdir()} == expected | {"index.html"}
        for name in expected:
            with Image.open(out / name) as drawn:
                pixels = np.asarray(drawn.convert("RGB"), np.int16)
            assert np.ptp(pixels, axis=-1).max() > 50
            assert drawn.size[0] / drawn.size[1] == 40 / 30
        text = (out / "index.html").read_text("utf-8")
        page = Page(text)
        assert len(page.images) == 2 * 4
        assert all(one["src"].startswith("data:image/") for one in page.images)
        assert all(a.startswith(("data:", "#")) for a in page.addresses)
        assert f"What {result.run.name} looks at" in text
        for words in ("Do these places matter?", "Do the maps follow what was learned?"):
            assert text.count(words) == 1
        assert "predictions" in text and "random" in text

    def test_values_as_json(self, explained):
        out, images, said, result = explained
        assert said["run"] == str(result.run) and said["page"] == str(out / "index.html")
        assert (said["patch"], said["stride"], said["bad_files"]) == (8, 4, [])
        assert [one["file"] for one in said["images"]] == [str(image) for image in images]
        known, _ = tltool.predict(result.run, images)
        for one, predicted in zip(said["images"], known, strict=True):
            label, p = predicted.top[0]
            assert one["explained"] == label == one["top"][0]["label"]
            assert one["probability"] == one["top"][0]["probability"] == pytest.approx(p, abs=1e-3)
            assert -1 <= one["largest_drop"] <= one["probability"]
            assert set(one["maps"]) == {"occlusion", "grad-cam", "class-activation"}
        first, second = said["images"]
        for areas in (first["deletion"], first["insertion"]):
            assert set(areas) == {"occlusion", "grad-cam", "class-activation", "random"}
            assert all(0 <= value <= 1 for value in areas.values())
        assert second["deletion"] is second["insertion"] is None

    def test_maps_follow_what_was_learned(self, explained):
        checks = {check["map"]: check for check in explained[2]["checks"]}
        assert list(checks) == ["occlusion", "grad-cam", "class-activation"]
        for check in checks.values():
            assert check["layers"][0] == "predictions" and check["layers"][-1] == "conv1"
            assert len(check["layers"]) == len(check["likeness"]) == 8
            assert all(-1 <= value < 0.95 for value in check["likeness"])

    def test_shuffling_leaves_the_run_as_it_was(self, explained, tmp_path):
        """An image explained after the checks has the maps that it has without any."""
        out, images, said, result = explained
        given = {"out": tmp_path / "out", "patch": 8, "stride": 4, "checks": 0}
        found, _ = tltool.explain(result.run, images[1], **given)
        assert found.checks == ()
        assert found.images[0].deletion is None
        assert "Do the maps" not in found.page.read_text("utf-8")
        for path in found.images[0].maps.values():
            new, old = (
                np.asarray(Image.open(folder / path.name), np.int16)
                for folder in (tmp_path / "out", out)
            )
            assert np.abs(new - old).max() <= 2
        assert found.images[0].largest_drop == pytest.approx(
            said["images"][1]["largest_drop"], abs=1e-4
        )

    def test_areas_and_likeness_are_printed(self, explained, tmp_path):
        _, images, said, result = explained
        given = ("--maps", "grad-cam,class-activation", "--checks", "1")
        done = command(result.run, images[0], "--out", tmp_path / "out", *given)
        assert done.exit_code == 0, done.output
        lines = done.stdout.splitlines()
        one = said["images"][0]
        for kind in ("grad-cam", "class-activation"):
            (row,) = (
                line.split()
                for line in lines
                if kind in line and kind + "," not in line and kind + ":" not in line
            )
            (verdict,) = (line for line in lines if line.startswith(f"{kind}:"))
            assert verdict in said["verdicts"] or "of 1 image" in verdict
            printed = [float(value) for value in row[-4:]]
            expected = [one[a][n] for a in ("deletion", "insertion") for n in (kind, "random")]
            assert printed == pytest.approx(expected, abs=2e-3)
            (line,) = (line for line in lines if line.startswith(f"{kind}, likeness"))
            (check,) = (check for check in said["checks"] if check["map"] == kind)
            steps = [
                f"{n} {v:.2f}" for n, v in zip(check["layers"], check["likeness"], strict=True)
            ]
            assert line.partition(": ")[2] == ", ".join(steps)
        assert not any("occlusion" in line for line in lines)
        assert f"Page: {tmp_path / 'out' / 'index.html'}" in done.stdout


class TestSettings:
    def test_another_class(self, finished_run, tmp_path):
        data, result = finished_run
        given = ("--label", "green", "--maps", "grad-cam", "--checks", "0", "--json")
        done = command(result.run, data / "red" / "1.png", "--out", tmp_path / "out", *given)
        (one,) = json.loads(done.stdout)["images"]
        assert one["top"][0]["label"] == "red" and one["explained"] == "green"
        said = tltool.Run(result.run).predictor()
        pixels = canvas((data / "red" / "1.png").read_bytes(), (32, 32))
        expected = said(pixels[None])[0, result.labels.index("green")]
        assert one["probability"] == pytest.approx(expected, abs=1e-4)
        own, _ = tltool.explain(result.run, data / "red" / "1.png", out=tmp_path / "own", **QUICK)
        drawn = [
            np.asarray(Image.open(path))
            for path in (one["maps"]["grad-cam"], own.images[0].maps["grad-cam"])
        ]
        assert (drawn[0] != drawn[1]).mean() > 0.05

    def test_the_square(self, finished_run, tmp_path):
        data, result = finished_run
        given = ("--maps", "occlusion", "--checks", "1", "--patch", "16", "--stride", "8")
        done = command(
            result.run, data / "red" / "1.png", "--out", tmp_path / "out", *given, "--json"
        )
        found = json.loads(done.stdout)
        assert (found["patch"], found["stride"]) == (16, 8)
        assert list(found["images"][0]["maps"]) == ["occlusion"]
        assert [check["map"] for check in found["checks"]] == ["occlusion"]
        assert "square of 16 pixels" in (tmp_path / "out" / "index.html").read_text("utf-8")

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"label": "gren"}, "did you mean 'green'"),
            ({"maps": "gradcam"}, "did you mean 'grad-cam'"),
            ({"maps": "occlusion,"}, "--maps ''"),
            ({"patch": 0}, "--patch"),
            ({"stride": 0}, "--stride"),
            ({"patch": 32}, "--patch must be a whole number from 1 to 31"),
            ({"stride": 5000}, "--stride must be a whole number from 1 to 31"),
            ({"checks": -1}, "--checks"),
            ({"maps": "grad-cam", "patch": 8}, "--patch is for --maps occlusion"),
        ],
    )
    def test_that_cannot_be(self, finished_run, tmp_path, given, said):
        data, result = finished_run
        with pytest.raises(TltoolError, match=said):
            tltool.explain(result.run, data / "red" / "1.png", out=tmp_path / "out", **given)
        assert not (tmp_path / "out").exists()

    def test_interrupted(self, finished_run, tmp_path, monkeypatch):
        """The page has what was finished."""
        data, result = finished_run
        explained, times = explaining_module._Explainer.explain, count(1)

        def interrupted(*given):
            if next(times) == 3:
                raise KeyboardInterrupt
            return explained(*given)

        monkeypatch.setattr(explaining_module._Explainer, "explain", interrupted)
        images = [data / "red" / f"{i}.png" for i in range(4)]
        with pytest.raises(KeyboardInterrupt, match="has the 2 images that were finished"):
            tltool.explain(result.run, images, out=tmp_path / "out", maps="grad-cam")
        text = (tmp_path / "out" / "index.html").read_text("utf-8")
        assert text.count("<h2") >= 2

    def test_all_maps_among_others(self, finished_run, tmp_path):
        data, result = finished_run
        given = {"out": tmp_path / "out", "checks": 0, "patch": 16, "stride": 16}
        found, _ = tltool.explain(
            result.run, data / "red" / "1.png", maps="occlusion, auto", **given
        )
        assert list(found.images[0].maps) == ["occlusion", "grad-cam", "class-activation"]

    def test_a_folder_that_is_there(self, finished_run, tmp_path):
        data, result = finished_run
        out = tmp_path / "out"
        out.mkdir()
        (out / "1-grad-cam.png").write_text("mine")
        given = (result.run, data / "red" / "1.png", "--maps", "grad-cam", "--checks", "0")
        done = command(*given, "--out", out)
        assert done.exit_code == 1 and "add --force" in done.output
        assert [path.name for path in out.iterdir()] == ["1-grad-cam.png"]
        assert (out / "1-grad-cam.png").read_text() == "mine"
        done = command(*given, "--out", out, "--force", "--quiet")
        assert (done.exit_code, done.stdout) == (0, "")
        assert Image.open(out / "1-grad-cam.png").size == (200, 150)
        with pytest.raises(TltoolError, match="is a file"):
            tltool.explain(*given[:2], out=out / "index.html", **QUICK)

    def test_the_usual_folder(self, finished_run, tmp_path, monkeypatch):
        data, result = finished_run
        monkeypatch.chdir(tmp_path)
        found, _ = tltool.explain(result.run, data / "red" / "1.png", **QUICK)
        assert (found.patch, found.stride) == (5, 1)
        assert (tmp_path / f"explain-{result.run.name}" / "index.html").is_file()
        assert found.page.is_file()


class TestFiles:
    def test_names_that_collide(self, finished_run, tmp_path):
        data, result = finished_run
        long = "x" * 240
        names = ["a/new.png", "b/new.png", "c/NEW.png", "d/new-2.png", f"e/{long}.png"]
        names += ["f/a b?.png", "g/a-b-.png", f"h/{long}.png", "i/\u05d0\U0001f98b.png"]
        paths = []
        for i, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir()
            shutil.copy(data / "red" / f"{i}.png", path)
            paths.append(path)
        found, bad = tltool.explain(result.run, paths, out=tmp_path / "out", **QUICK)
        assert not bad and [one.file for one in found.images] == [str(path) for path in paths]
        files = [path.name.casefold() for one in found.images for path in one.maps.values()]
        assert len(set(files)) == len(names)
        assert all(
            (tmp_path / "out" / path.name).is_file()
            for one in found.images
            for path in one.maps.values()
        )
        assert files[0] == "new-grad-cam.png" and len(list((tmp_path / "out").iterdir())) == 10

    def test_unreadable_ones_are_named_and_others_explained(self, finished_run, tmp_path):
        data, result = finished_run
        good, broken = data / "red" / "1.png", tmp_path / "broken.png"
        broken.write_bytes(good.read_bytes()[:60])
        text = tmp_path / "text.jpg"
        text.write_text("no picture")
        given = ("--out", tmp_path / "out", "--maps", "grad-cam", "--checks", "1", "--json")
        done = command(result.run, broken, good, text, *given)
        assert done.exit_code == 1
        found = json.loads(done.stdout)
        assert [one["file"] for one in found["images"]] == [str(good)]
        assert [bad["file"] for bad in found["bad_files"]] == [str(broken), str(text)]
        assert found["images"][0]["deletion"] and found["checks"]
        assert (tmp_path / "out" / "index.html").is_file()

    def test_none_that_can_be_read(self, finished_run, tmp_path):
        _, result = finished_run
        paths = [tmp_path / name for name in ("one.png", "two.png")]
        for path in paths:
            path.write_text("no picture")
        with pytest.raises(TltoolError, match=r"among 2 files; the first, .*one\.png, ") as said:
            tltool.explain(result.run, paths, out=tmp_path / "out", **QUICK)
        assert "\n" not in str(said.value)
        with pytest.raises(TltoolError, match="among 1 file; the first"):
            tltool.explain(result.run, paths[1], out=tmp_path / "out", **QUICK)
        assert not (tmp_path / "out").exists()
        with pytest.raises(TltoolError, match="does not exist"):
            tltool.explain(result.run, tmp_path / "gone.png", out=tmp_path / "out", **QUICK)


class TestRuns:
    def test_an_ensemble(self, ensemble, finished_run, tmp_path):
        data, _ = finished_run
        image = data / "green" / "3.png"
        with pytest.raises(TltoolError, match="take occlusion, grad-cam") as refused:
            tltool.explain(ensemble, image, out=tmp_path / "out", maps="class-activation")
        advised = str(refused.value).partition("take ")[2].rstrip(".")
        given = {"patch": 8, "stride": 4, "checks": 1}
        found, bad = tltool.explain(ensemble, image, out=tmp_path / "out", maps=advised, **given)
        assert not bad
        assert list(found.images[0].maps) == ["occlusion", "grad-cam"]
        assert [check.map for check in found.checks] == ["occlusion", "grad-cam"]
        assert all(value < 0.95 for check in found.checks for value in check.likeness)

    def test_a_network_without_places(self, finished_run, tmp_path):
        """An occlusion map asks nothing of a network, and is put to the test all the same."""
        data, result = finished_run
        run = shutil.copytree(result.run, tmp_path / "run")
        pixels = keras.Input((32, 32, 3), dtype="uint8")
        flat = keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(pixels))
        last = keras.layers.Dense(3, activation="softmax", name="predictions")
        keras.Model(pixels, last(flat)).save(run / "model.keras")
        given = {"patch": 8, "stride": 4, "checks": 1, "engine": "keras"}
        image = data / "red" / "1.png"
        found, _ = tltool.explain(run, image, out=tmp_path / "out", **given)
        assert list(found.images[0].maps) == ["occlusion"]
        assert [(check.map, check.layers) for check in found.checks] == [
            ("occlusion", ("predictions",))
        ]
        with pytest.raises(TltoolError, match="an occlusion map can be had of any"):
            tltool.explain(run, image, out=tmp_path / "no", maps="grad-cam")

    def test_names_of_classes_are_escaped(self, nasty, nasty_page, tmp_path):
        found, text = nasty_page
        (one,) = found.images
        assert one.explained == NASTY and {name for name, _ in one.top} < set(LABELS)
        assert "<script" not in text and "<img src=x" not in text
        assert "&lt;script&gt;" in text and "&lt;img src=x" in text
        for name, _ in one.top:
            assert f"<bdi>{escape(name)}</bdi> " in text
        given = ("--maps", "grad-cam", "--checks", "0", "--label", LABELS[1])
        done = command(nasty, one.file, "--out", tmp_path / "out", *given, "--json")
        assert json.loads(done.stdout)["images"][0]["explained"] == LABELS[1]
        text = (tmp_path / "out" / "index.html").read_text("utf-8")
        assert f"<b><bdi>{escape(LABELS[1])}</bdi></b>" in text
        (image,) = (i for i in Page(text).images if "grad-cam" in i["alt"])
        assert image["alt"].endswith(f" for {LABELS[1]}")


@needs_chromium
def test_a_browser_shows_the_page(nasty_page, tmp_path):
    found, _ = nasty_page
    script = "document.title = [...document.images].filter(i => i.naturalWidth > 0).length"
    dom, said = in_browser(found.page, tmp_path, script)
    assert said == []
    assert "<title>4</title>" in dom
    page = Page(dom)
    assert page.tags.count("img") == 4 and page.tags.count("script") == 1
    assert page.tags.count("svg") == 3


class TestOverlay:
    def test_red_speaks_for_and_blue_against(self):
        values = np.zeros((4, 4))
        values[0, 0], values[3, 3] = 1.0, -1.0
        image = Image.fromarray(np.full((40, 60, 3), (90, 160, 90), np.uint8))
        drawn = np.asarray(overlay(image, values), np.int16)
        assert drawn.shape == (40, 60, 3)
        assert drawn[2, 2, 0] > drawn[2, 2, 2] + 50
        assert drawn[-3, -3, 2] > drawn[-3, -3, 0] + 50
        assert np.ptp(drawn[20, 30]) == np.ptp(drawn[5, 50]) == 0

    @pytest.mark.parametrize("value", [0.0, 1e-30, -3.0])
    def test_maps_of_one_value(self, value):
        image = Image.fromarray(np.full((9, 7, 3), 100, np.uint8))
        drawn = np.asarray(overlay(image, np.full((1, 1), value)), np.int16)
        assert (np.ptp(drawn, axis=-1).max() > 50) == (value != 0)

    @pytest.mark.parametrize(
        ("size", "shown"),
        [
            ((40, 30), (200, 150)),
            ((1, 1), (224, 224)),
            ((2000, 500), (448, 112)),
            ((3000, 1), None),
        ],
    )
    def test_images_are_shown_large_enough(self, tmp_path, size, shown):
        path = save(tmp_path / "a.png", np.zeros((size[1], size[0], 3), np.uint8))
        found = shown_image(path)
        assert found.mode == "RGB" and found.size == (shown or (448, 1))
