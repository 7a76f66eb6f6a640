"""Epochs, validation, early stopping, and going on after an interruption."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from tltool._progress import progress
from tltool.linear.calibration import calibrated_log_loss
from tltool.training.batches import Batches, Pictures, ahead
from tltool.training.checkpoints import Checkpoints
from tltool.training.plan import TrainingPlan
from tltool.training.record import Told
from tltool.training.trainer import NotFiniteError, Trainer, repeatable

__all__ = ["Epoch", "History", "Validation", "train"]

_log = logging.getLogger(__name__)

# Names of arrays in a checkpoint that are not the trainer's begin so: weights of the best epoch,
# and what a teacher said.
_BEST = "best/"
_ANSWERS = "answers/"


@dataclass(frozen=True)
class Validation:
    """Images that tell when to stop.

    Args:
        pictures: all views of which are shown; their scores are averaged.
        targets: `(m,)`, class numbers.
        batch_size: views that are judged at a time.
    """

    pictures: Pictures
    targets: np.ndarray
    batch_size: int = 256

    def inputs(self) -> Iterator[np.ndarray]:
        """What the network is shown, in batches: all views of an image, then those of the next."""
        count = self.pictures.n_views
        shown = np.arange(len(self.targets) * count)
        parts = np.split(shown, range(self.batch_size, len(shown), self.batch_size))
        made = (self.pictures.take(part // count, part % count) for part in parts)
        return made if self.pictures.at_hand else ahead(made, 1)

    def scores(self, trainer: Trainer) -> np.ndarray:
        """Scores `(m, k)` before the softmax, of a linear head those of the mean features."""
        found = trainer.scores(self.inputs())
        return np.asarray(found.reshape(len(self.targets), self.pictures.n_views, -1).mean(axis=1))


@dataclass(frozen=True)
class Epoch:
    """What came of an epoch.

    Args:
        epoch: its number, from 1; 0 for how it was before the first.
        learning_rate: at its last step.
        loss: mean over its batches, smoothing and mixing included; None before the first.
        accuracy: of its batches as they were seen.
        val_loss: log loss of the validation images at the temperature that suits them best, so
            that growing confidence alone neither helps nor harms; None without such images.
        val_accuracy: theirs.
        seconds: that it took.
    """

    epoch: int
    learning_rate: float
    loss: float | None
    accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class History:
    """A training, epoch by epoch.

    Args:
        epochs: in order.
        best: number of the epoch whose weights were kept; 0 where none could be finished.
        stopped: why it ended before the last epoch, in words; empty if it did not.
        early: whether that is because nothing was to be gained any more.
    """

    epochs: tuple[Epoch, ...]
    best: int
    stopped: str
    early: bool

    @property
    def trained(self) -> int:
        """How many epochs there were."""
        return self.epochs[-1].epoch if self.epochs else 0


def train(
    trainer: Trainer,
    batches: Batches,
    validation: Validation | None,
    plan: TrainingPlan,
    *,
    judge_start: bool = False,
    checkpoints: Checkpoints | None = None,
    told: Told | None = None,
    budget: float | None = None,
    before: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
) -> History:
    """Train a network, and leave it with the weights of the best epoch.

    The best is the one with the lowest validation loss; without validation images the last one.

    Args:
        trainer: with the network.
        batches: what it learns from.
        validation: what tells when to stop.
        plan: how.
        judge_start: whether the weights that it begins with are good for something: the history
            begins with them, then, and they stay where no epoch can be finished.
        checkpoints: where each finished epoch is kept; it goes on from there.
        told: is given all epochs so far once one is finished, and where it goes on.
        budget: seconds after which it ends, over all its parts, judging an epoch that was broken
            off included; None for no limit.
        before: seconds of them that were spent on what it begins with.
        clock: tells the time in seconds.

    Raises:
        NotFiniteError: the loss was not finite before any epoch was finished.
    """
    found: list[Epoch] = []
    best, best_weights, spent = 0, trainer.weights(), 0.0
    if checkpoints and (kept := checkpoints.last()):
        arrays, facts = kept
        found = [Epoch(**epoch) for epoch in facts["epochs"]]
        best, spent = facts["best"], facts["spent"]
        best_weights = _under(_BEST, arrays)
        batches.answers.update({int(n): said for n, said in _under(_ANSWERS, arrays).items()})
        trainer.restore({n: v for n, v in arrays.items() if not n.startswith((_BEST, _ANSWERS))})
        _log.info("goes on after epoch %d", len(found))
        _tell(told, found)
    began = clock() - spent - before
    judging = 0.0
    steps = batches.steps * plan.epochs
    with repeatable(), progress("training", steps, talks=True) as advance:
        if not found and judge_start and validation is not None:
            found.append(Epoch(0, 0.0, None, None, *_judge(trainer, validation), clock() - began))
        stopped = _reason_to_stop(found, best, plan)
        done = found[-1].epoch if found else 0
        advance(batches.steps * done)
        while done < plan.epochs and not stopped:
            started = clock()
            losses: list[float] = []
            hits: list[float] = []
            sizes: list[int] = []
            rate = 0.0
            try:
                for step, batch in enumerate(batches.epoch(done), batches.steps * done):
                    late = budget is not None and clock() - began + judging > budget
                    if late and (losses or found):
                        stopped = f"the {budget:g} seconds of --budget were spent"
                        break
                    rate = plan.learning_rate_at(step, steps)
                    loss, right = trainer.step(batch, rate)
                    losses.append(loss)
                    hits.append(right)
                    sizes.append(len(batch[0]))
                    advance(1)
            except NotFiniteError as error:
                if not found:
                    raise
                stopped = str(error)
            if stopped and found:
                break
            try:
                shown = clock()
                judged = _judge(trainer, validation)  # of a part, where not even one was finished
                judging = clock() - shown
            except NotFiniteError as error:
                if not found:
                    raise
                stopped = str(error)
                break
            done += 1
            found.append(
                Epoch(
                    done,
                    rate,
                    float(np.average(losses, weights=sizes)),
                    float(np.average(hits, weights=sizes)),
                    *judged,
                    clock() - started,
                )
            )
            if _score(found[-1]) <= min(_score(epoch) for epoch in found if epoch.epoch):
                best, best_weights = done, trainer.weights()
            advance(0, _in_words(found[-1]))
            stopped = stopped or _reason_to_stop(found, best, plan)
            _tell(told, found)
            if checkpoints:
                checkpoints.keep(
                    trainer.state()
                    | {f"{_BEST}{name}": value for name, value in best_weights.items()}
                    | {f"{_ANSWERS}{number}": said for number, said in batches.answers.items()},
                    {
                        "epochs": [asdict(epoch) for epoch in found],
                        "best": best,
                        "spent": clock() - began,
                    },
                )
    trainer.restore(best_weights)
    return History(tuple(found), best, stopped, bool(_reason_to_stop(found, best, plan)))


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those whose names begin so, by the rest of their names."""
    return {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}


def _tell(told: Told | None, found: list[Epoch]) -> None:
    if told is not None:
        told([asdict(epoch) for epoch in found])


def _in_words(epoch: Epoch) -> str:
    """What the progress bar says of an epoch."""
    said = f"loss {epoch.loss:.3f} acc {epoch.accuracy:.2f}"
    return said if epoch.val_accuracy is None else f"{said} val {epoch.val_accuracy:.2f}"


def _score(epoch: Epoch) -> float:
    """What the best epoch has the least of."""
    return -epoch.epoch if epoch.val_loss is None else epoch.val_loss


def _judge(trainer: Trainer, validation: Validation | None) -> tuple[float | None, float | None]:
    if validation is None:
        return None, None
    scores = validation.scores(trainer)
    if not np.isfinite(scores).all():
        raise NotFiniteError(
            "The scores of the validation images are no longer finite numbers; lower "
            "--learning-rate to a tenth of what it is."
        )
    loss, _ = calibrated_log_loss(scores, validation.targets)
    return loss, float((scores.argmax(axis=1) == validation.targets).mean())


def _reason_to_stop(found: list[Epoch], best: int, plan: TrainingPlan) -> str:
    if not found or found[-1].val_loss is None or not plan.patience:
        return ""
    if found[-1].epoch - best < plan.patience or found[-1].epoch >= plan.epochs:
        return ""
    return f"the validation images gained nothing for {plan.patience} epochs"
