"""What is done to the pictures of a batch before a network learns from them."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tltool._keras import RANDOM_STATE, import_keras
from tltool._presets import Augmentation, augmentation
from tltool._validation import TltoolError

__all__ = ["BatchAugmentation", "check_augmentations"]


def check_augmentations(wanted: str | Sequence[str]) -> tuple[str, ...]:
    """Names of augmentations, in their order, each with its own arguments.

    Args:
        wanted: "mixup,erasing", or one by one; "mixup:alpha=0.4" to set an argument of the layer.

    Raises:
        TltoolError: there is no such augmentation or argument.
    """
    texts = wanted.split(",") if isinstance(wanted, str) else list(wanted)
    texts = [text.strip() for text in texts if text.strip() not in ("", "none")]
    for text in texts:
        _parsed(text)
    return tuple(texts)


class BatchAugmentation:
    """Keras's preprocessing layers, one after the other; see `tltool.training.batches.Augment`.

    They are no part of the network: in a saved model they would go on changing pictures.

    Args:
        names: as `check_augmentations` gives them.
        of_pixels: whether what comes is pixels; of anything else images can only be mixed.

    Raises:
        TltoolError: one that changes pixels, where there are none; a package that is missing.
    """

    def __init__(self, names: Sequence[str], *, of_pixels: bool = True) -> None:
        cards = [_parsed(name) for name in names]
        for name, (card, _) in zip(names, cards, strict=True):
            if not (of_pixels or card.mixes):
                raise TltoolError(
                    f"--augment {name} changes pixels, but this training sees stored features or "
                    "activations; leave it out, or train with --strategy fine-tune --cache off."
                )
        self._layers = [_layer(name, *found) for name, found in zip(names, cards, strict=True)]
        self._foreign = any(card.package != "keras" for card, _ in cards)

    def __call__(
        self, inputs: np.ndarray, targets: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Inputs `(m, ...)`, float32, and targets `(m, k)`, changed."""
        shape = inputs.shape
        images = inputs.astype(np.float32).reshape(
            shape if inputs.ndim == 4 else (len(inputs), 1, 1, -1)
        )
        batch: dict[str, Any] = {"images": images, "labels": targets}
        if self._foreign:  # they draw from TensorFlow's own generators
            _seed_tensorflow(int(random.integers(0, 2**31)))
        for layer in self._layers:
            if not getattr(layer, "built", True):
                layer.build(images.shape)
            for variable in layer.variables:
                if variable.name == RANDOM_STATE:
                    variable.assign(random.integers(0, 2**31, 2).astype(np.uint32))
            batch = layer(batch, training=True)
        return np.asarray(batch["images"]).reshape(shape), np.asarray(batch["labels"])


def _seed_tensorflow(seed: int) -> None:
    import tensorflow as tf

    tf.random.set_seed(seed)
    tf.random.get_global_generator().reset_from_seed(seed)


def _parsed(text: str) -> tuple[Augmentation, dict[str, Any]]:
    """An augmentation and the arguments of its layer."""
    name, *settings = text.split(":")
    card = augmentation(name)
    given: dict[str, Any] = dict(card.arguments)
    for setting in settings:
        key, equals, value = setting.partition("=")
        try:
            given[key.strip()] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            equals = ""
        if not equals:
            raise TltoolError(
                f"--augment {text}: expected a name and arguments with numbers, such as "
                f"mixup:alpha=0.4, got {setting!r}."
            )
    return card, given


def _layer(name: str, card: Augmentation, arguments: dict[str, Any]) -> Any:
    if card.package == "keras":
        layers = import_keras().layers
    else:
        import_keras()
        try:
            layers = importlib.import_module(card.package).layers
        except ImportError as error:
            raise TltoolError(
                f"--augment {name} needs the package {card.package}: pip install 'tltool[cv]'."
            ) from error
    kind = getattr(layers, card.layer)
    if card.layer == "RandAugment" and card.package == "keras":
        kind = _quick(kind)
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TltoolError(
            f"--augment {name}: keras.layers.{card.layer} does not take this ({reason})."
        ) from error


def _quick(kind: Any) -> Any:
    """Keras's RandAugment, which computes all of its changes for each one that it takes.

    It draws the changes of a whole batch at once; outside a graph the others need not be computed.
    """

    class QuickRandAugment(kind):
        """The same with the changes alone that were drawn."""

        def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
            """See Keras."""
            images = self.backend.cast(images, self.compute_dtype)
            changes = transformation["transforms"] if training else {}
            for number in np.asarray(transformation["layer_idxes"]) if training else ():
                name = list(changes)[int(number)]
                images = getattr(self, name).transform_images(images, changes[name])
            return self.backend.cast(images, self.compute_dtype)

    return QuickRandAugment
