"""The atlas of layers, against plain Keras; and what is done to images for it."""

import io
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import features_run, picture, save
from PIL import Image
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from test_checks import textured
from test_report import Page
from typer.testing import CliRunner

import tltool
from tltool import Backbone, Run, TltoolError, layer_atlas, layer_probes
from tltool.backbones.kept import with_source_classes
from tltool.changes import CHANGES
from tltool.cli import app
from tltool.data import Example, canvas, check_listing, read_listing, split_dataset
from tltool.layer_atlas import _atlas
from tltool.layer_probes import Probe, layers_of, sample_of
from tltool.linear import Problem, choose, fit_candidate, out_of_fold_scores
from tltool.linear.calibration import fit_temperature
from tltool.linear.linear_head import softmax
from tltool.linear.search import VALUES
from tltool.metrics import wilson_interval
from tltool.report import render_atlas
from tltool.strategies.folds import stratified_folds

BY_NAME = {change.name: change for change in CHANGES}
GIVEN = {"backbone": "cifar-resnet20"}
ENDS = {
    "stem": "conv1_relu",
    "stage1": "stage1_block3_out",
    "stage2": "stage2_block3_out",
    "stage3": "stage3_block3_out",
}
ROWS = [*ENDS, "avgpool"]


def cli(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def marked(shape, top, left):
    """A black picture with a white square of four pixels."""
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[top : top + 2, left : left + 2] = 255
    return pixels


def place(pixels):
    """Row and column of the middle of what is bright."""
    bright = pixels[..., 0].astype(float) - np.median(pixels[..., 0])
    bright[bright < 20] = 0
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    return (rows * bright).sum() / bright.sum(), (columns * bright).sum() / bright.sum()


class TestChanges:
    @pytest.mark.parametrize("name", BY_NAME)
    @pytest.mark.parametrize("size", [(30, 50), (32, 32), (41, 27)])
    def test_more_and_more_of_it(self, name, size):
        change, pixels = BY_NAME[name], textured(3, size)
        before = pixels.copy()
        assert np.array_equal(change.apply(pixels, change.amounts[0], 0), pixels)
        apart = []
        for amount in change.amounts[1:]:
            changed = change.apply(pixels, amount, 0)
            assert changed.shape == pixels.shape and changed.dtype == np.uint8
            assert np.array_equal(changed, change.apply(pixels, amount, 0))
            apart.append(np.abs(changed.astype(float) - pixels).mean())
        assert np.array_equal(pixels, before)
        assert list(change.amounts) == sorted(change.amounts)
        assert apart[0] > 0.04
        assert change.moves or apart == sorted(apart)

    @pytest.mark.parametrize("amount", [3, 12, 40])
    def test_moved_to_the_right_by_a_share_of_the_width(self, amount):
        pixels = marked((60, 100), 20, 30)
        assert place(BY_NAME["moved"].apply(pixels, amount, 0)) == (20.5, 30.5 + amount)

    @pytest.mark.parametrize("shape", [(60, 100), (61, 33)])
    @pytest.mark.parametrize("amount", [1.5, 1.8])
    def test_scaled_about_the_middle(self, shape, amount):
        middle = (np.array(shape) - 1) / 2
        top, left = (int(m) - 6 for m in middle)
        found = place(BY_NAME["scaled"].apply(marked(shape, top, left), amount, 0))
        expected = middle + amount * (np.array([top + 0.5, left + 0.5]) - middle)
        np.testing.assert_allclose(found, expected, atol=0.1)

    @pytest.mark.parametrize("shape", [(60, 100), (61, 33)])
    @pytest.mark.parametrize("amount", [10, 45, 90, 135, 180])
    def test_turned_about_the_middle(self, shape, amount):
        """Counter-clockwise, as a viewer sees it."""
        middle = (np.array(shape) - 1) / 2
        top, left = int(middle[0]) - 8, int(middle[1]) + 3
        found = place(BY_NAME["turned"].apply(marked(shape, top, left), amount, 0))
        down, right = np.array([top + 0.5, left + 0.5]) - middle
        c, s = np.cos(np.radians(amount)), np.sin(np.radians(amount))
        np.testing.assert_allclose(
            found - middle, [c * down - s * right, s * down + c * right], atol=0.05
        )

    def test_half_a_turn_is_exact(self):
        pixels = picture(1, (50, 30))
        turned = BY_NAME["turned"].apply(pixels, 180, 0)
        np.testing.assert_allclose(turned.astype(int), pixels[::-1, ::-1], atol=1)

    @pytest.mark.parametrize("name", ["moved", "turned"])
    def test_what_comes_into_the_picture_has_its_mean_colour(self, name):
        pixels = picture(1, (50, 50), hue=2)
        corner = BY_NAME[name].apply(pixels, BY_NAME[name].amounts[4 - (name == "turned")], 0)[0, 0]
        np.testing.assert_allclose(corner, pixels.mean(axis=(0, 1)), atol=1)

    @pytest.mark.parametrize("amount", [4, 12])
    def test_noise_has_the_deviation_that_is_told(self, amount):
        pixels = np.full((200, 300, 3), 128, np.uint8)
        noise = BY_NAME["noise"].apply(pixels, amount, 0).astype(float) - 128
        assert noise.std() == pytest.approx(2.55 * amount, rel=0.02)
        assert noise.mean() == pytest.approx(0, abs=0.3)
        other = BY_NAME["noise"].apply(pixels, amount, 1).astype(float) - 128
        assert abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 0.02

    @pytest.mark.parametrize("amount", [25, 90])
    def test_less_contrast_about_the_mean(self, amount):
        pixels = picture(2, (60, 40))
        mean = pixels.mean(axis=(0, 1))
        expected = mean + (pixels - mean) * (1 - amount / 100)
        found = BY_NAME["less contrast"].apply(pixels, amount, 0)
        np.testing.assert_allclose(found, expected, atol=0.51)

    def test_jpeg_of_that_quality(self):
        pixels = picture(2, (60, 40))
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=15)
        with Image.open(buffer) as image:
            assert np.array_equal(BY_NAME["JPEG"].apply(pixels, 85, 0), np.asarray(image))

    def test_blur_is_as_wide_as_is_told(self):
        pixels = np.zeros((100, 200, 3), np.uint8)
        pixels[40:60, 80:120] = 255
        blurred = BY_NAME["blur"].apply(pixels, 3, 0)[50, :, 0] / 255.0  # 6 pixels
        edge = -np.diff(blurred[100:])
        middle = (edge * np.arange(len(edge))).sum() / edge.sum()
        spread = np.sqrt((edge * (np.arange(len(edge)) - middle) ** 2).sum() / edge.sum())
        assert spread == pytest.approx(6, rel=0.1)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Classes that are not easy to tell, and a store."""
    root = tmp_path_factory.mktemp("atlas")
    for hue, label in enumerate(("red", "green", "blue")):
        for i in range(16):
            weak = picture(1000 * hue + i, (40, 30), hue).astype(int)
            weak[..., hue] -= 105
            save(root / "photos" / label / f"{i}.png", weak.clip(0, 255).astype(np.uint8))
    return root


@pytest.fixture(scope="module")
def found(home):
    given = {"images": 6, "store": home / "store", **GIVEN}
    return tltool.atlas(home / "photos", out=home / "atlas.html", **given)


@pytest.fixture(scope="module")
def looked_at(home):
    """What the atlas is of: data set, images to learn from, their canvases; those changed."""
    checked, _ = check_listing(read_listing(home / "photos"))
    dataset, _ = split_dataset(checked, seed=0, test=0.2, val=0.1)
    examples = dataset.of("train", "val")
    pixels = np.stack([canvas(e.path.read_bytes(), (32, 32)) for e in examples])
    return dataset, examples, pixels, sample_of(examples, 6, 0)


@pytest.fixture(scope="module")
def network():
    """The embedded network."""
    return Backbone("cifar-resnet20").network


def activations(network, layer, pixels):
    """`(n, height, width, channels)`, by Keras alone."""
    model = keras.Model(network.input, network.get_layer(layer).output)
    return np.asarray(model(pixels, training=False))


def distances(network, layer, pixels, change):
    """Mean distance of changed images' activations, by that between different images."""
    rows = [[change.apply(p, amount, i) for i, p in enumerate(pixels)] for amount in change.amounts]
    own, *others = np.split(activations(network, layer, np.concatenate(rows)), len(rows))
    n = len(own)
    apart = [np.linalg.norm(own[i] - own[j]) for i in range(n) for j in range(n) if i != j]
    moved = [[np.linalg.norm(one[i] - own[i]) for i in range(n)] for one in (own, *others)]
    return np.mean(moved, axis=1) / np.mean(apart)


def same(ours, theirs, taps):
    """Whether curves of distances of these taps are the same in two atlases."""
    return all(
        np.allclose(one.distance[tap], other.distance[tap], atol=2e-4)
        for one, other in zip(ours.changes, theirs.changes, strict=True)
        for tap in taps
    )


class TestFigures:
    def test_a_row_for_each_tap(self, found, looked_at):
        dataset, examples, _, sample = looked_at
        assert [layer.tap for layer in found.layers] == [*ROWS, "logits"]
        assert [layer.features for layer in found.layers] == [16, 16, 32, 64, 64, 10]
        assert (found.images, found.changed, found.classes) == (len(examples), 6, 3)
        assert len(examples) < len(dataset.examples) == 48
        assert Counter(examples[i].label for i in sample) == {"red": 2, "green": 2, "blue": 2}

    @pytest.mark.parametrize("tap", ENDS)
    def test_accuracy_is_that_of_cross_validated_discriminant_analysis(
        self, found, looked_at, network, tap
    ):
        dataset, examples, pixels, _ = looked_at
        features = np.sqrt(activations(network, ENDS[tap], pixels).mean(axis=(1, 2)))
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        targets, folds = dataset.targets(examples), stratified_folds(examples, 5, 0)
        best = 0.0
        for shrinkage in VALUES["lda"]:
            hits = np.zeros(len(examples), bool)
            for fold in range(5):
                fit = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
                fit.fit(features[folds != fold], targets[folds != fold])
                hits[folds == fold] = fit.predict(features[folds == fold]) == targets[folds == fold]
            best = max(best, hits.mean())
        (layer,) = (layer for layer in found.layers if layer.tap == tap)
        assert layer.accuracy.value == pytest.approx(best, abs=1.01 / len(examples))
        low, high = wilson_interval(round(layer.accuracy.value * len(examples)), len(examples))
        assert (layer.accuracy.low, layer.accuracy.high) == pytest.approx((low, high))

    def test_the_features_of_the_head_are_those_of_the_last_block(self, found):
        last, own = found.layers[-3:-1]
        assert own.accuracy == last.accuracy and own.parameters == last.parameters
        assert own.invariance != last.invariance  # places are pooled away
        assert own.invariance == own.pooled_invariance == last.pooled_invariance

    def test_shares_rise_to_what_the_network_has(self, found, network):
        for layer in found.layers[:4]:
            below = keras.Model(network.input, network.get_layer(ENDS[layer.tap]).output)
            assert layer.parameters == pytest.approx(below.count_params() / 271_098)
        shares = [layer.multiply_adds for layer in found.layers]
        assert shares == sorted(shares) and 0.99 < shares[-2] < shares[-1] == 1

    @pytest.mark.parametrize("tap", ["stem", "stage3"])
    @pytest.mark.parametrize("name", ["moved", "turned", "noise"])
    def test_distances_are_those_of_activations_in_their_places(
        self, found, looked_at, network, tap, name
    ):
        _, _, pixels, sample = looked_at
        expected = distances(network, ENDS[tap], pixels[sample], BY_NAME[name])
        (curve,) = (curve for curve in found.changes if curve.name == name)
        np.testing.assert_allclose(curve.distance[tap], expected, atol=1e-3)

    def test_distances_begin_at_nothing(self, found):
        assert [curve.name for curve in found.changes] == list(BY_NAME)
        for curve in found.changes:
            assert curve.amounts == BY_NAME[curve.name].amounts
            for tap in ROWS:
                assert len(curve.distance[tap]) == len(curve.amounts)
                assert curve.distance[tap][0] == pytest.approx(0, abs=1e-5)
                assert curve.distance[tap][-1] > 0.01

    def test_invariance_is_what_is_left_of_distance(self, found):
        for layer in found.layers:
            apart = {c.name: np.mean(c.distance[layer.tap][1:]) for c in found.changes}
            moved = [v for name, v in apart.items() if BY_NAME[name].moves]
            spoiled = [v for name, v in apart.items() if not BY_NAME[name].moves]
            assert (len(moved), len(spoiled)) == (3, 4)
            assert layer.invariance == pytest.approx(1 - np.mean(moved))
            assert layer.robustness == pytest.approx(1 - np.mean(spoiled))
            right = {c.name: np.mean(c.probability[layer.tap][1:]) for c in found.changes}
            moved = [v for name, v in right.items() if BY_NAME[name].moves]
            assert layer.moved == pytest.approx(np.mean(moved))
            spoiled = [v for name, v in right.items() if not BY_NAME[name].moves]
            assert layer.spoiled == pytest.approx(np.mean(spoiled))

    @pytest.mark.parametrize("name", ["scaled", "JPEG"])
    def test_probability_is_what_a_fit_without_these_images_says(
        self, found, looked_at, network, name
    ):
        dataset, examples, pixels, sample = looked_at

        def features(shown):
            return activations(network, "stage3_block3_out", shown).mean(axis=(1, 2))

        targets, own = dataset.targets(examples), features(pixels)
        problem = Problem(own, targets, 3, (64,))
        folds = stratified_folds(examples, 5, 0)
        candidate = choose(
            problem, folds, ("lda",), (("sqrt", "l2"),), nested=False
        ).chosen.candidate
        scores = out_of_fold_scores(problem, candidate, folds)
        temperature = fit_temperature(scores, targets, np.ones(len(targets)))
        others = np.setdiff1d(np.arange(len(examples)), sample)
        rest = Problem(own[others], targets[others], 3, (64,))
        fit = fit_candidate(rest, candidate)
        (curve,) = (curve for curve in found.changes if curve.name == name)
        for amount, told in zip(curve.amounts, curve.probability["avgpool"], strict=True):
            changed = [BY_NAME[name].apply(p, amount, i) for i, p in enumerate(pixels[sample])]
            said = softmax(fit.scores(features(np.stack(changed))) / temperature)
            assert told == pytest.approx(said[np.arange(6), targets[sample]].mean(), abs=2e-3)
            assert 0 <= told <= 1

    def test_very_many_activations_are_stood_for_by_some(self, home, found, monkeypatch):
        monkeypatch.setattr(layer_probes, "_MOST_ACTIVATIONS", 2000)
        given = {"images": 6, "store": home / "store", **GIVEN}
        some = tltool.atlas(home / "photos", out=home / "some.html", **given)
        for one, other in zip(some.layers, found.layers, strict=True):
            assert one.accuracy == other.accuracy
            assert one.invariance == pytest.approx(other.invariance, abs=0.05)
        assert not same(some, found, ["stem"]) and same(some, found, ["avgpool"])


def example(number, label, group=None):
    name = bytes([number] * 32)
    return Example(Path(f"{number}.png"), f"{number}.png", label, name, group or name, "train")


class TestSample:
    def test_as_many_of_each_class_and_half_at_most(self):
        examples = [example(i, "a") for i in range(20)]
        examples += [example(20 + i, "b") for i in range(5)] + [example(30, "c")]
        labels = Counter(examples[i].label for i in sample_of(examples, 6, 0))
        assert labels == {"a": 4, "b": 2}
        assert list(sample_of(examples, 6, 0)) == sorted(set(sample_of(examples, 6, 0)))
        assert len(sample_of(examples, 100, 0)) == 12
        assert list(sample_of(examples, 6, 0)) != list(sample_of(examples, 6, 1))

    @pytest.mark.parametrize("seed", range(5))
    def test_of_near_duplicates_one(self, seed):
        """Half of the pictures, not of the files, so that some are left to learn from."""
        examples = [example(i, "ab"[i % 2], bytes([i % 6] * 32)) for i in range(30)]
        groups = [examples[i].group for i in sample_of(examples, 20, seed)]
        assert len(set(groups)) == len(groups) == 2

    def test_probes_know_no_copy_of_what_is_changed(self, home, monkeypatch):
        data = shutil.copytree(home / "photos", home / "copies")
        for file in [*data.rglob("*.png")]:
            shutil.copy(file, file.with_name(f"again-{file.name}"))
        told = {}

        def probe(problem, folds, sample, others, changed):
            told.update(sample=sample, others=others, n=len(problem.targets))
            raise TltoolError("enough")

        monkeypatch.setattr(layer_atlas, "probed", probe)
        with pytest.raises(TltoolError, match="enough"):
            tltool.atlas(data, out=home / "c.html", images=6, store=home / "store", **GIVEN)
        checked, _ = check_listing(read_listing(data))
        dataset, _ = split_dataset(checked, seed=0, test=0.2, val=0.1)
        examples = dataset.of("train", "val")
        groups = [{examples[i].group for i in told[name]} for name in ("sample", "others")]
        assert len(groups[0]) == len(told["sample"]) == 6 and not groups[0] & groups[1]
        assert len(told["others"]) == told["n"] - 2 * 6


def judged(*accuracies, n=100):
    """An atlas whose probes were right so often, on images as like as can be."""
    backbone = Backbone("cifar-resnet20")
    layers = layers_of(backbone)
    curve = [[0.0] * len(change.amounts) for change in CHANGES]
    probes = [
        Probe(np.arange(n) < round(a * n), 8, [np.array(c) for c in curve]) for a in accuracies
    ]
    nothing = {layer.name: curve for layer in layers}
    changed = SimpleNamespace(images=6, distances=nothing, pooled_distances=nothing)
    dataset = SimpleNamespace(labels=("a", "b"))
    return _atlas(backbone, dataset, layers, probes, changed, Path("p.html"), 0.0)


class TestTaps:
    def names(self, backbone, **given):
        return [layer.name for layer in layers_of(backbone, **given)]

    def test_named_taps_and_classification_layers_in_their_order(self):
        whole = Backbone("lenet5", "none").with_head()
        assert self.names(whole, every=True) == [
            "block1",
            "block2",
            "block3",
            "avgpool",
            "f6",
            "logits",
        ]
        assert self.names(Backbone("lenet5", "none", taps="avgpool"), every=True)[-1] == "avgpool"
        large = Backbone("vgg16", "none").with_head()
        assert self.names(large, every=True)[-5:] == [
            "decaf5",
            "avgpool",
            "decaf6",
            "decaf7",
            "logits",
        ]
        assert self.names(large)[-2:] == ["block5", "avgpool"]
        inner = self.names(Backbone("googlenet", "none"), every=True)
        assert {"inception_3a", "inception_4e", "inception_5a"} <= set(inner)
        assert inner == self.names(Backbone("googlenet", "none"), every=True)

    def test_what_is_left_out_is_named(self):
        told = replace(judged(0.5, 0.6, 0.7, 0.8, 0.9), left_out=("decaf6", "logits"))
        assert told.in_words[-1] == (
            "Left out, as these weights hold no classification layers: decaf6, logits."
        )

    def test_weights_without_the_classes_of_the_source(self):
        assert with_source_classes(Backbone("lenet5", "none")) is None
        assert with_source_classes(Backbone("cifar-resnet20")).built_classes == 10


class TestWords:
    def test_features_that_turn_away(self):
        told = judged(0.6, 0.8, 0.9, 0.89, 0.7)
        assert (told.best, told.turns) == ("stage2", "stage3")
        assert [x.as_good for x in told.layers] == [False, False, True, True, False]
        assert [x.behind for x in told.layers] == pytest.approx([0.3, 0.1, 0, 0.01, 0.2])
        useful, turning = told.in_words
        assert useful == "The most useful layer is stage2: 90.0%; nothing tells it from stage3."
        assert turning.startswith("Beyond stage3 features turn to the classes that the network")
        assert turning.endswith("at avgpool the probe is 20.0% less accurate, beyond chance.")

    def test_features_that_gain_to_the_last(self):
        told = judged(0.5, 0.6, 0.7, 0.8, 0.9)
        assert (told.best, told.turns) == ("avgpool", None)
        assert told.in_words[0] == "The most useful layer is avgpool: 90.0%."
        assert told.in_words[1].startswith("Up to the last layer features gain")

    def test_a_loss_that_chance_may_make_is_none(self):
        told = judged(0.5, 0.6, 0.9, 0.9, 0.88)
        assert (told.best, told.turns) == ("stage2", None)
        told = judged(0.5, 0.6, 0.9, 0.9, 0.85)  # five of a hundred are more than chance
        assert (told.best, told.turns) == ("stage2", "stage3")

    def test_the_lowest_of_equals_is_named(self):
        told = judged(1, 1, 1, 1, 1)
        assert (told.best, told.turns) == ("stem", None)
        assert told.layers[0].accuracy.high == told.layers[0].accuracy.value == 1

    def test_a_page_of_it(self):
        page = render_atlas(judged(0.6, 0.8, 0.9, 0.89, 0.7).as_json())
        assert "0.200 *" in page and "0.010 *" not in page and "0.010" in page
        assert "nan" not in page and Page(page).tags.count("svg") == 2 + 2 * len(CHANGES)


class TestData:
    def test_page(self, home, found):
        text = (home / "atlas.html").read_text("utf-8")
        page = Page(text)
        assert found.page == home / "atlas.html"
        assert page.tags.count("svg") == 2 + 2 * len(CHANGES)
        assert all(address.startswith(("data:", "#")) for address in page.addresses)
        assert not {"NaN", ">nan<", "inf,"} & set(text.split())
        for layer in found.layers:
            assert f"<td>{layer.tap}</td>" in text
            assert f"{layer.accuracy.low:.3f} to {layer.accuracy.high:.3f}" in text
        for sentence in found.in_words:
            assert f"<b>{sentence}</b>" in text
        assert all(f"<b>{change.name}</b>" in text for change in CHANGES)

    def test_command(self, home, found, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        given = ["atlas", home / "photos", "--images", 6, "--store", home / "store"]
        given += ["--backbone", "cifar-resnet20"]
        done = cli(*given, "--json")
        assert done.exit_code == 0, done.output
        printed, expected = json.loads(done.stdout), json.loads(json.dumps(found.as_json()))
        assert printed["page"] == "atlas-photos.html" and (tmp_path / "atlas-photos.html").is_file()
        assert printed["in_words"] == list(found.in_words)
        assert printed["layers"] == expected["layers"]
        assert printed["changes"] == expected["changes"]
        again = cli(*given)
        assert again.exit_code == 1 and "atlas-photos.html exists" in again.output

    def test_an_existing_page_is_kept_unless_forced(self, home, found, tmp_path):
        page = tmp_path / "mine.html"
        page.write_text("mine")
        given = {"out": page, "images": 4, "store": home / "store", **GIVEN}
        with pytest.raises(TltoolError, match=r"mine\.html exists; .* --force"):
            tltool.atlas(home / "photos", **given)
        assert page.read_text() == "mine"
        tltool.atlas(home / "photos", force=True, **given)
        assert "4 images that the probes were not fitted on" in page.read_text()

    @pytest.mark.parametrize(
        ("train", "given"),
        [
            ({"a": 1, "b": 1}, {"val": 0.0}),
            ({"a": 3, "b": 1}, {"val": 0.0}),  # one image is no two that could be told apart
        ],
    )
    def test_too_few_images(self, tmp_path, train, given):
        for split, sizes in (("train", train), ("test", {"a": 1, "b": 1})):
            for hue, (label, n) in enumerate(sizes.items()):
                for i in range(n):
                    seed = 100 * hue + i + 50 * (split == "test")
                    save(tmp_path / "d" / split / label / f"{i}.png", picture(seed, hue=hue))
        with pytest.raises(TltoolError, match="at least two classes of two images each"):
            tltool.atlas(
                tmp_path / "d", out=tmp_path / "p.html", store=tmp_path / "s", **given, **GIVEN
            )
        assert not (tmp_path / "p.html").exists()

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"images": 1}, "--images must be a whole number of at least 2"),
            ({"backbon": "resnet50"}, "no setting 'backbon': did you mean 'backbone'"),
            ({"tap": "stage1"}, "no setting 'tap'"),
            ({"out": "p.txt"}, r"a page is an \.html file"),
        ],
    )
    def test_what_is_wrong_is_told(self, home, given, message):
        with pytest.raises(TltoolError, match=message):
            tltool.atlas(home / "photos", **given)


@pytest.fixture(scope="module")
def run(home):
    """A run on the same images, and its atlas."""
    features_run(home / "photos", home / "run", store=home / "store", test=0.2, classifier="lda")
    return home / "run", tltool.atlas(home / "run", images=6, store=home / "store")


class TestRuns:
    def test_its_own_images_and_network(self, run, found):
        _, told = run
        own = found.layers[: len(ROWS)]  # beyond them are classes that a run has no use for
        assert [(x.tap, x.accuracy, x.invariance, x.moved) for x in told.layers] == [
            (x.tap, x.accuracy, x.invariance, x.moved) for x in own
        ]
        assert same(told, found, ROWS)

    def test_the_report_shows_it(self, run):
        folder, told = run
        assert told.page == folder / "report.html"
        kept = json.loads((folder / "atlas.json").read_text("utf-8"))
        assert kept == json.loads(json.dumps(told.as_json()))
        text = told.page.read_text("utf-8")
        assert "atlas" in Page(text).headings
        assert told.in_words[0] in text
        charts = Page(text).tags.count("svg")
        again = tltool.write_report(folder)
        assert Page(again.read_text("utf-8")).tags.count("svg") == charts >= 2 + 2 * len(CHANGES)

    def test_a_page_besides(self, run, home, tmp_path):
        folder, _ = run
        out = tmp_path / "own.html"
        told = tltool.atlas(folder, out=out, images=4, store=home / "store")
        assert told.page == out and "4 images that the probes" in out.read_text("utf-8")
        assert json.loads((folder / "atlas.json").read_text())["changed"] == 4
        assert "4 images that the probes" in (folder / "report.html").read_text("utf-8")
        with pytest.raises(TltoolError, match=r"own\.html exists"):
            tltool.atlas(folder, out=out, images=4, store=home / "store")

    @pytest.mark.parametrize(
        ("name", "value"), [("backbone", "resnet50"), ("seed", 3), ("input_size", "48")]
    )
    def test_options_of_images_are_refused(self, run, name, value):
        folder, _ = run
        done = cli("atlas", folder, f"--{name.replace('_', '-')}", value)
        assert done.exit_code == 1
        assert f"--{name.replace('_', '-')} {value} is for images" in done.output
        assert len(done.output.strip().splitlines()) == 1

    def test_an_ensemble_is_refused(self, run, tmp_path):
        folder = shutil.copytree(run[0], tmp_path / "both")
        facts = json.loads((folder / "run.json").read_text())
        facts["members"] = [{"run": "runs/one"}, {"run": "runs/two"}]
        (folder / "run.json").write_text(json.dumps(facts))
        with pytest.raises(TltoolError, match="is an ensemble .* such as runs/one"):
            tltool.atlas(folder)

    def test_features_of_a_block_stand_beside_the_block(self, home, found):
        given = {"store": home / "store", "test": 0.2, "classifier": "lda", "tap": "stage2"}
        features_run(home / "photos", home / "low", **given)
        told = tltool.atlas(home / "low", images=6, store=home / "store")
        names = [layer.tap for layer in told.layers]
        assert names == ["stem", "stage1", "stage2", "stage2_block3_out:avg"]
        assert told.layers[0].accuracy == found.layers[0].accuracy and same(told, found, names[:3])
        assert told.layers[3].accuracy == told.layers[2].accuracy
        assert told.layers[3].invariance != told.layers[2].invariance
        assert Backbone("cifar-resnet20", taps=names[3]).model.output_shape == (None, 32)

    def test_random_weights_are_those_of_the_run(self, home, looked_at):
        given = {"store": home / "store", "test": 0.2, "split_seed": 0, "engine": "keras"}
        given |= {"weights": "none", "seed": 7, "classifier": "lda"}
        features_run(home / "photos", home / "bare", **given)
        told = tltool.atlas(home / "bare", images=6, store=home / "store")
        _, examples, pixels, _ = looked_at
        shown = pixels[sample_of(examples, 6, 7)]
        network = Backbone("cifar-resnet20", "none", 7).network
        expected = distances(network, ENDS["stage2"], shown, BY_NAME["moved"])
        np.testing.assert_allclose(told.changes[0].distance["stage2"], expected, atol=1e-3)

    @pytest.mark.slow
    def test_a_network_that_was_trained_is_looked_at_as_it_is(self, home, network):
        given = {"strategy": "fine-tune", "unfreeze": "stage3", "epochs": 1, "learning_rate": 0.01}
        given |= {"train_views": "1", "train_precision": "float32", "val": 0.0}
        given |= {"engine": "keras", "store": home / "store"}
        tltool.adapt(home / "photos", out=home / "tuned", **given, **GIVEN)
        told = tltool.atlas(home / "tuned", images=6, store=home / "store")
        assert [layer.tap for layer in told.layers] == ROWS
        checked, _ = check_listing(read_listing(home / "photos"))
        dataset, _ = split_dataset(checked, seed=0, test=0.2, val=0.0)
        examples = dataset.of("train")
        sample = [examples[i].path.read_bytes() for i in sample_of(examples, 6, 0)]
        pixels = np.stack([canvas(content, (32, 32)) for content in sample])
        trained = Run(home / "tuned").model().get_layer("cifar_resnet20")
        (curve,) = (curve for curve in told.changes if curve.name == "turned")
        for tap in ("stage1", "stage2", "stage3"):
            now, before = (
                distances(one, ENDS[tap], pixels, BY_NAME["turned"]) for one in (trained, network)
            )
            np.testing.assert_allclose(curve.distance[tap], now, atol=1e-3)
            assert np.allclose(now, before, atol=1e-3) == (tap != "stage3")

    @pytest.mark.slow
    def test_a_network_from_scratch_is_not_called_random(self, home, caplog):
        given = {"strategy": "from-scratch", "epochs": 1, "val": 0.0, "store": home / "store"}
        tltool.adapt(home / "photos", out=home / "scratch", backbone="lenet5", **given)
        caplog.clear()
        told = tltool.atlas(home / "scratch", images=6, store=home / "store")
        assert told.layers
        assert "weights are random" not in caplog.text
