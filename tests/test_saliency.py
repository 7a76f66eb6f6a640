"""Maps of what an answer rests on: as slow and plain programs draw them, and put to the test."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import class_folders, features_run
from PIL import Image

import tltool
from tltool import TltoolError
from tltool._presets import views
from tltool.backbones.views import fixed_view, view_boxes, views_model
from tltool.data import canvas
from tltool.merging import on_views
from tltool.runs import Run
from tltool.saliency import (
    SplitNetwork,
    batch_of,
    class_activation_maps,
    default_patch,
    fidelity,
    grad_cam,
    kernel_layers,
    occlusion_map,
    rank_correlation,
    shares_of_score,
    shuffled,
)
from tltool.saliency.occlusion import GREY

VIEWS = ("1", "2", "10", "12")
HIDDEN = {"strategy": "frozen-head", "units": "8", "epochs": 2, "views": "1"}


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class Weighing:
    """A classifier whose score is a weighed sum of all pixels; counts what it is shown."""

    def __init__(self, height, width):
        self.weights = np.random.default_rng(1).normal(0, 0.02, (height, width))
        self.shown, self.largest = 0, 0

    def __call__(self, canvases):
        assert canvases.dtype == np.uint8
        self.shown += len(canvases)
        self.largest = max(self.largest, len(canvases))
        score = (canvases.mean(axis=-1) / 255 * self.weights).sum(axis=(1, 2))
        p = 1 / (1 + np.exp(-score))
        return np.stack([1 - p, p], axis=1)


class Looking:
    """A classifier that sees one rectangle: the probability is its share that is not covered."""

    def __init__(self, top, left, side):
        self.place = slice(top, top + side), slice(left, left + side)

    def __call__(self, canvases):
        p = (canvases[:, *self.place, 0] != GREY).mean(axis=(1, 2))
        return np.stack([1 - p, p], axis=1)


def brute_force(classifier, pixels, target, patch, stride):
    """What covering each place takes off the probability, one image after the other."""
    (whole,) = classifier(pixels[None])[:, target]
    height, width = pixels.shape[:2]
    rows, columns = int(np.ceil(height / stride)), int(np.ceil(width / stride))
    found = np.empty((rows, columns))
    for r in range(rows):
        for c in range(columns):
            covered = pixels.copy()
            for y in range(height):
                for x in range(width):
                    top = np.floor((r + 0.5) * height / rows - patch / 2 + 0.5 + 1e-6)
                    left = np.floor((c + 0.5) * width / columns - patch / 2 + 0.5 + 1e-6)
                    if top <= y < top + patch and left <= x < left + patch:
                        covered[y, x] = GREY
            found[r, c] = whole - classifier(covered[None])[0, target]
    return found


class TestOcclusion:
    @pytest.mark.parametrize(
        ("size", "patch", "stride"),
        [
            ((16, 16), 4, 1),
            ((16, 16), 8, 2),
            ((15, 22), 5, 2),
            ((14, 11), 6, 3),
            ((11, 17), 3, 4),
            ((9, 13), 1, 4),
            ((10, 10), 40, 7),
            ((7, 3), 3, 20),
        ],
    )
    def test_without_tolerance_every_place_is_asked(self, size, patch, stride):
        pixels, classifier = noise(*size), Weighing(*size)
        given = {"patch": patch, "stride": stride, "tolerance": 0}
        found = occlusion_map(classifier, pixels, 1, **given)
        shown = classifier.shown
        np.testing.assert_allclose(
            found.drop, brute_force(classifier, pixels, 1, patch, stride), atol=1e-12
        )
        assert found.asked == shown == found.covered.size + 1
        assert (found.patch, found.stride) == (patch, stride)
        assert found.probability == classifier(pixels[None])[0, 1]

    def test_every_square_covers_something(self):
        """Of the last row and column, too, where places do not divide the image."""
        seen = []

        def classifier(canvases):
            seen.extend(canvases.copy())
            return np.ones((len(canvases), 1))

        pixels = np.full((10, 23, 3), 255, np.uint8)
        occlusion_map(classifier, pixels, 0, patch=2, stride=8, tolerance=0)
        covered = [(one == GREY).any() for one in seen]
        assert covered == [False] + [True] * 6

    def test_the_canvas_and_the_batch_are_as_before(self):
        pixels, classifier = noise(12, 18), Weighing(12, 18)
        before = pixels.copy()
        pixels.flags.writeable = False
        maps = [
            occlusion_map(classifier, pixels, 1, patch=5, stride=2, batch=batch, tolerance=0).drop
            for batch in (1, 7, 1000)
        ]
        np.testing.assert_array_equal(pixels, before)
        for one in maps[1:]:
            np.testing.assert_allclose(one, maps[0], atol=1e-12)

    def test_as_many_at_a_time_as_were_allowed(self):
        classifier = Weighing(12, 18)
        occlusion_map(classifier, noise(12, 18), 1, patch=4, stride=1, batch=7, tolerance=0)
        assert classifier.largest == 7
        assert batch_of((299, 299)) == 32 and batch_of((299, 299), 12) == 2
        assert batch_of((2000, 2000)) == batch_of((2000, 2000), 12) == 1

    @pytest.mark.parametrize("side", [8, 5])
    def test_a_spot_is_found_wherever_it_lies(self, side):
        """Asking about a part of the places says nearly the same as asking about all."""
        pixels = np.full((40, 56, 3), 250, np.uint8)
        given = {"patch": 8, "stride": 1}
        places = [
            *((top, left) for top in range(0, 33, 7) for left in range(0, 49, 9)),
            (40 - side, 56 - side),
        ]
        for top, left in places:
            classifier = Looking(top, left, side)
            found = occlusion_map(classifier, pixels, 1, **given)
            whole = occlusion_map(classifier, pixels, 1, **given, tolerance=0)
            assert whole.asked == 40 * 56 + 1 and found.asked < whole.asked / 3
            assert np.abs(found.drop - whole.drop).max() < 0.02
            assert found.drop.max() > 0.98
            row, column = np.unravel_index(found.drop.argmax(), found.drop.shape)
            assert abs(row + 0.5 - (top + side / 2)) <= 4
            assert abs(column + 0.5 - (left + side / 2)) <= 4

    def test_coarse_alone_asks_least(self):
        pixels, classifier = np.full((28, 28, 3), 250, np.uint8), Looking(10, 10, 4)
        given = {"patch": 4, "stride": 1}
        coarse = occlusion_map(classifier, pixels, 1, **given, refine=False)
        fine = occlusion_map(classifier, pixels, 1, **given)
        assert coarse.asked == 8 * 8 + 1 < fine.asked
        assert coarse.covered.shape == fine.covered.shape == (28, 28)

    def test_what_is_usual(self):
        assert default_patch((224, 224)) == (32, 8)
        assert default_patch((32, 48)) == (5, 1)
        assert default_patch((8, 8)) == (3, 1)
        found = occlusion_map(Looking(0, 0, 4), noise(32, 48), 0)
        assert (found.patch, found.stride) == (5, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Makes runs on the same few images, each once: a run, its model and that in two parts."""
    root = tmp_path_factory.mktemp("saliency")
    data = class_folders(root / "photos", n=8, size=(32, 32))
    known = {}

    def make(**given):
        name = repr(given)
        if name not in known:
            folder = root / f"run{len(known)}"
            usual = {} if "strategy" in given else {"classifier": "ridge", "transforms": "none"}
            features_run(data, folder, store=root / "store", **(usual | given))
            run = Run(folder)
            model = run.model()
            known[name] = run, model, SplitNetwork(model)
        return known[name]

    make.data, make.root = data, root
    return make


@pytest.fixture(scope="module")
def shown(made):
    """Canvases of a few images for a run, and the class to explain of each."""

    def some(run, n=3):
        files = [made.data / label / "1.png" for label in ("red", "green", "blue")][:n]
        return np.stack([canvas(f.read_bytes(), run.canvas_size) for f in files]), [2, 0, 1][:n]

    return some


def centred_scores(model, canvases, targets):
    """Of each image's class, the score less the mean of all classes'."""
    scores = np.log(np.asarray(model(canvases), np.float64))
    return (scores - scores.mean(axis=1, keepdims=True))[np.arange(len(targets)), targets]


def spread(one, size):
    """A map at another size, its sum kept."""
    drawn = Image.fromarray(one.astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR)
    drawn = np.asarray(drawn)
    return drawn * (one.sum() / drawn.sum() if one.any() else 0)


def plain_grad_cam(model, pixels, target):
    """As its paper says, of some pictures, by Keras alone; `(n, rows, columns)`."""
    scores = model.get_layer("predictions")
    layer = model.get_layer("stage3_block3_out")
    both = keras.Model(model.input, [layer.output, scores.input])
    kernel, bias = scores.get_weights()
    with tf.GradientTape() as tape:
        activations, features = both(pixels, training=False)
        all_scores = features @ kernel + bias
        score = tf.reduce_sum(all_scores[:, target] - tf.reduce_mean(all_scores, axis=1))
    gradient = tape.gradient(score, activations).numpy()
    weights = gradient.mean(axis=(1, 2), keepdims=True)
    return np.maximum((activations.numpy() * weights).sum(axis=-1), 0)


def assert_alike(found, expected):
    scale = expected.max()
    assert scale > 0
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-3)


class TestViewBoxes:
    @pytest.mark.parametrize("size", [(32, 32), (28, 42)])
    @pytest.mark.parametrize("name", VIEWS)
    def test_are_where_views_are_cut(self, name, size):
        """A canvas whose pixels tell where they lie, seen through `fixed_view`."""
        recipe = views(name)
        height, width = recipe.canvas_size(size)
        rows, columns = np.indices((height, width), dtype=np.uint8)
        telling = np.stack([rows, columns, rows * 0], axis=-1)
        boxes = view_boxes(recipe, size)
        assert len(boxes) == recipe.count
        for number, (top, left, bottom, right, mirrored) in enumerate(boxes):
            turned = telling[:, ::-1] if mirrored else telling
            if recipe.whole and number % (recipe.count // (1 + recipe.mirrored)) == 0:
                assert (top, left, bottom, right) == (0, 0, height, width)
                assert mirrored == (number > 0)
                continue
            cut = fixed_view(telling, telling, recipe, size, number)
            assert (bottom - top, right - left) == size
            np.testing.assert_array_equal(turned[top:bottom, left:right], cut)

    @pytest.mark.parametrize("name", VIEWS)
    def test_are_where_the_graph_cuts(self, name):
        recipe = views(name)
        height, width = recipe.canvas_size((8, 12))
        pixels = keras.Input((8, 12, 3), dtype="uint8")
        flat = keras.layers.Flatten()(keras.ops.cast(pixels, "float32"))
        model = views_model(keras.Model(pixels, flat), recipe, (height, width))
        telling = np.full((1, height, width, 3), 100, np.uint8)
        telling[0, ..., 0], telling[0, ..., 1] = np.indices((height, width))
        cut = np.asarray(model(telling))[0].reshape(-1, 8, 12, 3)
        boxes = view_boxes(recipe, (8, 12))
        assert len(cut) == len(boxes)
        for view, (top, left, bottom, right, mirrored) in zip(cut, boxes, strict=True):
            turned = telling[0][:, ::-1] if mirrored else telling[0]
            if (bottom - top, right - left) == (8, 12):
                np.testing.assert_array_equal(turned[top:bottom, left:right], view)
            else:
                across = view[0, :, 1]
                assert (across[0] > across[-1]) == mirrored


class TestGradCam:
    @pytest.mark.parametrize(
        "given", [{}, {"tap": "stage3:max"}, {"transforms": "sqrt,l2"}, HIDDEN], ids=str
    )
    def test_is_what_plain_keras_gives(self, made, shown, given):
        run, model, network = made(**given)
        canvases, targets = shown(run)
        found = grad_cam(network, canvases, targets, run.input_size)
        assert found.shape == (3, 32, 32) and found.dtype == np.float32
        for one, pixels, target in zip(found, canvases, targets, strict=True):
            (expected,) = plain_grad_cam(model, pixels[None], target)
            assert_alike(one, spread(expected, (32, 32)))

    def test_adds_up_layers(self, made, shown):
        """A linear head's gradient of an average is its weight, of the very layer it is from."""
        run, model, network = made(tap="stage2,stage3")
        canvases, targets = shown(run)
        found = grad_cam(network, canvases, targets, run.input_size)
        kernel, _ = model.get_layer("predictions").get_weights()
        kernel = kernel - kernel.mean(axis=1, keepdims=True)
        layers = [model.get_layer(f"stage{n}_block3_out").output for n in (2, 3)]
        both = keras.Model(model.input, layers)(canvases)
        for i, target in enumerate(targets):
            expected = np.zeros((32, 32))
            for values, weights in zip(both, np.split(kernel[:, target], [32]), strict=True):
                one = np.maximum(np.asarray(values[i]) @ weights, 0)
                expected += spread(one / one.size, (32, 32))
            assert_alike(found[i], expected)

    @pytest.mark.parametrize("name", ["2", "10"])
    def test_is_the_mean_over_views(self, made, shown, name):
        """Each view by hand, laid where `view_boxes` says."""
        run, model, network = made(views=name)
        canvases, targets = shown(run, 2)
        found = grad_cam(network, canvases, targets, run.input_size)
        assert found.shape[1:] == run.canvas_size
        one_view = with_head(model.get_layer("cifar_resnet20"), model.get_layer("predictions"))
        recipe = views(name)
        height, width = run.canvas_size
        for one, pixels, target in zip(found, canvases, targets, strict=True):
            total, seen = np.zeros((height, width)), np.zeros((height, width))
            boxes = view_boxes(recipe, run.input_size)
            cut = [
                (pixels[:, ::-1] if mirrored else pixels)[top:bottom, left:right]
                for top, left, bottom, right, mirrored in boxes
            ]
            maps = plain_grad_cam(one_view, np.stack(cut), target)
            for drawn, (top, left, bottom, right, mirrored) in zip(maps, boxes, strict=True):
                laid, there = np.zeros((height, width)), np.zeros((height, width))
                laid[top:bottom, left:right] = spread(drawn, (bottom - top, right - left))
                there[top:bottom, left:right] = 1
                total += laid[:, ::-1] if mirrored else laid
                seen += there[:, ::-1] if mirrored else there
            assert seen.min() > 0
            assert_alike(one, total / seen)

    def test_of_an_ensemble(self, made, shown):
        members = [made()[0].folder, made(tap="stage2,stage3")[0].folder]
        out = made.root / "ensemble"
        tltool.ensemble(members, out=out, combine="mean", store=made.root / "store")
        run = Run(out)
        network = SplitNetwork(run.model())
        assert not network.linear
        canvases, targets = shown(run)
        found = grad_cam(network, canvases, targets, run.input_size)
        assert found.shape == (3, 32, 32)
        assert found.min() >= 0 and (found.max(axis=(1, 2)) > 0).all()
        other = grad_cam(network, canvases, [(t + 1) % 3 for t in targets], run.input_size)
        assert all(rank_correlation(a, b) < 0.9 for a, b in zip(found, other, strict=True))
        with pytest.raises(TltoolError, match="take --maps grad-cam,occlusion"):
            class_activation_maps(network, canvases, targets, run.input_size)

    def test_of_views_of_views(self, made, shown):
        """An ensemble of ensembles may show a network mirror images of mirror images."""
        run, model, _ = made(views="2")
        once = SplitNetwork(model)
        assert once.views == [(2,)]
        head = model.get_layer("predictions")
        outer = on_views(keras.Model(model.input, head.input), views("2"), (32, 32))
        twice = SplitNetwork(with_head(outer, head))
        assert twice.views == [(2, 2)]
        canvases, targets = shown(run)
        expected = grad_cam(once, canvases, targets, run.input_size)
        assert_alike(grad_cam(twice, canvases, targets, run.input_size), expected)


def with_head(model, head):
    """A model of features with a copy of a last layer."""
    copy = keras.layers.Dense(head.units, activation="softmax", name="predictions")
    whole = keras.Model(model.input, copy(model.output))
    copy.set_weights(head.get_weights())
    return whole


class TestClassActivationMaps:
    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"transforms": "sqrt,l2"},
            {"tap": "stage3:max"},
            {"tap": "stage2,stage3"},
            {"tap": "stage1:grid3,stage2:avg+max,stage3:flatten", "transforms": "sqrt,l2"},
            {"views": "2", "tap": "stage2:grid2,stage3", "transforms": "l2"},
            {"views": "10"},
            {"views": "10", "tap": "stage3:max", "transforms": "sqrt,l2"},
        ],
        ids=str,
    )
    def test_add_up_to_the_score(self, made, shown, given):
        run, model, network = made(**given)
        assert network.linear
        canvases, targets = shown(run, 2)
        maps, constants = class_activation_maps(network, canvases, targets, run.input_size)
        assert maps.shape == (2, *run.canvas_size) and maps.dtype == np.float32
        scores = centred_scores(model, canvases, targets)
        sums = maps.sum(axis=(1, 2), dtype=np.float64)
        np.testing.assert_allclose(sums + constants, scores, atol=1e-4 * np.abs(scores).max())
        np.testing.assert_allclose(
            shares_of_score(network, canvases, targets, run.input_size).sum(axis=(1, 2)),
            scores,
            atol=1e-4 * np.abs(scores).max(),
        )

    def test_are_weights_times_activations(self, made, shown):
        run, model, network = made()
        canvases, targets = shown(run)
        found, constants = class_activation_maps(network, canvases, targets)
        layer = model.get_layer("stage3_block3_out")
        activations = np.asarray(keras.Model(model.input, layer.output)(canvases))
        kernel, bias = model.get_layer("predictions").get_weights()
        for i, target in enumerate(targets):
            weights = kernel[:, target] - kernel.mean(axis=1)
            expected = activations[i] @ weights / 64
            image = Image.fromarray(expected).resize((32, 32), Image.Resampling.BILINEAR)
            np.testing.assert_allclose(
                found[i] - found[i].mean(),
                np.asarray(image) / 16 - np.asarray(image).mean() / 16,
                atol=1e-5 * np.abs(expected).max(),
            )
            assert found[i].sum() == pytest.approx(expected.sum(), rel=1e-4)
            assert constants[i] == pytest.approx(bias[target] - bias.mean(), rel=1e-5)

    def test_a_map_lies_where_the_largest_value_was(self, made, shown):
        """Of a feature that is the largest value, nothing falls on other places."""
        run, model, network = made(tap="stage3:max")
        canvases, targets = shown(run, 1)
        found, _ = class_activation_maps(network, canvases, targets)
        layer = model.get_layer("stage3_block3_out")
        activations = np.asarray(keras.Model(model.input, layer.output)(canvases))[0]
        kernel, _ = model.get_layer("predictions").get_weights()
        weights = kernel[:, targets[0]] - kernel.mean(axis=1)
        largest = activations == activations.max(axis=(0, 1))
        expected = (activations * largest / largest.sum(axis=(0, 1)) * weights).sum(axis=-1)
        image = Image.fromarray(expected).resize((32, 32), Image.Resampling.BILINEAR)
        assert rank_correlation(found[0], np.asarray(image)) > 0.999

    def test_hidden_layers_have_none(self, made, shown):
        run, _, network = made(**HIDDEN)
        assert not network.linear
        canvases, targets = shown(run)
        with pytest.raises(TltoolError, match="take --maps grad-cam,occlusion"):
            class_activation_maps(network, canvases, targets, run.input_size)


def test_a_model_without_places_is_refused():
    pixels = keras.Input((8, 8, 3), dtype="uint8")
    flat = keras.layers.Flatten()(pixels)
    model = keras.Model(pixels, keras.layers.Dense(2, "softmax", name="predictions")(flat))
    with pytest.raises(TltoolError, match="an occlusion map can be had of any"):
        SplitNetwork(model)
    assert [layer.name for layer in kernel_layers(model)] == ["predictions"]


class TestFidelity:
    def at(self, row, column, cells=14):
        marked = np.zeros((cells, cells))
        marked[row, column] = 1.0
        return marked

    def test_a_map_of_the_cell_that_matters_beats_random(self):
        pixels = np.full((56, 56, 3), 250, np.uint8)
        pixels[::2, ::2] = 0  # blurred, it is neither
        place = slice(20, 24), slice(36, 40)

        def classifier(canvases):
            p = (canvases[:, *place] == pixels[place]).all(axis=(1, 2, 3)).astype(float)
            return np.stack([1 - p, p], axis=1)

        right = self.at(5, 9)
        maps = {"right": right, "wrong": -right, "elsewhere": self.at(0, 0)}
        found = fidelity(classifier, pixels, maps, 1)
        assert list(found) == [*maps, "random"]
        areas = {name: (f.deletion_area, f.insertion_area) for name, f in found.items()}
        assert areas["right"][0] < 0.03 and areas["right"][1] > 0.97
        assert areas["wrong"][0] > 0.97 and areas["wrong"][1] < 0.03
        assert areas["right"][0] < areas["random"][0] < areas["wrong"][0]
        assert areas["right"][1] > areas["random"][1] > areas["wrong"][1]
        assert areas["elsewhere"][0] > areas["right"][0]
        again = fidelity(classifier, pixels, {}, 1, seed=1)
        assert again["random"].deletion_area != areas["random"][0]

    def test_random_orders_are_as_smooth_as_maps(self):
        """Half of the cells covered: of neighbours few are told apart, of scattered ones half."""
        seen = []

        def watched(canvases):
            seen.extend((canvases == GREY).all(axis=3))
            return np.ones((len(canvases), 2)) / 2

        fidelity(watched, np.full((14, 14, 3), 200, np.uint8), {}, 1)
        halves = [one for one in seen if 0.4 < one.mean() < 0.6]
        assert len(halves) >= 4
        for one in halves:
            apart = [(one[1:] != one[:-1]).mean(), (one[:, 1:] != one[:, :-1]).mean()]
            assert 0 < np.mean(apart) < 0.3

    def test_curves_begin_and_end_with_whole_images(self):
        pixels, classifier = noise(30, 45), Weighing(30, 45)
        seen = []

        def watched(canvases):
            seen.extend(canvases.copy())
            return classifier(canvases)

        found = fidelity(watched, pixels, {"map": noise(5, 9)[..., 0]}, 1, batch=5)
        whole = classifier(pixels[None])[0, 1]
        grey = classifier(np.full_like(pixels, GREY)[None])[0, 1]
        for one in found.values():
            assert one.deletion[0] == pytest.approx(whole, abs=1e-12)
            assert one.deletion[-1] == pytest.approx(grey, abs=1e-12)
            assert one.insertion[-1] == pytest.approx(whole, abs=1e-12)
            assert len(one.deletion) == len(one.insertion) == 21
        blurred = seen[21]
        assert found["map"].insertion[0] == classifier(blurred[None])[0, 1]
        assert not (blurred == pixels).all()
        assert blurred.std() < pixels.std() / 2
        for place, one in enumerate(seen[:21]):
            share = (one == GREY).all(axis=-1).mean()
            assert share == pytest.approx(place / 20, abs=0.03)

    @pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
    def test_areas_of_a_classifier_that_does_not_look(self, value):
        found = fidelity(
            lambda canvases: np.full((len(canvases), 2), value), noise(20, 16), {"m": np.eye(4)}, 0
        )
        for one in found.values():
            assert one.deletion_area == one.insertion_area == pytest.approx(value)

    def test_an_image_of_a_few_pixels(self):
        found = fidelity(Weighing(3, 5), noise(3, 5), {"m": np.eye(3)}, 1)
        assert len(found["m"].deletion) == 10


@pytest.fixture
def stack():
    """A few layers with known weights and a map of what they make of an image."""
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(3, 3, name="low"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Conv2D(4, 3, name="high"),
            keras.layers.Flatten(),
            keras.layers.Dense(9, name="predictions"),
        ]
    )
    given = np.random.default_rng(0).normal(size=(1, 6, 6, 2))
    for layer in model.layers:
        random = np.random.default_rng(1)
        layer.set_weights([w + random.normal(0, 0.1, w.shape) ** 2 for w in layer.get_weights()])
    return model, lambda: np.asarray(model(given)).reshape(3, 3)


class TestShuffled:
    def test_weights_are_put_back(self, stack):
        model, draw = stack
        before, first = [w.copy() for w in model.get_weights()], draw()
        found = shuffled(kernel_layers(model), draw)
        assert [name for name, _ in found] == ["predictions", "high", "low"]
        assert all(-1 <= value < 0.99 for _, value in found)
        for now, then in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(now, then)
        np.testing.assert_array_equal(draw(), first)

    def test_also_when_drawing_fails(self, stack):
        model, draw = stack
        before, drawn = [w.copy() for w in model.get_weights()], []

        def failing():
            drawn.append(1)
            if len(drawn) == 3:
                raise MemoryError
            return draw()

        with pytest.raises(MemoryError):
            shuffled(kernel_layers(model), failing)
        for now, then in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(now, then)

    def test_layers_stay_shuffled_and_biases_as_they_are(self, stack):
        model, draw = stack
        first = {layer.name: layer.get_weights() for layer in model.layers}
        seen = []

        def watching():
            seen.append({layer.name: layer.get_weights() for layer in model.layers})
            return draw()

        shuffled(kernel_layers(model), watching)
        changed = [
            {name for name, w in now.items() if w and (w[0] != first[name][0]).any()}
            for now in seen
        ]
        top_down = ["predictions", "high", "low"]
        assert changed == [set(top_down[:n]) for n in range(4)]
        for name in top_down:
            kernel, bias = seen[-1][name]
            np.testing.assert_array_equal(np.sort(kernel, None), np.sort(first[name][0], None))
            np.testing.assert_array_equal(bias, first[name][1])

    def test_a_map_that_says_nothing_of_the_network(self, stack):
        model, _ = stack
        layers = kernel_layers(model)
        same = np.arange(12.0).reshape(3, 4)
        assert [v for _, v in shuffled(layers, lambda: same)] == pytest.approx([1, 1, 1])
        blank = shuffled(layers, lambda: np.ones((3, 4)))
        assert len(blank) == 3 and all(np.isnan(v) for _, v in blank)

    def test_drawn_no_more_often_than_asked(self, stack):
        model, draw = stack
        drawn = []

        def counted():
            drawn.append(1)
            return draw()

        found = shuffled(kernel_layers(model) * 5, counted, stages=4)
        assert len(found) == 4 and len(drawn) == 5
        assert (found[0][0], found[-1][0]) == ("predictions", "low")

    def test_maps_of_a_run_follow_its_weights(self, made, shown):
        run, model, network = made(transforms="sqrt,l2")
        canvases, targets = shown(run, 1)
        before = [w.copy() for w in model.get_weights()]
        for draw in (grad_cam, shares_of_score):
            found = shuffled(
                kernel_layers(model), lambda draw=draw: draw(network, canvases, targets)[0]
            )
            assert found[0][0] == "predictions" and len(found) == 8
            assert all(value < 0.95 for _, value in found)
        for now, then in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(now, then)

    def test_layers_go_from_the_top_down(self, made):
        names = [layer.name for layer in kernel_layers(made(views="10")[1])]
        assert names[:2] == ["predictions", "stage3_block3_conv2"] and names[-1] == "conv1"
        assert len(set(names)) == len(names) == 20


@pytest.mark.parametrize(
    ("one", "other", "value"),
    [
        ([[1, 2], [3, 4]], [[10, 20], [30, 400]], 1.0),
        ([[1, 2], [3, 4]], [[4, 3], [2, 1]], -1.0),
        ([[1, 2], [3, 4]], [[2, 2], [2, 2]], np.nan),
        ([[1, 1], [2, 2]], [[1, 2], [1, 2]], 0.0),
    ],
)
def test_rank_correlation(one, other, value):
    found = rank_correlation(np.array(one), np.array(other))
    assert found == pytest.approx(value, nan_ok=True)
