"""The distance to what a network was trained on: closed forms, and figures measured elsewhere."""

import numpy as np
import pytest
from conftest import SHARED, needs_shared
from scipy import integrate, stats

from tltool import Backbone
from tltool._keras import import_keras
from tltool.backbones.batch_norms import SourceStatistics, moments_model, source_statistics
from tltool.data import canvas
from tltool.features import make_engine
from tltool.similarity import domain_distance, layer_distances, resampled_distances


def source_of(mean, variance, layer=None):
    mean, variance = np.array(mean, float), np.array(variance, float)
    return SourceStatistics(mean, variance, np.array(layer or [0] * len(mean)))


def hellinger(m1, s1, m2, s2):
    """Half the integral of the squared difference of the densities' roots."""
    density = lambda m, s: stats.norm(m, s).pdf  # noqa: E731
    value, _ = integrate.quad(
        lambda x: (np.sqrt(density(m1, s1)(x)) - np.sqrt(density(m2, s2)(x))) ** 2,
        -60,
        60,
        limit=400,
    )
    return value / 2


@pytest.mark.parametrize(("m", "v"), [(0.0, 1.0), (1.5, 1.0), (0.0, 9.0), (-2.0, 0.25)])
def test_distance_is_the_integral(m, v):
    moments = np.array([[m, v]])
    expected = hellinger(0.0, 1.0, m, np.sqrt(v))
    assert domain_distance(moments, source_of([0], [1])) == pytest.approx(expected, abs=1e-6)


def test_variance_of_all_images_together():
    """Means of the images differ too: the law of total variance."""
    random = np.random.default_rng(0)
    values = random.normal(3, 2, (6, 50)) + random.normal(0, 5, (6, 1))
    moments = np.stack([values.mean(axis=1), values.var(axis=1)], axis=1)
    same = source_of([values.mean()], [values.var()])
    assert domain_distance(moments, same) == pytest.approx(0, abs=1e-12)


def test_layers_count_alike_and_flat_channels_do_not():
    moments = np.array([[0, 0, 0, 9, 1, 1, 1, 1]], float)
    far = hellinger(0, 1, 9, 1)
    source = source_of([0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1])
    assert domain_distance(moments, source) == pytest.approx(far / 2)
    flat = source_of([0, 0, 0, 0], [1, 1, 1, 1e-5], [0, 0, 0, 1])
    assert domain_distance(moments, flat) == pytest.approx(0)


def test_the_distance_is_the_mean_of_the_layers():
    random = np.random.default_rng(0)
    moments = np.hstack([random.normal(size=(9, 6)), random.uniform(0.5, 2, (9, 6))])
    source = source_of([0] * 6, [1, 1, 1, 1, 1, 1e-6], [0, 0, 1, 1, 1, 2])
    layers = layer_distances(moments, source)
    assert np.isnan(layers[2])  # nothing in it varies
    assert domain_distance(moments, source) == pytest.approx(layers[:2].mean())


def test_resamples_are_distances_of_images_drawn_again():
    random = np.random.default_rng(0)
    moments = np.hstack([random.normal(size=(9, 2)), random.uniform(0.5, 2, (9, 2))])
    source = source_of([0, 0], [1, 1])
    draws = np.random.default_rng(5).multinomial(9, np.full(9, 1 / 9), 3)
    expected = [layer_distances(np.repeat(moments, draw, axis=0), source) for draw in draws]
    np.testing.assert_allclose(resampled_distances(moments, source, 3, 5), expected)


def test_nothing_to_compare():
    with pytest.raises(ValueError, match="at least one image"):
        domain_distance(np.zeros((0, 2)), source_of([0], [1]))
    with pytest.raises(ValueError, match="one channel that varies"):
        domain_distance(np.zeros((1, 2)), source_of([0], [0]))


def test_moments_are_those_of_what_is_normalised():
    keras = import_keras()
    backbone = Backbone("cifar-resnet20", taps="logits")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    source = source_statistics(backbone)
    norms = [layer for layer in backbone.network.layers if hasattr(layer, "moving_mean")]
    inputs = keras.Model(backbone.network.input, [norm.input for norm in norms])(pixels)
    expected = [np.concatenate([np.mean(x, axis=(1, 2)) for x in inputs], axis=1)]
    expected.append(np.concatenate([np.var(x, axis=(1, 2)) for x in inputs], axis=1))
    model = moments_model(backbone)
    for engine in ("keras", "openvino"):
        found = make_engine(engine, "test-moments", lambda: model)(pixels.astype(np.float32))
        np.testing.assert_allclose(found, np.hstack(expected), rtol=1e-3, atol=1e-4)
    assert found.shape == (3, 2 * source.channels)


class TestKept:
    """What a network remembers is found once on a machine."""

    @pytest.fixture
    def cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TLTOOL_CACHE", str(tmp_path / "cache"))
        return tmp_path / "cache"

    def test_no_network_is_built_again(self, cache, monkeypatch):
        known = source_statistics(Backbone("cifar-resnet20"))
        with monkeypatch.context() as patched:
            patched.setattr(Backbone, "_build", lambda self: pytest.fail("a network was built"))
            again = source_statistics(Backbone("cifar-resnet20"))
        assert again.names == known.names
        for name in ("mean", "variance", "layer"):
            np.testing.assert_array_equal(getattr(again, name), getattr(known, name))
        other = source_statistics(Backbone("cifar-resnet20", input_size="48"))
        np.testing.assert_array_equal(other.mean, known.mean)
        assert len(list((cache / "facts").iterdir())) == 2

    def test_only_of_weights_in_a_file(self, cache):
        source_statistics(Backbone("cifar-resnet20", "none"))
        assert not cache.exists()

    def test_damaged_or_without_a_place(self, cache):
        known = source_statistics(Backbone("cifar-resnet20")).mean
        (kept,) = (cache / "facts").iterdir()
        for damage in (b"", b"no archive", kept.read_bytes()[:-40]):
            kept.write_bytes(damage)
            np.testing.assert_array_equal(source_statistics(Backbone("cifar-resnet20")).mean, known)
        kept.unlink()
        (cache / "facts").rmdir()
        (cache / "facts").write_text("a file")
        np.testing.assert_array_equal(source_statistics(Backbone("cifar-resnet20")).mean, known)


@needs_shared("weights/mobilenet_2_5_224_tf_no_top.h5", "data/caltech101.zip")
def test_measured_figures(caltech_files):
    """MobileNet 0.25: Caltech-101 0.006, digits 0.155, uniform noise 0.153."""
    from PIL import Image
    from sklearn.datasets import load_digits

    weights = SHARED / "weights" / "mobilenet_2_5_224_tf_no_top.h5"
    backbone = Backbone("mobilenet-0.25", str(weights))
    source = source_statistics(backbone)
    run = make_engine("openvino", "test-figures", lambda: moments_model(backbone))
    random = np.random.default_rng(0)
    digits = [
        Image.fromarray(np.uint8(image * 15.9)).resize((224, 224), Image.Resampling.BILINEAR)
        for image in load_digits().images[:192]
    ]
    for images, expected, within in (
        ([canvas(data, (224, 224)) for data in caltech_files(192)], 0.006, 0.001),
        ([np.asarray(digit.convert("RGB")) for digit in digits], 0.155, 0.005),
        (random.integers(0, 256, (64, 224, 224, 3)), 0.153, 0.005),
    ):
        pixels = np.stack(images).astype(np.float32)
        moments = np.concatenate([run(pixels[i : i + 32]) for i in range(0, len(pixels), 32)])
        assert domain_distance(moments, source) == pytest.approx(expected, abs=within)
