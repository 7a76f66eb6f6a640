"""What can be wrong with a backbone without anybody noticing: checked before a run trusts it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from tltool._keras import import_keras
from tltool.backbones import Backbone
from tltool.backbones.batch_norms import SourceStatistics, source_statistics
from tltool.data import CANVAS_VERSION, Example
from tltool.features import Engine, FeatureSource, canvas_batches, checked_bytes
from tltool.features.moments import moments_engine
from tltool.similarity import domain_distance, varies

__all__ = ["Finding", "examine", "examine_pixels", "examine_probabilities"]

# Findings of other rules are made again.
_VERSION = 1

# Images that are looked at, and how many of them on other scales: those are told by far.
_IMAGES = 128
_RESCALED = 16

# At large input sizes fewer are: so many pixels are held in memory, and go through at once.
_HELD_PIXELS = 40_000_000
_BATCH_PIXELS = 16 * 299 * 299

# Images of one flat colour reach the largest distance that matters. With MobileNet 0.25 and the
# CIFAR ResNets 20 and 56, Caltech-101, digits and noise stay below three fifths of it; pixels from
# 0 to 1 or from -1 to 1 are above 98 hundredths.
_FLAT_SHARE = 0.9

# Another scale is named where it makes the distance so many times smaller; Caltech-101, CIFAR-10,
# digits, blood cells and noise reach at most a third less on any of those below.
_BETTER_SCALE = 0.5

# Red and blue: the right order is the one that brings the images near the source (as a share of
# the distance of one flat colour; all of Caltech-101 is at 0.01 to 0.02 in the right order), much
# nearer than the other. Seas and skies alone fit better swapped, down to 0.6 times, but stay at
# 0.02 to 0.04 with MobileNet 0.25; photographs of one class are mostly at 0.02 to 0.08.
_NEAR = 0.02
_BETTER_SWAPPED = 0.8
_CLEARLY = 1.1
_RESAMPLES = 200

# Of 255, below which hardly anything is to be seen.
_NEARLY_BLACK = 32

# Levels between red and blue, on average, below which images count as grey.
_LEAST_COLOUR = 3.0


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Args:
        check: "weights", "scale", "channels", "frozen" or "probabilities".
        level: "ok", "warning", or "unknown" where it cannot be told.
        text: one sentence, with the remedy where something is wrong.
    """

    check: str
    level: str
    text: str


def examine(source: FeatureSource, examples: Sequence[Example]) -> tuple[Finding, ...]:
    """Check a backbone on some of the images that it is to be used on.

    Are the weights trained, do the pixels reach them on the scale and in the channel order that
    they were trained on, and does a training step leave frozen layers alone? Findings are stored
    by weights and images, so the next run with the same ones pays nothing.

    Args:
        source: the backbone, and the store that keeps findings.
        examples: images to look at; 128 of them, drawn by content hash, are enough.

    Returns:
        A finding for each check; none for random weights, of which nothing is expected.

    Raises:
        TltoolError: an image changed or went since it was checked.
    """
    backbone = source.backbone
    if backbone.weights.seed is not None:
        return ()
    height, width = backbone.input_size
    count = min(_IMAGES, max(_RESCALED // 2, _HELD_PIXELS // (height * width)))
    chosen = sorted({e.hash: e for e in examples}.values(), key=lambda e: e.hash)[:count]
    key = _key(backbone, chosen)
    known = source.store.finding(key)
    if known is None:
        readers = [lambda e=e: checked_bytes(e) for e in chosen]
        parts = []
        for batch in canvas_batches(readers, backbone.input_size):
            batch.refuse_unreadable(chosen)
            parts.append(batch.pixels)
        found = examine_pixels(
            backbone, np.concatenate(parts), source.engine, fall_back=source.falls_back
        )
        known = [asdict(finding) for finding in found]
        source.store.add_finding(key, known)
    return tuple(Finding(**entry) for entry in known)


def examine_pixels(
    backbone: Backbone, pixels: np.ndarray, engine: str = "openvino", *, fall_back: bool = True
) -> tuple[Finding, ...]:
    """Check a backbone on images that are in memory.

    Args:
        backbone: with weights from a file.
        pixels: `(n, height, width, 3)` at the backbone's size; 0 to 255 if all is well.
        engine: "keras" or "openvino".
        fall_back: take Keras where OpenVINO cannot run the network.

    Example:
        >>> [f.level for f in examine_pixels(backbone, pixels / 255) if f.check == "scale"]
        ['warning']
    """
    weights = _examine_weights(backbone)
    source = source_statistics(backbone)
    if varies(source).any():
        run = moments_engine(backbone, engine, fall_back=fall_back)
        scale, channels = _examine_pixels(backbone, np.asarray(pixels), source, run)
    else:
        text = "Cannot tell: the network has no batch normalisation that remembers its source."
        scale, channels = (Finding(check, "unknown", text) for check in ("scale", "channels"))
        scale = _nearly_black(np.asarray(pixels)) or scale
    return weights, scale, channels, _examine_freezing(backbone, pixels[:2])


def examine_probabilities(probabilities: np.ndarray) -> Finding:
    """Whether probabilities `(n, k)` are numbers from 0 to 1 that sum to one."""
    sums = probabilities.sum(axis=1, dtype=np.float64)
    wrong = ~(np.abs(sums - 1) < 1e-4) | ~((probabilities >= 0) & (probabilities <= 1)).all(axis=1)
    if wrong.any():
        text = (
            f"The probabilities of {int(wrong.sum())} of {len(wrong)} test images do not sum to "
            "one, so the figures cannot be trusted; fetch the weights again, or report this."
        )
        return Finding("probabilities", "warning", text)
    return Finding("probabilities", "ok", "The probabilities of every test image sum to one.")


def _key(backbone: Backbone, examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    digest.update(repr((_VERSION, CANVAS_VERSION, backbone.key)).encode())
    for example in examples:
        digest.update(example.hash)
    return digest.hexdigest()


def _examine_weights(backbone: Backbone) -> Finding:
    """Untrained weights pass every other check, and give poor features silently."""
    remedy = "name a file of trained weights with --weights, or choose another backbone"
    kinds: dict[str, list[np.ndarray]] = {}
    for variable in backbone.network.weights:
        kinds.setdefault(variable.name, []).append(np.asarray(variable))
    if all((array == 0).all() for array in kinds.get("kernel", ())):
        text = f"The weights of {backbone.preset.name} are all zero; {remedy}."
        return Finding("weights", "warning", text)
    if "moving_mean" in kinds:
        start = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}
        untrained = all((a == start[n]).all() for n in start for a in kinds.get(n, ()))
        what = "every batch normalisation is as it was before training"
    else:
        untrained = all((array == 0).all() for array in kinds.get("bias", ()))
        what = "every bias is zero, as before training"
    if untrained:
        text = f"The weights of {backbone.preset.name} look untrained: {what}; {remedy}."
        return Finding("weights", "warning", text)
    return Finding("weights", "ok", "The weights are trained ones.")


def _examine_pixels(
    backbone: Backbone, pixels: np.ndarray, source: SourceStatistics, run: Engine
) -> tuple[Finding, Finding]:
    """Whether the pixels reach the statistics that batch normalisation remembers."""
    batch = max(1, _BATCH_PIXELS // (pixels.shape[1] * pixels.shape[2]))

    def moments(changed: np.ndarray) -> np.ndarray:
        parts = np.split(changed, range(batch, len(changed), batch))
        return np.concatenate([run(part.astype(np.float32)) for part in parts])

    found = moments(pixels)
    flat = np.broadcast_to(pixels.mean(axis=(0, 1, 2)), (1, *pixels.shape[1:]))
    farthest = domain_distance(moments(flat), source)
    scale = _examine_scale(backbone, pixels, found, moments, source, farthest)
    if scale.level == "warning":
        text = "Cannot tell before the scale is right."
        return scale, Finding("channels", "unknown", text)
    colour = float(np.abs(pixels[..., 0].astype(np.float32) - pixels[..., 2]).mean())
    if backbone.preset.preprocessing.channels == "grey" or colour < _LEAST_COLOUR:
        return scale, Finding("channels", "unknown", "Cannot tell: the images are grey.")
    return scale, _examine_channels(found, moments(pixels[..., ::-1]), source, farthest)


def _nearly_black(pixels: np.ndarray) -> Finding | None:
    brightest = float(np.quantile(pixels, 0.999))
    if not 1 < brightest < _NEARLY_BLACK or pixels.min() < 0:
        return None
    text = (
        f"The images are nearly black: one pixel in a thousand is above {brightest:.0f} of "
        "255; look at one in an image viewer, and brighten them if it shows too little."
    )
    return Finding("scale", "warning", text)


def _examine_scale(
    backbone: Backbone,
    pixels: np.ndarray,
    found: np.ndarray,
    moments: Callable[[np.ndarray], np.ndarray],
    source: SourceStatistics,
    farthest: float,
) -> Finding:
    distance = domain_distance(found, source)
    others = {
        words: domain_distance(moments(np.asarray(changed, np.float32)), source)
        for words, changed in _rescaled(backbone, pixels[:_RESCALED]).items()
    }
    best = min(others, key=lambda words: others[words])
    alike = domain_distance(found[:_RESCALED], source)
    if (black := _nearly_black(pixels)) is not None:
        return black
    if others[best] < _BETTER_SCALE * alike:
        text = (
            f"The network seems to get its input on a wrong scale: {best}, its distance to what it "
            f"was trained on would be {others[best]:.3f} instead of {alike:.3f}; give it pixels "
            "from 0 to 255, and weights that were trained with the preset's preprocessing."
        )
        return Finding("scale", "warning", text)
    if distance > _FLAT_SHARE * farthest:
        text = (
            f"To the network the images are as far from what it was trained on ({distance:.3f}) "
            f"as one flat colour ({farthest:.3f}): look whether they show anything, and whether "
            "the weights were trained with the preset's preprocessing."
        )
        return Finding("scale", "warning", text)
    text = (
        f"The pixels are on the scale of the training images: distance {distance:.3f} (0 is alike, "
        f"one flat colour is {farthest:.3f} away)."
    )
    return Finding("scale", "ok", text)


def _rescaled(backbone: Backbone, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Pixels as they would have to be if a usual mistake was made, by what it is."""
    if pixels.max() <= 1:
        if pixels.min() >= 0:
            return {"the pixels run from 0 to 1; as 0 to 255": pixels * 255}
        return {"the pixels run from -1 to 1; as 0 to 255": (pixels + 1) * 127.5}
    how = backbone.preset.preprocessing
    scale, offset = np.array(how.scale), np.array(how.offset)
    if how.channels == "BGR":  # below, pixels are RGB
        scale, offset = scale[::-1], offset[::-1]
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    wanted = {
        "given values from 0 to 1": pixels / 255,
        "given values from -1 to 1": pixels / 127.5 - 1,
        "given values from 0 to 255": pixels,
        "given values less ImageNet's mean": pixels - 255 * mean,
        "given values normalised by ImageNet's mean and deviation": (
            (pixels / 255 - mean) / deviation
        ),
    }
    return {words: (values - offset) / scale for words, values in wanted.items()}


def _examine_channels(
    found: np.ndarray, swapped: np.ndarray, source: SourceStatistics, farthest: float
) -> Finding:
    distance, other = domain_distance(found, source), domain_distance(swapped, source)
    near = _NEAR * farthest
    figures = f"distance {distance:.4f} as they are, {other:.4f} with red and blue swapped"
    better = other < _BETTER_SWAPPED * distance and other < near
    if better and _mostly_closer(swapped, found, source):
        text = (
            f"Red and blue seem to be swapped ({figures}): look at a file in an image viewer; if "
            "its colours are wrong there, write the images again in RGB order, and if they are "
            "right, the weights may have been trained on BGR and need another preset."
        )
        return Finding("channels", "warning", text)
    if other > _CLEARLY * distance and distance < near:
        return Finding("channels", "ok", f"Red and blue are in their places: {figures}.")
    text = f"Cannot tell whether red and blue are swapped: {figures}."
    return Finding("channels", "unknown", text)


def _mostly_closer(closer: np.ndarray, farther: np.ndarray, source: SourceStatistics) -> bool:
    """Whether it would stay so with other images of the kind: in nine of ten resamples."""
    random = np.random.default_rng(0)
    draws = random.integers(0, len(closer), (_RESAMPLES, len(closer)))
    wins = sum(
        domain_distance(closer[rows], source) < domain_distance(farther[rows], source)
        for rows in draws
    )
    return wins >= 0.9 * _RESAMPLES


def _examine_freezing(backbone: Backbone, pixels: np.ndarray) -> Finding:
    """One training step on a head must leave weights and moving statistics as they are."""
    keras = import_keras()

    head = keras.layers.Dense(2, activation="softmax", name="predictions")
    model = keras.Model(backbone.model.input, head(backbone.model.output))
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", run_eagerly=True)
    before = backbone.network.get_weights()
    images = np.clip(pixels, 0, 255).astype(np.uint8)
    model.train_on_batch(images, np.arange(len(images)) % 2)
    if _digest(backbone.network.get_weights()) != _digest(before):
        backbone.network.set_weights(before)
        text = (
            "A training step changed frozen layers of the network, so stored features would no "
            "longer be its own; report this with the versions that tltool --version tells."
        )
        return Finding("frozen", "warning", text)
    return Finding("frozen", "ok", "A training step leaves weights and moving statistics alone.")


def _digest(arrays: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
