"""No image goes through the same network twice."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import class_folders, picture, save

from tltool import Backbone, TltoolError
from tltool.data import UnreadableImageError, canvas, check_listing, read_listing
from tltool.features import CanvasBatch, FeatureSource, FeatureStore, canvas_batches
from tltool.features import extraction as extraction_module
from tltool.features.engine import choose_engine
from tltool.features.openvino_engine import OpenVINOEngine


class Counting:
    """An engine that notes how many images it was given."""

    lanes = 1

    def __init__(self, fail_after=None):
        self.images = 0
        self.fail_after = fail_after

    def __call__(self, pixels):
        if self.fail_after is not None and self.images >= self.fail_after:
            raise KeyboardInterrupt
        self.images += len(pixels)
        return pixels.reshape(len(pixels), -1)[:, :4].astype(np.float32)


@pytest.fixture
def counting(monkeypatch):
    engine = Counting()
    monkeypatch.setattr(extraction_module, "make_engine", lambda *a, **k: engine)
    return engine


@pytest.fixture
def dataset(photos):
    return check_listing(read_listing(photos))[0]


@pytest.fixture
def source(tmp_path):
    with FeatureStore(tmp_path / "store") as store:
        yield FeatureSource(Backbone("cifar-resnet20"), store)


def test_features_are_computed_once(dataset, source, counting):
    first = source.features(dataset.examples)
    assert (first.computed, counting.images) == (36, 36)
    again = source.features(dataset.examples[::-1])
    assert (again.computed, counting.images) == (0, 36)
    np.testing.assert_array_equal(again.values[::-1], first.values)


def test_identical_images_are_computed_once(photos, source, counting):
    shutil.copy(photos / "red" / "0.png", photos / "red" / "copy.png")
    dataset, _ = check_listing(read_listing(photos))
    assert source.features(dataset.examples).computed == 36


def test_added_images_alone_are_computed(photos, dataset, source, counting):
    source.features(dataset.examples)
    class_folders(photos, n=1, start=500)
    save(photos / "red" / "new.png", picture(777))
    more, _ = check_listing(read_listing(photos))
    assert source.features(more.examples).computed == 4


def test_interrupted_extraction_goes_on_where_it_stopped(dataset, source, counting):
    counting.fail_after = 32
    with pytest.raises(KeyboardInterrupt):
        source.features(dataset.examples)
    counting.fail_after = None
    assert source.features(dataset.examples).computed == 4


def test_other_weights_are_other_features(dataset, source, counting):
    source.features(dataset.examples)
    other = FeatureSource(Backbone("cifar-resnet20", "none"), source.store)
    assert other.features(dataset.examples).computed == 36
    rough = FeatureSource(source.backbone, source.store, precision="bfloat16")
    assert rough.features(dataset.examples).computed == 36


class TestSeveralTaps:
    """One forward pass serves them all, and each is stored apart."""

    def at(self, source, taps):
        return FeatureSource(Backbone("cifar-resnet20", taps=taps), source.store)

    def test_one_pass(self, dataset, source, monkeypatch):
        engines = []
        make = extraction_module.make_engine

        def counted(*arguments, **options):
            engines.append(Tallying(make(*arguments, **options)))
            return engines[-1]

        monkeypatch.setattr(extraction_module, "make_engine", counted)
        both = self.at(source, "stage2:avg+max,avgpool")
        found = both.features(dataset.examples)
        assert (found.computed, [e.images for e in engines]) == (36, [36])
        pixels = np.stack([canvas(e.path.read_bytes(), (32, 32)) for e in dataset.examples])
        expected = both.backbone.model.predict(pixels, verbose=0)
        np.testing.assert_allclose(found.values, expected, atol=1e-4 * expected.max())

        one = self.at(source, "stage2:max").features(dataset.examples)
        assert one.computed == 0
        np.testing.assert_array_equal(one.values, found.values[:, 32:64])
        swapped = self.at(source, "avgpool,stage2").features(dataset.examples)
        assert swapped.computed == 0
        np.testing.assert_array_equal(
            swapped.values, np.hstack([found.values[:, 64:], found.values[:, :32]])
        )
        assert len(engines) == 1

    def test_only_what_is_missing_is_computed(self, dataset, source):
        self.at(source, "avgpool").features(dataset.examples[:20])
        both = self.at(source, "avgpool,stage1:flatten")
        assert both.features(dataset.examples[:30]).computed == 30
        rows = {space["tap"]: space["images"] for space in source.store.info().spaces}
        assert rows == {"stage3_block3_out:avg": 30, "stage1_block3_out:flatten": 30}

    def test_another_preprocessing_is_another_space(self, source):
        from dataclasses import replace

        first, other = Backbone("cifar-resnet20"), Backbone("cifar-resnet20")
        other.preset = replace(
            other.preset, preprocessing=replace(other.preset.preprocessing, channels="BGR")
        )
        spaces = [
            extraction_module.feature_space(replace(source, backbone=b, engine="auto"), b.parts[0])
            for b in (first, other)
        ]
        assert spaces[0] != spaces[1]
        assert first.key != other.key

    def test_other_input_sizes_are_other_features(self, dataset, source):
        source.features(dataset.examples)
        larger = FeatureSource(Backbone("cifar-resnet20", input_size=48), source.store)
        assert larger.features(dataset.examples).computed == 36


class Tallying:
    """A real engine that notes how many images it was given."""

    lanes = 1

    def __init__(self, run):
        self.run = run
        self.images = 0

    def __call__(self, pixels):
        self.images += len(pixels)
        return self.run(pixels)


def test_engines_share_features_in_float32(dataset, source):
    FeatureSource(source.backbone, source.store, "openvino").features(dataset.examples)
    assert (
        FeatureSource(source.backbone, source.store, "keras").features(dataset.examples).computed
        == 0
    )


def test_features_are_what_the_model_gives(dataset, source):
    pixels = np.stack([canvas(e.path.read_bytes(), (32, 32)) for e in dataset.examples])
    expected = source.backbone.model.predict(pixels, verbose=0)
    np.testing.assert_allclose(
        source.features(dataset.examples).values, expected, atol=1e-4 * expected.max()
    )


def test_file_that_changed_since_the_check_is_refused(dataset, source, counting):
    save(dataset.examples[3].path, picture(4711))
    with pytest.raises(TltoolError, match="has changed since it was checked"):
        source.features(dataset.examples)
    dataset.examples[5].path.unlink()
    with pytest.raises(TltoolError, match="changed|Could not read"):
        source.features(dataset.examples)


def test_batches_at_the_same_time_stay_in_order(source, monkeypatch):
    class Slow(Counting):
        """Later batches are done sooner."""

        lanes, running, most = 2, 0, 0

        def __call__(self, pixels):
            with lock:
                self.running += 1
                self.most = max(self.most, self.running)
            time.sleep(0.02 / (1 + pixels[0, 0]))
            with lock:
                self.running -= 1
            return pixels

    lock, engine = threading.Lock(), Slow()
    batches = [CanvasBatch(range(i, i + 1), np.array([[i]]), {}) for i in range(9)]
    found = list(extraction_module._computed(engine, batches))
    assert [(b.rows[0], int(v[0, 0])) for b, v in found] == [(i, i) for i in range(9)]
    assert engine.most == 2
    broken = iter([*batches[:3], None])  # what fails in between is told, and ends it
    with pytest.raises(AttributeError):
        list(extraction_module._computed(engine, broken))


def test_two_lanes_give_what_one_gives(source):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    one, two = (
        OpenVINOEngine(None, lambda: source.backbone.model, lanes=lanes) for lanes in (1, 2)
    )
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(two, [pixels] * 8):
            np.testing.assert_allclose(found, one(pixels), rtol=1e-5, atol=1e-5)


def test_features_that_are_no_numbers_are_refused(dataset, source, monkeypatch):
    class Broken(Counting):
        def __call__(self, pixels):
            return np.full((len(pixels), 4), np.nan, np.float32)

    monkeypatch.setattr(extraction_module, "make_engine", lambda *a, **k: Broken())
    with pytest.raises(TltoolError, match="no finite numbers"):
        source.features(dataset.examples)


def test_batches_come_in_order_with_bad_images_named(photos):
    paths = sorted(photos.rglob("*.png"))
    readers = [p.read_bytes for p in paths]
    readers[7] = lambda: b"no image"

    def gone():
        raise UnreadableImageError("is gone")

    readers[20] = gone
    batches = list(canvas_batches(readers, (16, 24), 10))
    assert [b.rows for b in batches] == [range(0, 10), range(10, 20), range(20, 30), range(30, 36)]
    assert [list(b.unreadable) for b in batches] == [[7], [], [20], []]
    assert batches[0].pixels.shape == (10, 16, 24, 3)
    np.testing.assert_array_equal(batches[1].pixels[2], canvas(readers[12](), (16, 24)))


def test_unknown_engine_and_precision(source):
    with pytest.raises(TltoolError, match="Unknown --engine 'openvno': did you mean 'openvino'"):
        FeatureSource(source.backbone, source.store, "openvno")
    with pytest.raises(TltoolError, match="Unknown --precision"):
        FeatureSource(source.backbone, source.store, precision="float16")


def test_auto_takes_openvino_on_a_cpu(monkeypatch):
    import importlib.util

    from tltool.features import engine

    monkeypatch.setattr(engine, "_has_gpu", lambda: False)
    assert choose_engine("auto") == "openvino"
    monkeypatch.setattr(engine, "_has_gpu", lambda: True)
    assert choose_engine("auto") == "keras"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert choose_engine("auto") == "keras"
    with pytest.raises(TltoolError, match="pip install openvino"):
        choose_engine("openvino")


def test_auto_falls_back_to_keras(monkeypatch, caplog):
    from tltool.features import make_engine, openvino_engine

    def broken(*arguments):
        raise RuntimeError("no such operation")

    monkeypatch.setattr(openvino_engine, "OpenVINOEngine", broken)
    model = Backbone("cifar-resnet20").model
    assert make_engine("openvino", "k", lambda: model, fall_back=True).name == "keras"
    assert "no such operation" in caplog.text
    with pytest.raises(RuntimeError):
        make_engine("openvino", "k", lambda: model)


def test_rows_pruned_by_another_process_are_computed_again(dataset, source, counting, monkeypatch):
    source.features(dataset.examples)
    real = source.store.known
    calls = []

    def known_then_pruned(space, hashes):
        found = real(space, hashes)
        if not calls:
            source.store.trim(0)
        calls.append(1)
        return found

    monkeypatch.setattr(source.store, "known", known_then_pruned)
    assert source.features(dataset.examples).values.shape == (36, 4)
    assert len(calls) == 2
