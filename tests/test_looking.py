"""First-layer filters, activations, and the images that excite channels most."""

import base64
import html
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from conftest import class_folders, features_run, lively, picture, save
from PIL import Image
from typer.testing import CliRunner

from tltool import TltoolError
from tltool._keras import import_keras
from tltool.backbones import Backbone
from tltool.backbones.layer_table import layer_rows
from tltool.backbones.twins import activations
from tltool.cli import app
from tltool.data import canvas
from tltool.features import make_engine
from tltool.filters import filter_pixels, first_filters
from tltool.looked_at import LookedAt
from tltool.looking import look
from tltool.map_taps import MapTaps
from tltool.maximal import RunningMaxima, is_cut, maxima_model
from tltool.receptive_fields import receptive_field

NASTY = '<img src=x onerror="alert(1)">&'


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes, one with a name to be escaped, a copy and a file that cannot be read."""
    root = tmp_path_factory.mktemp("looking") / "photos"
    class_folders(root, classes=("plain", NASTY), n=8)
    shutil.copy(root / "plain" / "1.png", root / NASTY / "copy.png")
    (root / "plain" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return root


def canvases(folder, size):
    """Every readable image's canvas by name, each content once."""
    found, seen = {}, set()
    for path in sorted(folder.rglob("*.png")):
        data = path.read_bytes()
        if data not in seen and path.name != "broken.png":
            seen.add(data)
            found[str(path.relative_to(folder))] = canvas(data, size)
    return found


def maps_of(network, layer, pixels):
    """Activations `(n, height, width, channels)` of a layer, by plain Keras."""
    keras = import_keras()
    return np.asarray(keras.Model(network.input, activations(network, layer))(pixels))


def pictures_of(page):
    """Alternative text and picture of every image on a page."""
    found = re.findall(r'<img[^>]*? src="data:image/\w+;base64,([^"]+)"[^>]*? alt="([^"]*)"', page)
    return {
        html.unescape(alt): Image.open(io.BytesIO(base64.b64decode(data))) for data, alt in found
    }


def saying(run, folder, **facts):
    """A copy of a run whose `run.json` says something else."""
    shutil.copytree(run, folder)
    told = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(told | facts))
    return folder


class TestFilters:
    @pytest.mark.parametrize("channels", ["RGB", "BGR"])
    def test_they_are_the_kernel(self, channels):
        network = Backbone("cifar-resnet20").network
        found = first_filters(network, channels)
        kernel = np.asarray(network.get_layer("conv1").kernel)
        assert (found.layer, found.stride) == ("conv1", (1, 1))
        for number, one in enumerate(found.kernels):
            own = kernel[..., number] if channels == "RGB" else kernel[..., ::-1, number]
            np.testing.assert_array_equal(one, own)

    def test_the_order_follows_the_preset(self):
        subject = LookedAt.backbone("resnet50", "none")
        assert subject.preset.preprocessing.channels == "BGR"
        found = first_filters(subject.network, "BGR")
        kernel = np.asarray(subject.network.get_layer(found.layer).kernel)
        np.testing.assert_array_equal(found.kernels[3, ..., 0], kernel[..., 2, 3])
        assert found.stride == (2, 2)

    def test_each_has_its_own_range(self):
        kernels = np.array([[0.0, 1.0, 2.0], [-5.0, 0.0, 5.0], [3.0, 3.0, 3.0]])
        found = filter_pixels(kernels.reshape(3, 1, 1, 3))
        assert found.reshape(3, 3).tolist() == [[0, 128, 255], [0, 128, 255], [128, 128, 128]]

    def test_the_page_shows_them_enlarged(self, tmp_path):
        done = look("cifar-resnet20", out=tmp_path / "look.html")
        assert (done.n_filters, done.kernel_size, done.tap) == (16, (3, 3), "")
        shown = pictures_of(done.out.read_text())
        assert len(shown) == 16
        expected = filter_pixels(first_filters(Backbone("cifar-resnet20").network).kernels)
        for number, pixels in enumerate(expected):
            seen = np.asarray(shown[f"First-layer filter {number}"])
            factor = len(seen) // 3
            np.testing.assert_array_equal(seen, pixels.repeat(factor, 0).repeat(factor, 1))

    def test_grey_networks(self, tmp_path):
        done = look("lenet5", weights="none", out=tmp_path / "look.html")
        assert done.kernel_size == (5, 5)
        assert "sees grey pixels" in done.out.read_text()
        assert {one.mode for one in pictures_of(done.out.read_text()).values()} == {"L"}


class TestReceptiveFields:
    """Against the pixels that a position's gradient reaches."""

    @staticmethod
    def networks(kind):
        keras = import_keras()
        layers = keras.layers
        inputs = x = keras.Input((33, 40, 3))
        if kind == "symmetric":
            x = layers.ZeroPadding2D(1)(x)
            x = layers.Conv2D(4, 3, strides=2, name="a")(x)
            x = layers.Conv2D(4, 3, padding="same", name="b")(x)
        elif kind == "asymmetric":  # "same" pads an even side on the right alone
            x = layers.Conv2D(4, 3, strides=2, padding="same", name="a")(x)
            x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
            x = layers.DepthwiseConv2D(3, strides=2, name="b")(x)
        elif kind == "dilated":
            x = layers.Conv2D(4, 3, dilation_rate=2, padding="same", name="a")(x)
            x = layers.AveragePooling2D(2, name="b")(x)
        else:
            x = layers.Conv2D(4, 3, strides=2, padding="same", name="a")(x)
            y = layers.Conv2D(4, 3, padding="same")(x)
            x = layers.Add()([x, y])
            gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
            x = layers.Multiply()([x, keras.ops.stop_gradient(gate)])
            x = layers.Conv2D(4, 2, name="b")(x)
        network = keras.Model(inputs, x)
        for weight in network.trainable_weights:  # no gradient cancels out
            weight.assign(np.abs(weight.numpy()) + 0.1)
        return network

    @pytest.mark.parametrize("kind", ["symmetric", "asymmetric", "dilated", "gated"])
    def test_true_dependence(self, kind):
        import tensorflow as tf

        network = self.networks(kind)
        rows = {row.name: row for row in layer_rows(network)}
        pixels = tf.Variable(np.ones((1, 33, 40, 3), np.float32))
        for layer in ("a", "b"):
            field = receptive_field(network, layer, rows, (33, 40))
            height, width = rows[layer].output_shape[:2]
            model = import_keras().Model(network.input, activations(network, layer))
            for row, column in [(0, 0), (height // 2, width // 3), (height - 1, width - 1)]:
                with tf.GradientTape() as tape:
                    value = tf.reduce_sum(model(pixels)[0, row, column])
                reached = np.abs(tape.gradient(value, pixels)[0]).sum(axis=-1) > 0
                down, across = np.flatnonzero(reached.any(1)), np.flatnonzero(reached.any(0))
                dilated = kind == "dilated" and layer == "a"
                expected = (across[0], down[0], across[-1] + 1, down[-1] + 1)
                left, top, right, bottom = field.box(row * width + column)
                if dilated:  # its outermost pixels are reached, or beyond the edge
                    assert left <= expected[0] and top <= expected[1]
                    assert right >= expected[2] and bottom >= expected[3]
                else:
                    assert (left, top, right, bottom) == expected

    def test_symmetric_padding_has_a_formula(self):
        network = self.networks("symmetric")
        rows = {row.name: row for row in layer_rows(network)}
        field = receptive_field(network, "b", rows, (33, 40))
        h, stride = rows["b"].output_shape[0], rows["b"].stride
        assert field.first[0] == (33 - 1) / 2 - (h - 1) / 2 * stride

    def test_of_a_run_whose_features_come_from_inside_the_first_block(self):
        maps = MapTaps(Backbone("cifar-resnet20").preset, (32, 32), {"conv1", "bn1"})
        assert maps.choose(None).layer == "bn1"

    def test_larger_than_the_image(self):
        subject = LookedAt.backbone("cifar-resnet20")
        rows = MapTaps(subject.preset, (32, 32)).rows
        field = receptive_field(subject.network, "stage3_block3_out", rows, (32, 32))
        assert field.box(5) == (0, 0, 32, 32)


class TestMaxima:
    def test_merging_equals_sorting_everything(self):
        random = np.random.default_rng(0)
        values = random.integers(0, 30, (57, 5)).astype(np.float32)  # with ties
        places = random.integers(0, 100, (57, 5))
        running = RunningMaxima(5, 4)
        for start, end in [(0, 2), (2, 20), (20, 21), (21, 57)]:
            running.add(values[start:end], places[start:end])
        found = running.result()
        order = np.argsort(-values.T, axis=1, kind="stable")[:, :4]
        np.testing.assert_array_equal(found.rows, order)
        np.testing.assert_array_equal(found.values, np.take_along_axis(values.T, order, 1))
        np.testing.assert_array_equal(found.places, np.take_along_axis(places.T, order, 1))
        np.testing.assert_allclose(found.spread, values.std(axis=0), rtol=1e-6)

    def test_fewer_images_than_asked_for(self):
        running = RunningMaxima(3, 9)
        running.add(np.ones((2, 3), np.float32), np.zeros((2, 3), int))
        assert running.result().values.shape == (3, 2)

    def test_what_it_holds_does_not_grow(self):
        running = RunningMaxima(3, 4)
        for _ in range(20):
            running.add(np.ones((8, 3), np.float32), np.zeros((8, 3), int))
        held = [value for value in vars(running).values() if isinstance(value, np.ndarray)]
        assert max(value.size for value in held) == 3 * 4

    @pytest.mark.parametrize("engine", ["keras", "openvino"])
    def test_a_rectifier_that_cuts_off_is_left_out(self, engine):
        """Above 6 the filters of a MobileNet would all be alike."""
        subject = LookedAt.backbone("mobilenet-0.25", "none")
        network = lively(subject.network)
        network.get_layer("conv1_bn").gamma.assign(np.full(8, 90.0))
        model = maxima_model(network, "conv1_relu")
        pixels = np.stack([picture(i, (224, 224)) for i in range(2)])
        found = make_engine(engine, None, lambda: model)(pixels)
        before = maps_of(network, "conv1_bn", pixels)
        assert before.max() > 6 and is_cut(network, "conv1_relu")
        np.testing.assert_allclose(
            found[:, :8], np.maximum(before, 0).max(axis=(1, 2)), rtol=1e-4, atol=1e-4
        )

    @pytest.mark.parametrize("engine", ["keras", "openvino"])
    def test_equal_to_brute_force(self, photos, tmp_path, engine):
        done = look(
            "cifar-resnet20",
            data=photos,
            tap="stage2",
            top=3,
            engine=engine,
            store=tmp_path / "store",
            out=tmp_path / "look.html",
        )
        assert done.searched == 16 and [one.file for one in done.bad_files] == ["plain/broken.png"]
        subject = LookedAt.backbone("cifar-resnet20")
        pixels = canvases(photos, (32, 32))
        maps = maps_of(subject.network, "stage2_block3_out", np.stack(list(pixels.values())))
        largest = maps.max(axis=(1, 2))
        spread = largest.std(axis=0)
        assert [one.channel for one in done.excited] == np.argsort(-spread)[:12].tolist()
        names = list(pixels)
        for channel in done.excited:
            values = largest[:, channel.channel]
            order = np.argsort(-values)[:3]
            assert channel.spread == pytest.approx(spread[channel.channel], abs=1e-4)
            np.testing.assert_allclose(
                [one.value for one in channel.images], values[order], atol=1e-4
            )
            for one, row in zip(channel.images, order, strict=True):
                # the one of identical files that comes first stands for all
                assert one.file.replace("copy", "1").rpartition("/")[2] in names[row].replace(
                    "copy", "1"
                )
                at = maps[row, one.position[0], one.position[1], channel.channel]
                assert at == pytest.approx(values[row], abs=1e-4)

    def test_named_filters_and_crops(self, photos, tmp_path):
        done = look(
            "cifar-resnet20",
            data=photos,
            tap="stage1",
            filters="7,2",
            top=2,
            store=tmp_path / "store",
            out=tmp_path / "look.html",
        )
        assert [one.channel for one in done.excited] == [7, 2]
        shown = pictures_of(done.out.read_text())
        for channel in done.excited:
            for one in channel.images:
                row, column = one.position
                left, top, right, bottom = one.box
                assert (left, right) == (max(0, column - 7), min(32, column + 8))
                assert (top, bottom) == (max(0, row - 7), min(32, row + 8))
                alt = f"Part of {one.file}, class {one.label}, exciting channel {channel.channel}"
                seen = shown[alt]
                with Image.open(photos / one.file) as original:
                    across, down = original.width / 32, original.height / 32
                ratio = (right - left) * across / ((bottom - top) * down)
                assert seen.width / seen.height == pytest.approx(ratio, rel=0.05)


class TestActivations:
    def test_the_channels_with_the_largest_mean(self, photos, tmp_path):
        image = photos / "plain" / "3.png"
        done = look("cifar-resnet20", image=image, out=tmp_path / "look.html")
        assert done.tap == "stage1"  # its field of 15 is at most half of 32
        network = Backbone("cifar-resnet20").network
        pixels = canvas(image.read_bytes(), (32, 32))
        maps = maps_of(network, "stage1_block3_out", pixels[None])[0]
        means = maps.mean(axis=(0, 1))
        assert done.mapped == tuple(np.argsort(-means, kind="stable"))
        shown = pictures_of(done.out.read_text())
        brightest = done.mapped[0]
        seen = np.asarray(shown[f"Activations of channel {brightest}"])[1::3, 1::3]
        own = maps[..., brightest]
        np.testing.assert_array_equal(
            seen, np.rint(255 * (own - own.min()) / (own.max() - own.min()))
        )

    def test_at_most_sixty_four(self, photos, tmp_path):
        given = {"image": photos / "plain" / "3.png", "out": tmp_path / "look.html"}
        done = look("mobilenet-0.25", weights="none", tap="conv_pw_6_relu", **given)
        assert len(done.mapped) == 64
        assert "64 of 128 channels" in done.out.read_text()


class TestRuns:
    def test_a_finished_run(self, finished_run, tmp_path):
        data, result = finished_run
        done = look(result.run, data=data, top=2, store=tmp_path / "s", out=tmp_path / "l.html")
        assert (done.network, done.searched, done.tap) == ("run", 60, "stage1")
        assert [c.channel for c in done.excited if not c.images] == []

    def test_a_run_with_several_views(self, photos, tmp_path):
        chosen = {"views": "2", "tap": "stage2", "classifier": "lda", "transforms": "none"}
        features_run(photos, tmp_path / "run", store=tmp_path / "s", **chosen)
        given = {"data": photos, "tap": "stage2", "top": 2, "store": tmp_path / "s"}
        own = look(tmp_path / "run", **given, out=tmp_path / "run.html")
        plain = look("cifar-resnet20", **given, out=tmp_path / "plain.html")
        assert [c.channel for c in own.excited] == [c.channel for c in plain.excited]
        for one, other in zip(own.excited, plain.excited, strict=True):
            assert [i.file for i in one.images] == [i.file for i in other.images]
        with pytest.raises(TltoolError, match="above the last layer here.*stage1, stage2, or"):
            look(tmp_path / "run", data=photos, tap="stage3", out=tmp_path / "l.html")

    def test_a_runs_own_weights_are_shown(self, finished_run, tmp_path):
        folder = tmp_path / "run"
        shutil.copytree(finished_run[1].run, folder)
        keras = import_keras()
        model = keras.saving.load_model(folder / "model.keras", compile=False)
        kernel = model.get_layer("conv1").kernel
        kernel.assign(kernel[..., ::-1])  # another order of the filters
        model.save(folder / "model.keras")
        shown = pictures_of(look(folder, out=tmp_path / "l.html").out.read_text())
        plain = pictures_of(look("cifar-resnet20", out=tmp_path / "p.html").out.read_text())
        for number in range(16):
            own, other = (f"First-layer filter {n}" for n in (number, 15 - number))
            np.testing.assert_array_equal(np.asarray(shown[own]), np.asarray(plain[other]))

    def test_an_ensemble_is_refused(self, finished_run, tmp_path):
        folder = saying(finished_run[1].run, tmp_path / "run", members=[{"run": "runs/first"}])
        with pytest.raises(TltoolError, match="ensemble.*such as runs/first"):
            look(folder, out=tmp_path / "l.html")

    def test_weights_of_a_run_are_its_own(self, finished_run, tmp_path):
        with pytest.raises(TltoolError, match="leave it out"):
            look(finished_run[1].run, weights="none", out=tmp_path / "l.html")


class TestBadInput:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"tap": "avgpool"}, "one vector an image.*expected one of stem, stage1, .*stage3, or"),
            ({"tap": "logits"}, "one vector an image"),
            ({"tap": "stage2:max"}, "one vector an image"),
            ({"tap": "stagee2"}, "did you mean 'stage2'"),
            ({"tap": "stage1,stage2"}, "names 2 layers"),
            ({"tap": "stage1", "filters": "16"}, "16 channels, numbered from 0 to 15"),
            ({"filters": [-1]}, "numbered from 0"),
            ({"filters": "3,x"}, "such as 3,17"),
            ({"filters": "3,3"}, "different numbers"),
            ({"filters": []}, "such as 3,17"),
            ({"top": 0}, "--top must be a whole number from 1"),
            ({"out": "look.png"}, "is an .html file"),
            ({"out": "none/look.html"}, "does not exist"),
            ({"engine": "gpu"}, "Unknown --engine"),
            ({"bad_images": "keep"}, "--bad-images"),
        ],
    )
    def test_with_data(self, photos, tmp_path, monkeypatch, given, message):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(TltoolError, match=message):
            look("cifar-resnet20", data=photos, store=tmp_path / "store", **given)
        assert not list(tmp_path.glob("*.html"))

    @pytest.mark.parametrize(
        ("where", "given", "message"),
        [
            ("cifar-resnet2", {}, "neither a backbone nor.*cifar-resnet20"),
            (".", {}, "is not a run"),
            ("cifar-resnet20", {"tap": "stage1"}, "name an image or a data set"),
            ("cifar-resnet20", {"filters": "1"}, "name a data set"),
            ("cifar-resnet20", {"top": 4}, "--top is for --data"),
            ("cifar-resnet20", {"image_column": "file"}, "--image-column is for --data"),
            ("cifar-resnet20", {"image": "none.png"}, "none.png: No such file"),
            ("cifar-resnet20", {"image": "text.png"}, "text.png is not an image"),
            ("cifar-resnet20", {"image": "cut.jpg"}, "cut.jpg is"),
            ("cifar-resnet20", {"data": "none"}, "none"),
            ("alexnet", {}, "alexnet"),
        ],
    )
    def test_without(self, tmp_path, monkeypatch, where, given, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "text.png").write_text("no picture")
        whole = save(tmp_path / "whole.jpg", picture(1)).read_bytes()
        (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(TltoolError, match=message):
            look(where, **given)
        assert not list(tmp_path.glob("*.html"))

    def test_an_existing_file_is_kept(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        page = tmp_path / "look-cifar-resnet20.html"
        page.write_text("mine")
        with pytest.raises(TltoolError, match="exists; name another with --out"):
            look("cifar-resnet20")
        assert page.read_text() == "mine"
        assert look("cifar-resnet20", force=True).out.name == page.name
        assert "filters" in page.read_text()

    def test_random_weights_work_and_are_told(self, photos, tmp_path):
        given = {"data": photos, "top": 1, "store": tmp_path / "s", "out": tmp_path / "l.html"}
        done = look("cifar-resnet20", weights="none", **given)
        assert "random" in done.notes[0] and done.notes[0] in done.out.read_text()

    def test_a_run_on_random_weights(self, finished_run, tmp_path):
        facts = {"source": "random weights", "sha256": "0"}
        folder = saying(finished_run[1].run, tmp_path / "run", weights=facts)
        assert "random" in look(folder, out=tmp_path / "r.html").notes[0]


@pytest.fixture(scope="module")
def page(photos, tmp_path_factory):
    """A page with all three parts."""
    folder = tmp_path_factory.mktemp("page")
    image = folder / (NASTY.replace("/", "") + ".png")
    shutil.copy(photos / "plain" / "3.png", image)
    out = folder / "look.html"
    look("cifar-resnet20", image=image, data=photos, top=4, store=folder / "s", out=out)
    return out


class TestPage:
    def test_names_are_escaped(self, page):
        text = page.read_text()
        assert NASTY not in text
        assert html.escape(NASTY, quote=True).replace("&quot;", "&#34;") in text

    def test_it_fetches_nothing_and_names_every_picture(self, page):
        text = page.read_text()
        sources = re.findall(r'<img[^>]* src="([^"]{0,12})', text)
        assert sources and all(source.startswith("data:image/") for source in sources)
        assert len(sources) == len(re.findall(r'<img[^>]* alt="[^"]+"', text))
        assert "http" not in text.replace("http-equiv", "")
        assert len(text) < 5_000_000

    @pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
    def test_a_browser_shows_it(self, page, tmp_path):
        command = [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu"),
            *("--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND"),
            *("--virtual-time-budget=3000", f"--user-data-dir={tmp_path}", "--dump-dom"),
        ]
        done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True)
        assert "CONSOLE" not in done.stderr
        assert done.stdout.count("<h3>Channel") == 12
        assert "img src=x onerror" in done.stdout and '<img src="x"' not in done.stdout


class TestCommand:
    def test_prints_what_was_found(self, photos, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        given = ["look", "cifar-resnet20", "--data", str(photos), "--store", str(tmp_path / "s")]
        done = CliRunner().invoke(app, [*given, "--filters", "3,17", "--tap", "stage2"])
        assert done.exit_code == 0, done.output
        assert "look-cifar-resnet20.html" in done.stdout and "16 filters" in done.stdout
        again = CliRunner().invoke(app, given)
        assert again.exit_code == 1
        assert again.stderr.count("\n") == 1 and "Traceback" not in again.stderr

    def test_json(self, photos, tmp_path):
        out = str(tmp_path / "look.html")
        given = ["look", "cifar-resnet20", "--data", str(photos), "--out", out, "--json"]
        done = CliRunner().invoke(app, [*given, "--top", "2", "--store", str(tmp_path / "s")])
        found = json.loads(done.stdout)
        assert len(found["excited"]) == 12
        assert set(found["excited"][0]["images"][0]) == {
            *("file", "label", "value", "position", "box")
        }

    def test_quiet(self, tmp_path):
        out = str(tmp_path / "look.html")
        done = CliRunner().invoke(app, ["look", "cifar-resnet20", "--out", out, "--quiet"])
        assert done.exit_code == 0 and not done.stdout
