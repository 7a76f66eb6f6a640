"""Training by gradients: the plan, the step, the epochs, and what is kept of them."""

from tltool.training.batches import Batches, Change, HeldPictures, Pictures, Taught
from tltool.training.checkpoints import Checkpoints
from tltool.training.loop import History, Validation, train
from tltool.training.plan import TrainingPlan
from tltool.training.record import TrainingRecord
from tltool.training.trainer import Trainer

__all__ = [
    "Batches",
    "Change",
    "Checkpoints",
    "HeldPictures",
    "History",
    "Pictures",
    "Taught",
    "Trainer",
    "TrainingPlan",
    "TrainingRecord",
    "Validation",
    "train",
]
