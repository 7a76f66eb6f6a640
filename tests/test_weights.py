"""Where weights may lie, files of every format, and files that do not fit."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import SHARED, lively, needs_shared

from tltool import Backbone, TltoolError, import_weights
from tltool._files import sha256_of
from tltool._keras import import_keras
from tltool._presets import backbone_preset, packaged_weights
from tltool.backbones import WeightsMissingError, find_weights
from tltool.backbones import weights as weights_module
from tltool.backbones.build import build_network
from tltool.backbones.weights import local_weights


def test_packaged_weights_are_small_not_pickled_and_described():
    preset = backbone_preset("cifar-resnet20")
    assert packaged_weights(preset).stat().st_size <= 1_200_000
    assert "adapt cifar10_jpeg --recipe cifar-resnet" in preset.weights.command
    assert preset.accuracy.top1
    assert hashlib.md5(packaged_weights(preset).read_bytes()).hexdigest() == preset.weights.md5


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """Keras's download is cut off: what the network would answer is not the test's business."""

    def download(preset, *, head):
        raise OSError("[Errno -2] Name or service not known")

    monkeypatch.setattr(weights_module, "_download", download)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("TLTOOL_WEIGHTS", raising=False)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A weights folder."""
    path = tmp_path / "mine"
    path.mkdir()
    monkeypatch.setenv("TLTOOL_WEIGHTS", str(path))
    return path


class TestWhereWeightsLie:
    @pytest.fixture
    def preset(self):
        """One whose published files are ten known bytes."""
        digest = hashlib.md5(b"0123456789").hexdigest()
        known = backbone_preset("resnet50")
        return replace(known, weights=replace(known.weights, md5=digest, full_md5=digest))

    def put(self, folder, name, data=b"0123456789"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        return folder / name

    def test_missing_names_all_places(self, preset):
        with pytest.raises(WeightsMissingError) as caught:
            find_weights(preset)
        for place in ("--weights", "TLTOOL_WEIGHTS", "Keras's cache", "Keras's download"):
            assert place in str(caught.value)
        assert preset.weights.file in str(caught.value)
        assert "\n" not in str(caught.value)
        assert local_weights(preset) == "download"

    def test_the_advice_works(self, preset, folder):
        path = self.put(folder, preset.weights.file)
        assert find_weights(preset).path == path
        assert local_weights(preset) == "weights folder"

    def test_order_of_places(self, preset, monkeypatch, tmp_path, folder):
        cached = self.put(tmp_path / "keras" / "models", preset.weights.file)
        assert find_weights(preset).path == cached
        assert local_weights(preset) == "Keras's cache"
        mine = self.put(folder, preset.weights.file)
        assert find_weights(preset, "imagenet").path == mine
        imported = self.put(folder, "resnet50.safetensors")
        assert find_weights(preset).path == imported
        assert local_weights(preset) == "imported"
        assert find_weights(preset, "imagenet").path == mine
        own = self.put(tmp_path, "own.h5")
        assert find_weights(preset, str(own)).path == own
        for path in (cached, mine, imported):
            path.unlink()
        monkeypatch.setattr(
            weights_module, "_download", lambda p, head: self.put(cached.parent, p.weights.file)
        )
        assert "Keras's download" in find_weights(preset).source

    def test_file_with_classification_layers_serves_without_them(self, preset, folder):
        path = self.put(folder, preset.weights.full_file)
        assert find_weights(preset).path == find_weights(preset, head=True).path == path
        better = self.put(folder, preset.weights.file)
        assert find_weights(preset).path == better
        assert find_weights(preset, head=True).path == path

    def test_file_that_is_not_the_published_one(self, preset, folder):
        self.put(folder, preset.weights.file, b"cut short")
        with pytest.raises(TltoolError, match="is not the published weights"):
            find_weights(preset)

    def test_weights_folder_that_is_none(self, preset, monkeypatch, tmp_path):
        monkeypatch.setenv("TLTOOL_WEIGHTS", str(tmp_path / "nowhere"))
        with pytest.raises(TltoolError, match="which is no folder"):
            find_weights(preset)
        with pytest.raises(TltoolError, match="which is no folder"):
            local_weights(preset)

    def test_packaged_weights_ignore_files_of_their_name(self, folder):
        embedded = backbone_preset("cifar-resnet20")
        self.put(folder, embedded.weights.file, b"other")
        assert find_weights(embedded).path == packaged_weights(embedded)
        with pytest.raises(TltoolError, match="has no ImageNet weights"):
            find_weights(embedded, "imagenet")

    def test_network_without_published_weights(self):
        with pytest.raises(WeightsMissingError, match="--weights none") as caught:
            Backbone("alexnet")
        assert "no pretrained weights" in str(caught.value)
        assert Backbone("alexnet", "none").weights.source == "random weights"
        with pytest.raises(TltoolError, match="has no ImageNet weights"):
            Backbone("alexnet", "imagenet")

    def test_random_weights_follow_the_seed(self):
        first, second, third = (Backbone("cifar-resnet20", "none", seed) for seed in (1, 1, 2))
        kernels = [b.model.get_layer("conv1").get_weights()[0] for b in (first, second, third)]
        np.testing.assert_array_equal(kernels[0], kernels[1])
        assert np.abs(kernels[0] - kernels[2]).max() > 0.01
        assert first.weights.hash == second.weights.hash != third.weights.hash

    def test_imported_weights_are_never_passed_over(self, folder):
        """Without classification layers they are no reason to take others for those."""
        network = Backbone("cifar-resnet20").network
        network.save(folder / "mine.keras")
        import_weights(folder / "mine.keras", "cifar-resnet20")
        assert "imported" in Backbone("cifar-resnet20").weights.source
        with pytest.raises(TltoolError, match="have no classification layers"):
            Backbone("cifar-resnet20", taps="logits")

    def test_file_that_changes_while_it_is_used(self, tmp_path):
        network = Backbone("cifar-resnet20", "none", 1).network
        network.save(tmp_path / "w.keras")
        backbone = Backbone("cifar-resnet20", str(tmp_path / "w.keras"))
        network.get_layer("conv1").kernel.assign(np.ones((3, 3, 3, 16)))
        network.save(tmp_path / "w.keras")
        with pytest.raises(TltoolError, match="was changed while it was read"):
            _ = backbone.network

    def test_names_that_no_file_can_have(self):
        for name in ("~nobody-of-that-name/x.h5", "x" * 300 + ".h5", "a\0b.h5"):
            with pytest.raises(TltoolError, match="is no name of a file|no such file"):
                Backbone("cifar-resnet20", name)

    def test_no_such_file(self, tmp_path):
        with pytest.raises(TltoolError, match="no such file"):
            Backbone("resnet50", "nothing.h5")
        with pytest.raises(TltoolError, match="is a folder"):
            Backbone("resnet50", str(tmp_path))


# Small, yet with every kind of layer, and names made by Keras in the last one.
NETWORKS = ("cifar-resnet20", "mobilenet-0.25", "inception-v3")


class TestFormats:
    """Every format that a network can come in gives the same weights."""

    @pytest.fixture(scope="class", params=NETWORKS)
    @classmethod
    def trained(cls, request, tmp_path_factory):
        """A network with its classification layers, and files of it."""
        keras = import_keras()
        preset = backbone_preset(request.param)
        whole = lively(build_network(preset, preset.input_size, preset.classes))
        body = keras.Model(whole.input, whole.get_layer(list(preset.blocks.values())[-1]).output)
        folder = tmp_path_factory.mktemp("formats")
        for kind, network in (("whole", whole), ("body", body)):
            network.save(folder / f"{kind}.keras")
            network.save(folder / f"{kind}-model.h5")
            network.save_weights(folder / f"{kind}.weights.h5")
            legacy_weights(network, folder / f"{kind}.h5")
        return preset, whole, folder

    @pytest.mark.parametrize("suffix", [".keras", "-model.h5", ".weights.h5", ".h5"])
    @pytest.mark.parametrize("kind", ["whole", "body"])
    def test_round_trip(self, trained, kind, suffix):
        preset, whole, folder = trained
        path = folder / f"{kind}{suffix}"
        backbone = Backbone(preset.name, str(path))
        assert len(backbone.network.weights) > 20
        for layer in backbone.network.layers:
            for ours, theirs in zip(
                layer.get_weights(), whole.get_layer(layer.name).get_weights(), strict=True
            ):
                np.testing.assert_array_equal(ours, theirs)
        if kind == "body":
            with pytest.raises(TltoolError, match="does not fit"):
                _ = Backbone(preset.name, str(path), taps="logits").network

    @pytest.mark.parametrize("kind", ["whole", "body"])
    def test_import(self, trained, kind, monkeypatch, tmp_path):
        from safetensors import safe_open

        preset, whole, folder = trained
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
        source = folder / f"{kind}.keras"
        done = import_weights(source, preset.name)
        assert done.path == tmp_path / "user" / "tltool" / "weights" / f"{preset.name}.safetensors"
        assert done.head == (kind == "whole")
        assert bool(done.head_missing) == (kind == "body")
        assert done.source_hash == hashlib.sha256(source.read_bytes()).hexdigest()
        with safe_open(done.path, "np") as file:
            facts = json.loads(file.metadata()["tltool"])
        assert facts["source"] == source.name
        assert facts["source_sha256"] == done.source_hash
        backbone = Backbone(preset.name)
        assert backbone.weights.path == done.path
        assert backbone.weights.hash == done.hash == sha256_of(done.path).hex()
        layer = list(preset.blocks.values())[-1]
        pixels = np.random.default_rng(0).integers(0, 256, (1, *preset.input_size, 3), np.uint8)
        expected = import_keras().Model(whole.input, whole.get_layer(layer).output)(pixels)
        np.testing.assert_array_equal(backbone.network(pixels), expected)
        with pytest.raises(TltoolError, match="--force"):
            import_weights(source, preset.name)
        again = import_weights(source, preset.name, force=True)
        assert again.hash == done.hash


def legacy_weights(network, path):
    """A weights file as Keras 2 wrote it: the official ones are of that kind."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        for number, layer in enumerate(network.layers):
            group = file.create_group(layer.name)
            names = [f"renamed_{number}/{i}:0".encode() for i in range(len(layer.weights))]
            group.attrs["weight_names"] = names
            for name, array in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name.decode(), data=array)


@needs_shared("weights/mobilenet_2_5_224_tf_no_top.h5")
def test_official_file_is_read_as_keras_reads_it():
    keras = import_keras()
    path = SHARED / "weights" / "mobilenet_2_5_224_tf_no_top.h5"
    expected = keras.applications.MobileNet(
        input_shape=(224, 224, 3), alpha=0.25, include_top=False, weights=str(path)
    )
    ours = Backbone("mobilenet-0.25", str(path)).network
    for mine, theirs in zip(ours.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


class TestFilesThatDoNotFit:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("w.h5", b"no hdf5", "does not hold weights of cifar-resnet20"),
            ("w.keras", b"no archive", "does not hold weights"),
            ("w.safetensors", b"no tensors", "does not hold weights"),
            ("w.npz", b"no arrays", "does not hold weights"),
            ("w.txt", b"x", "weights come as"),
        ],
    )
    def test_files_that_are_no_weights(self, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TltoolError, match=message):
            _ = Backbone("cifar-resnet20", str(tmp_path / name)).model

    @pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".safetensors"])
    def test_truncated(self, tmp_path, suffix):
        whole = packaged_weights(backbone_preset("cifar-resnet20"))
        if suffix != ".safetensors":
            whole = tmp_path / f"whole{suffix}"
            network = Backbone("cifar-resnet20").network
            (network.save if suffix == ".keras" else network.save_weights)(whole)
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(whole.read_bytes()[:-5000])
        with pytest.raises(TltoolError, match="cut short"):
            _ = Backbone("cifar-resnet20", str(cut)).network

    def arrays(self):
        from safetensors.numpy import load_file

        return load_file(packaged_weights(backbone_preset("cifar-resnet20")))

    def refused(self, tmp_path, arrays, message):
        from safetensors.numpy import save_file

        save_file(arrays, tmp_path / "w.safetensors")
        with pytest.raises(TltoolError, match=message):
            _ = Backbone("cifar-resnet20", str(tmp_path / "w.safetensors")).network

    def test_shape_that_was_expected_and_that_came(self, tmp_path):
        arrays = self.arrays() | {"stage2_block1_conv2/kernel": np.zeros((3, 3, 3, 8), np.float32)}
        message = (
            r"stage2_block1_conv2/kernel was expected with shape \(3, 3, 32, 32\) and came with "
            r"\(3, 3, 3, 8\)"
        )
        self.refused(tmp_path, arrays, message)

    def test_numbers_that_are_not_finite(self, tmp_path):
        arrays = self.arrays()
        arrays["stage1_block2_bn1/beta"][3] = np.nan
        self.refused(tmp_path, arrays, "not finite in stage1_block2_bn1/beta")

    def test_layer_that_is_missing(self, tmp_path):
        arrays = self.arrays()
        del arrays["bn1/gamma"]
        self.refused(tmp_path, arrays, r"lacks bn1/gamma \(16,\)")

    def test_layer_too_many(self, tmp_path):
        arrays = self.arrays() | {"stage1_block4_conv1/kernel": np.zeros((3, 3, 16, 16))}
        self.refused(tmp_path, arrays, "also holds stage1_block4_conv1/kernel")

    @pytest.mark.parametrize("suffix", [".keras", ".weights.h5", "-model.h5"])
    @pytest.mark.parametrize(("file", "reader"), [(20, 32), (32, 20)])
    def test_keras_file_of_another_depth(self, tmp_path, suffix, file, reader):
        path = tmp_path / f"other{suffix}"
        network = build_network(backbone_preset(f"cifar-resnet{file}"), (32, 32))
        (network.save_weights if suffix == ".weights.h5" else network.save)(path)
        with pytest.raises(TltoolError, match=f"does not fit cifar-resnet{reader}: "):
            _ = Backbone(f"cifar-resnet{reader}", str(path)).network

    @pytest.mark.parametrize("suffix", [".keras", ".weights.h5", "-model.h5"])
    def test_convolution_too_many(self, tmp_path, suffix):
        keras = import_keras()
        body = build_network(backbone_preset("vgg-small"), (32, 32))
        more = keras.layers.Conv2D(128, 3, padding="same", name="extra")(body.output)
        path = tmp_path / f"more{suffix}"
        network = keras.Model(body.input, more)
        (network.save_weights if suffix == ".weights.h5" else network.save)(path)
        with pytest.raises(TltoolError, match="also holds layer"):
            _ = Backbone("vgg-small", str(path)).network

    def test_file_without_the_classification_layers_that_a_tap_needs(self, tmp_path):
        legacy_weights(build_network(backbone_preset("lenet5"), (32, 32)), tmp_path / "body.h5")
        with pytest.raises(TltoolError, match=r"has no classification layers \(f6, logits\)"):
            _ = Backbone("lenet5", str(tmp_path / "body.h5")).network

    @needs_shared("weights/cifar_resnet56.npz")
    def test_torch_file_of_another_depth(self):
        file = SHARED / "weights" / "cifar_resnet56.npz"
        with pytest.raises(TltoolError, match="also holds stage1_block4"):
            _ = Backbone("cifar-resnet20", str(file)).network

    def test_torch_file_of_another_network(self, tmp_path):
        np.savez(tmp_path / "w.npz", **{"features.0.weight": np.zeros(3, np.float32)})
        with pytest.raises(TltoolError, match=r"w.npz does not fit .* which no CIFAR ResNet has"):
            _ = Backbone("cifar-resnet20", str(tmp_path / "w.npz")).model
        np.savez(tmp_path / "w.npz", **{"conv1.weight": np.zeros((3, 3, 3), np.float32)})
        with pytest.raises(TltoolError, match="expected four extents"):
            _ = Backbone("cifar-resnet20", str(tmp_path / "w.npz")).model

    def test_pickled_arrays_are_not_opened(self, tmp_path):
        np.savez(tmp_path / "w.npz", bn1=np.array([{"a": 1}], dtype=object))
        with pytest.raises(TltoolError, match="which are never loaded"):
            _ = Backbone("cifar-resnet20", str(tmp_path / "w.npz")).model
