"""A backbone is checked before a run trusts it."""

import json
import zipfile

import numpy as np
import pytest
import simplejpeg
from conftest import SHARED, class_folders, features_run, needs_shared
from PIL import Image

import tltool
from tltool import Backbone, FeatureStore, doctor
from tltool._presets import backbone_preset
from tltool.backbones.build import build_network
from tltool.data import canvas, check_listing, read_listing
from tltool.doctor import examine, examine_pixels, examine_probabilities
from tltool.features import FeatureSource


def levels(findings):
    return {finding.check: finding.level for finding in findings}


def finding(findings, check):
    (found,) = (f for f in findings if f.check == check)
    return found


@pytest.fixture(scope="module")
def digits():
    """Grey images far from any source: `(64, 32, 32, 3)`."""
    from sklearn.datasets import load_digits

    small = [Image.fromarray(np.uint8(image * 15.9)) for image in load_digits().images[:64]]
    return np.stack([np.asarray(image.resize((32, 32)).convert("RGB")) for image in small])


class TestEmbedded:
    @pytest.fixture(scope="class")
    @classmethod
    def backbone(cls):
        return Backbone("cifar-resnet20")

    def test_grey_images_on_the_right_scale(self, backbone, digits):
        findings = examine_pixels(backbone, digits)
        assert levels(findings) == {
            "weights": "ok",
            "scale": "ok",
            "channels": "unknown",
            "frozen": "ok",
        }
        assert "the images are grey" in finding(findings, "channels").text

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            (lambda x: x / 255, "the pixels run from 0 to 1; as 0 to 255"),
            (lambda x: x / 127.5 - 1, "the pixels run from -1 to 1; as 0 to 255"),
        ],
    )
    def test_wrong_scale(self, backbone, digits, change, named):
        found = finding(examine_pixels(backbone, change(digits)), "scale")
        assert found.level == "warning"
        assert named in found.text

    def test_images_that_show_nothing(self, backbone):
        found = finding(examine_pixels(backbone, np.full((8, 32, 32, 3), 90)), "scale")
        assert found.level == "warning"
        assert "as one flat colour" in found.text

    def test_images_that_are_nearly_black(self, backbone, digits):
        found = finding(examine_pixels(backbone, digits // 20), "scale")
        assert found.level == "warning"
        assert "nearly black" in found.text

    def test_nearly_black_images_of_a_network_that_remembers_nothing(self, digits):
        found = finding(examine_pixels(Backbone("lenet5", "none"), digits // 20), "scale")
        assert (found.level, "nearly black" in found.text) == ("warning", True)

    @needs_shared("data/cifar10_jpeg.zip")
    def test_colours(self, backbone):
        with zipfile.ZipFile(SHARED / "data" / "cifar10_jpeg.zip") as files:
            names = sorted(n for n in files.namelist() if "test/" in n and n.endswith(".jpg"))
            pixels = np.stack([simplejpeg.decode_jpeg(files.read(n)) for n in names[::79]])
        assert set(levels(examine_pixels(backbone, pixels)).values()) == {"ok"}
        found = finding(examine_pixels(backbone, pixels[..., ::-1]), "channels")
        assert found.level == "warning"
        assert "Red and blue seem to be swapped" in found.text


@needs_shared("weights/mobilenet_2_5_224_tf_no_top.h5", "data/caltech101.zip")
class TestMobileNet:
    @pytest.fixture(scope="class")
    @classmethod
    def backbone(cls):
        return Backbone(
            "mobilenet-0.25", str(SHARED / "weights" / "mobilenet_2_5_224_tf_no_top.h5")
        )

    @pytest.fixture(scope="class")
    @classmethod
    def photos(cls, caltech_files):
        return np.stack([canvas(data, (224, 224)) for data in caltech_files(128)])

    def test_photos(self, backbone, photos):
        assert set(levels(examine_pixels(backbone, photos)).values()) == {"ok"}

    @pytest.mark.parametrize(
        ("change", "check", "named"),
        [
            (lambda x: x / 255, "scale", "run from 0 to 1"),
            (lambda x: x / 127.5 - 1, "scale", "run from -1 to 1"),
            (lambda x: x[..., ::-1], "channels", "Red and blue seem to be swapped"),
        ],
    )
    def test_mistakes(self, backbone, photos, change, check, named):
        found = finding(examine_pixels(backbone, change(photos)), check)
        assert found.level == "warning"
        assert named in found.text

    def test_weights_of_another_preprocessing(self, photos):
        """ImageNet's mean and deviation where -1 to 1 was trained on: named as such."""
        from dataclasses import replace

        weights = str(SHARED / "weights" / "mobilenet_2_5_224_tf_no_top.h5")
        backbone = Backbone("mobilenet-0.25", weights)
        vgg = backbone_preset("vgg16").preprocessing
        backbone.preset = replace(backbone.preset, preprocessing=replace(vgg, channels="RGB"))
        found = finding(examine_pixels(backbone, photos), "scale")
        assert found.level == "warning"
        assert "given values from -1 to 1" in found.text

    @pytest.mark.parametrize("label", ["Faces", "airplanes", "Motorbikes", "ketch", "sunflower"])
    def test_single_classes_in_the_right_order(self, backbone, caltech_files, label):
        pixels = np.stack([canvas(data, (224, 224)) for data in caltech_files(48, label)])
        assert "warning" not in levels(examine_pixels(backbone, pixels)).values()


class TestWeights:
    @pytest.mark.parametrize("name", ["cifar-resnet20", "vgg-small", "lenet5"])
    def test_untrained(self, name, tmp_path, digits):
        preset = backbone_preset(name)
        network = build_network(preset, preset.input_size, preset.classes)
        network.save(tmp_path / "untrained.keras")
        found = finding(
            examine_pixels(Backbone(name, str(tmp_path / "untrained.keras")), digits), "weights"
        )
        assert found.level == "warning"
        assert "look untrained" in found.text
        assert "--weights" in found.text

    def test_trained_without_batch_normalisation(self, tmp_path, digits):
        preset = backbone_preset("lenet5")
        network = build_network(preset, preset.input_size, preset.classes)
        network.get_layer("c1").bias.assign(np.ones(6))
        network.save(tmp_path / "trained.keras")
        findings = examine_pixels(Backbone("lenet5", str(tmp_path / "trained.keras")), digits)
        assert levels(findings) == {
            "weights": "ok",
            "scale": "unknown",
            "channels": "unknown",
            "frozen": "ok",
        }

    def test_all_zero(self, tmp_path, digits):
        network = Backbone("cifar-resnet20").network
        network.set_weights([np.zeros_like(array) for array in network.get_weights()])
        network.save(tmp_path / "zeros.keras")
        findings = examine_pixels(Backbone("cifar-resnet20", str(tmp_path / "zeros.keras")), digits)
        assert levels(findings)["weights"] == "warning"
        assert "are all zero" in finding(findings, "weights").text
        assert levels(findings)["scale"] == "unknown"

    def test_layers_that_are_not_frozen(self, digits):
        backbone = Backbone("cifar-resnet20")
        backbone.model.get_layer("bn1").trainable = True
        before = backbone.model.predict(digits, verbose=0)
        found = finding(examine_pixels(backbone, digits), "frozen")
        assert found.level == "warning"
        assert "changed frozen layers" in found.text
        np.testing.assert_array_equal(backbone.model.predict(digits, verbose=0), before)


def test_probabilities():
    good = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    assert examine_probabilities(good).level == "ok"
    for bad in (good * 1.1, np.array([[1.5, -0.5]]), np.array([[np.nan, 1.0]])):
        found = examine_probabilities(bad)
        assert found.level == "warning"
        assert "do not sum to one" in found.text


class TestStored:
    def test_the_second_time_costs_nothing(self, photos, tmp_path, monkeypatch):
        dataset, _ = check_listing(read_listing(photos))
        with FeatureStore(tmp_path / "store") as store:
            first = examine(FeatureSource(Backbone("cifar-resnet20"), store), dataset.examples)
            assert {f.check for f in first} == {"weights", "scale", "channels", "frozen"}
            monkeypatch.setattr(doctor, "examine_pixels", lambda *a, **k: pytest.fail("again"))
            again = FeatureSource(Backbone("cifar-resnet20"), store)
            assert examine(again, dataset.examples[::-1]) == first

    @pytest.mark.parametrize("other", ["images", "weights", "size"])
    def test_other_things_are_other_findings(self, photos, tmp_path, monkeypatch, other):
        dataset, _ = check_listing(read_listing(photos))
        with FeatureStore(tmp_path / "store") as store:
            examine(FeatureSource(Backbone("cifar-resnet20"), store), dataset.examples)
            calls = []
            monkeypatch.setattr(doctor, "examine_pixels", lambda *a, **k: calls.append(a) or ())
            weights = None
            if other == "weights":
                weights = str(tmp_path / "w.keras")
                Backbone("cifar-resnet20").network.save(weights)
            size = 48 if other == "size" else None
            backbone = Backbone("cifar-resnet20", weights, input_size=size)
            examples = dataset.examples[:-1] if other == "images" else dataset.examples
            examine(FeatureSource(backbone, store), examples)
            assert len(calls) == 1

    def test_nothing_is_expected_of_random_weights(self, photos, tmp_path):
        dataset, _ = check_listing(read_listing(photos))
        with FeatureStore(tmp_path / "store") as store:
            source = FeatureSource(Backbone("cifar-resnet20", "none"), store)
            assert examine(source, dataset.examples) == ()


class TestInARun:
    def test_warnings_reach_the_user_and_the_report(self, photos, tmp_path, caplog):
        Backbone("cifar-resnet20", "none").network.save(tmp_path / "untrained.keras")
        result = features_run(
            photos,
            tmp_path / "run",
            weights=str(tmp_path / "untrained.keras"),
            store=tmp_path / "store",
            test=0.2,
        )
        assert any("look untrained" in warning for warning in result.warnings)
        assert "look untrained" in caplog.text
        assert "look untrained" in (tmp_path / "run" / "report.html").read_text()
        facts = json.loads((tmp_path / "run" / "run.json").read_text())
        assert {f["check"]: f["level"] for f in facts["findings"]}["weights"] == "warning"

    def test_good_run(self, finished_run):
        _, result = finished_run
        found = levels(result.findings)
        assert found["probabilities"] == found["weights"] == found["frozen"] == "ok"

    def test_check_of_data_with_a_backbone(self, tmp_path):
        photos = class_folders(tmp_path / "photos", n=4)
        report = tltool.check(photos, store=tmp_path / "store", backbone="cifar-resnet20")
        assert any(note.startswith("weights (ok)") for note in report.notes)
        with pytest.raises(tltool.TltoolError, match="needs --backbone"):
            tltool.check(photos, weights="none")
