"""Every preset against plain Keras; every place where weights may lie."""

import hashlib
import zipfile
from importlib import import_module

import numpy as np
import pytest
import simplejpeg
from conftest import SHARED, needs_shared

from tltool import Backbone, TltoolError, backbone_names
from tltool._keras import import_keras
from tltool._presets import backbone_preset, packaged_weights
from tltool.backbones import WeightsMissingError, find_weights
from tltool.backbones import weights as weights_module

APPLICATIONS = {
    "mobilenet-0.25": ("mobilenet", "MobileNet", {"alpha": 0.25}),
    "resnet50": ("resnet", "ResNet50", {}),
    "vgg16": ("vgg16", "VGG16", {}),
    "inception-v3": ("inception_v3", "InceptionV3", {}),
}


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """A weights file of a Keras Applications network, random but with lively batch norms."""
    made = {}

    def make(name):
        if name not in made:
            keras = import_keras()
            _, builder, arguments = APPLICATIONS[name]
            keras.utils.set_random_seed(7)
            size = (*backbone_preset(name).input_size, 3)
            network = getattr(keras.applications, builder)(
                include_top=False, weights=None, input_shape=size, pooling="avg", **arguments
            )
            random = np.random.default_rng(0)
            for layer in network.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    shape = layer.moving_mean.shape
                    layer.moving_mean.assign(random.normal(0, 0.1, shape))
                    layer.moving_variance.assign(random.uniform(0.5, 2, shape))
                    layer.beta.assign(random.normal(0, 0.1, shape))
            path = tmp_path_factory.mktemp("weights") / f"{name}.weights.h5"
            network.save_weights(path)
            made[name] = (network, path)
        return made[name]

    return make


@pytest.mark.parametrize("name", sorted(APPLICATIONS))
def test_preset_equals_keras_with_its_own_preprocessing(name, random_weights):
    network, path = random_weights(name)
    module = import_module(f"keras.applications.{APPLICATIONS[name][0]}")
    backbone = Backbone(name, str(path))
    pixels = np.random.default_rng(1).integers(0, 256, (2, *backbone.canvas_size, 3), np.uint8)
    expected = network.predict(module.preprocess_input(pixels.astype(np.float32)), verbose=0)
    features = backbone.model.predict(pixels, verbose=0)
    assert features.shape == (2, backbone.preset.features)
    np.testing.assert_allclose(features, expected, atol=1e-4 * np.abs(expected).max())
    assert backbone.model.count_params() == backbone.preset.parameters
    assert not backbone.model.trainable_weights


def test_every_preset_is_tested():
    assert set(backbone_names()) == {*APPLICATIONS, "cifar-resnet20"}


def test_packaged_weights_are_small_not_pickled_and_described():
    preset = backbone_preset("cifar-resnet20")
    path = packaged_weights(preset)
    assert path.stat().st_size <= 1_200_000
    assert "scripts/train_cifar_resnet20.py" in preset.weights_command
    assert "%" in preset.published_accuracy
    model = Backbone("cifar-resnet20").model
    assert model.count_params() == preset.parameters
    assert model.output_shape == (None, preset.features)


def cifar_test_images(step):
    with zipfile.ZipFile(SHARED / "data" / "cifar10_jpeg.zip") as files:
        names = sorted(n for n in files.namelist() if n.startswith("test/") and n.endswith(".jpg"))
        names = names[::step]
        pixels = np.stack([simplejpeg.decode_jpeg(files.read(n)) for n in names])
    return pixels, [n.split("/")[1] for n in names]


@needs_shared("data/cifar10_jpeg.zip")
def test_embedded_weights_reach_the_figure_on_their_card():
    from safetensors.numpy import load_file

    pixels, classes = cifar_test_images(1)
    features = Backbone("cifar-resnet20").model.predict(pixels, batch_size=500, verbose=0)
    arrays = load_file(packaged_weights(backbone_preset("cifar-resnet20")))
    scores = features @ arrays["logits/kernel"] + arrays["logits/bias"]
    names = np.array(sorted(set(classes)))
    accuracy = np.mean(names[scores.argmax(axis=1)] == np.array(classes))
    assert accuracy >= 0.84
    assert f"{100 * accuracy:.2f} %" in backbone_preset("cifar-resnet20").published_accuracy


@needs_shared("weights/cifar_resnet20.npz", "data/cifar10_jpeg.zip")
def test_ported_weights_give_the_reference_features():
    backbone = Backbone("cifar-resnet20", str(SHARED / "weights" / "cifar_resnet20.npz"))
    with np.load(SHARED / "weights" / "cifar_resnet_reference.npz") as reference:
        names, expected = reference["files"], reference["features_20"]
    with zipfile.ZipFile(SHARED / "data" / "cifar10_jpeg.zip") as files:
        pixels = np.stack([simplejpeg.decode_jpeg(files.read(str(n))) for n in names])
    np.testing.assert_allclose(backbone.model.predict(pixels, verbose=0), expected, atol=1e-3)
    assert backbone.weights.hash != find_weights(backbone_preset("cifar-resnet20")).hash


def test_model_reloads_with_keras_alone(tmp_path):
    keras = import_keras()
    backbone = Backbone("cifar-resnet20")
    backbone.model.save(tmp_path / "m.keras")
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        loaded.predict(pixels, verbose=0), backbone.model.predict(pixels, verbose=0)
    )


class TestWhereWeightsLie:
    """Keras's download is cut off: what the network would answer is not the test's business."""

    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch, tmp_path):
        def download(preset):
            raise OSError("[Errno -2] Name or service not known")

        monkeypatch.setattr(weights_module, "_download", download)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
        monkeypatch.delenv("TLTOOL_WEIGHTS", raising=False)

    @pytest.fixture
    def preset(self, monkeypatch):
        """One whose published file is ten known bytes."""
        from dataclasses import replace

        digest = hashlib.md5(b"0123456789").hexdigest()
        return replace(backbone_preset("resnet50"), weights_md5=digest)

    def put(self, folder, preset, data=b"0123456789"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / preset.weights_file).write_bytes(data)

    def test_missing_names_all_four_places(self, preset, monkeypatch, tmp_path):
        with pytest.raises(WeightsMissingError) as caught:
            find_weights(preset)
        for place in ("--weights", "TLTOOL_WEIGHTS", "Keras's cache", "Keras's download"):
            assert place in str(caught.value)
        assert preset.weights_file in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_the_advice_works(self, preset, monkeypatch, tmp_path):
        self.put(tmp_path / "mine", preset)
        monkeypatch.setenv("TLTOOL_WEIGHTS", str(tmp_path / "mine"))
        assert find_weights(preset).path == tmp_path / "mine" / preset.weights_file

    def test_order_of_places(self, preset, monkeypatch, tmp_path):
        self.put(tmp_path / "keras" / "models", preset)
        assert "Keras's cache" in find_weights(preset).source
        self.put(tmp_path / "mine", preset)
        monkeypatch.setenv("TLTOOL_WEIGHTS", str(tmp_path / "mine"))
        assert "TLTOOL_WEIGHTS" in find_weights(preset, "imagenet").source
        own = tmp_path / "own.h5"
        own.write_bytes(b"anything")
        assert find_weights(preset, str(own)).path == own
        monkeypatch.setattr(
            weights_module, "_download", lambda p: self.put(tmp_path / "keras" / "models", p)
        )
        (tmp_path / "keras" / "models" / preset.weights_file).unlink()
        (tmp_path / "mine" / preset.weights_file).unlink()
        assert "Keras's download" in find_weights(preset).source

    def test_file_that_is_not_the_published_one(self, preset, monkeypatch, tmp_path):
        self.put(tmp_path / "mine", preset, b"cut short")
        monkeypatch.setenv("TLTOOL_WEIGHTS", str(tmp_path / "mine"))
        with pytest.raises(TltoolError, match="is not the published weights"):
            find_weights(preset)

    def test_weights_folder_that_is_none(self, preset, monkeypatch, tmp_path):
        monkeypatch.setenv("TLTOOL_WEIGHTS", str(tmp_path / "nowhere"))
        with pytest.raises(TltoolError, match="which is no folder"):
            find_weights(preset)

    def test_packaged_weights_ignore_the_weights_folder(self, monkeypatch, tmp_path):
        embedded = backbone_preset("cifar-resnet20")
        self.put(tmp_path, embedded, b"other")
        monkeypatch.setenv("TLTOOL_WEIGHTS", str(tmp_path))
        assert find_weights(embedded).path == packaged_weights(embedded)
        with pytest.raises(TltoolError, match="has no ImageNet weights"):
            find_weights(embedded, "imagenet")

    def test_random_weights_follow_the_seed(self):
        first, second, third = (Backbone("cifar-resnet20", "none", seed) for seed in (1, 1, 2))
        kernels = [b.model.get_layer("conv1").get_weights()[0] for b in (first, second, third)]
        np.testing.assert_array_equal(kernels[0], kernels[1])
        assert np.abs(kernels[0] - kernels[2]).max() > 0.01
        assert first.weights.hash == second.weights.hash != third.weights.hash

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("w.h5", b"no hdf5", "does not hold weights of cifar-resnet20"),
            ("w.safetensors", b"no tensors", "does not hold weights"),
            ("w.npz", b"no arrays", "does not hold weights"),
            ("w.txt", b"x", "weights come as"),
        ],
    )
    def test_files_that_are_no_weights(self, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TltoolError, match=message):
            _ = Backbone("cifar-resnet20", str(tmp_path / name)).model

    def test_weights_of_another_network(self, tmp_path):
        from safetensors.numpy import save_file

        save_file({"conv1/kernel": np.zeros((3, 3, 3, 8), np.float32)}, tmp_path / "w.safetensors")
        with pytest.raises(TltoolError, match=r"conv1/kernel with shape \(3, 3, 3, 8\), expected"):
            _ = Backbone("cifar-resnet20", str(tmp_path / "w.safetensors")).model
        np.savez(tmp_path / "w.npz", **{"features.0.weight": np.zeros(3, np.float32)})
        with pytest.raises(TltoolError, match="which no CIFAR ResNet has"):
            _ = Backbone("cifar-resnet20", str(tmp_path / "w.npz")).model

    def test_no_such_file(self):
        with pytest.raises(TltoolError, match="no such file"):
            Backbone("resnet50", "nothing.h5")


def test_unknown_backbone_offers_the_nearest():
    with pytest.raises(TltoolError, match="did you mean 'resnet50'"):
        Backbone("resnet-50")


@pytest.mark.parametrize("depth", [7, 21, 2])
def test_impossible_depth(depth):
    from tltool.backbones.cifar_resnet import cifar_resnet

    with pytest.raises(TltoolError, match="6n"):
        cifar_resnet(None, depth)


class TestEngines:
    """OpenVINO against Keras on every preset."""

    @pytest.mark.parametrize("name", [*sorted(APPLICATIONS), "cifar-resnet20"])
    def test_engines_agree(self, name, random_weights):
        from tltool.features import make_engine

        weights = None if name == "cifar-resnet20" else str(random_weights(name)[1])
        backbone = Backbone(name, weights)
        pixels = np.random.default_rng(2).integers(0, 256, (3, *backbone.canvas_size, 3), np.uint8)
        outputs = {
            engine: make_engine(engine, f"test-{name}", lambda: backbone.model)(pixels)
            for engine in ("keras", "openvino")
        }
        scale = np.abs(outputs["keras"]).max()
        assert scale > 0
        np.testing.assert_allclose(outputs["openvino"], outputs["keras"], atol=1e-4 * scale)
        assert outputs["openvino"].dtype == np.float32

    def test_compiled_copy_needs_no_network(self):
        from tltool.features import make_engine

        model = Backbone("cifar-resnet20").model
        pixels = np.zeros((2, 32, 32, 3), np.uint8)
        first = make_engine("openvino", "test-again", lambda: model)(pixels)
        again = make_engine("openvino", "test-again", lambda: pytest.fail("built again"))
        np.testing.assert_array_equal(again(pixels), first)

    def test_damaged_copy_is_made_again(self, own_caches):
        from tltool.features import make_engine

        model = Backbone("cifar-resnet20").model
        make_engine("openvino", "test-damaged", lambda: model)
        (copy,) = (own_caches / "openvino").glob("test-damaged-*/model.xml")
        copy.write_text("<damaged")
        make_engine("openvino", "test-damaged", lambda: model)(np.zeros((1, 32, 32, 3), np.uint8))

    @pytest.mark.parametrize("engine", ["keras", "openvino"])
    @pytest.mark.parametrize("name", ["cifar-resnet20", "resnet50"])
    def test_bfloat16_is_another_precision(self, engine, name, random_weights):
        from tltool.features import make_engine

        backbone = Backbone(
            name, None if name == "cifar-resnet20" else str(random_weights(name)[1])
        )
        size = backbone.canvas_size
        pixels = np.random.default_rng(2).integers(0, 256, (4, *size, 3), np.uint8)
        exact_engine = make_engine(engine, f"bf16-{name}", lambda: backbone.model)
        exact = exact_engine(pixels)
        rough = make_engine(engine, f"bf16-{name}", lambda: backbone.model, "bfloat16")(pixels)
        assert rough.dtype == np.float32
        assert np.abs(rough - exact).max() / np.abs(exact).max() < 0.3
        np.testing.assert_array_equal(exact_engine(pixels), exact)  # it did not change the other

    def test_openvino_sends_nothing(self):
        """The converter's makers get no event: sockets are blocked while it is imported."""
        import subprocess
        import sys

        code = (
            "import socket\n"
            "def refuse(*a, **k): raise SystemExit('a socket was opened')\n"
            "socket.socket.connect = refuse; socket.create_connection = refuse\n"
            "from tltool.features.openvino_engine import _import_openvino\n"
            "_import_openvino()\n"
            "import sys, threading\n"
            "assert sys.modules['openvino_telemetry'] is None\n"
            "assert threading.active_count() == 1\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
