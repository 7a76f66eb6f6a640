"""Training by gradients: the plan, the step, the epochs, and what is kept of them."""

from tltool.training.batches import ArrayBatches
from tltool.training.checkpoints import Checkpoints
from tltool.training.loop import History, train
from tltool.training.plan import TrainingPlan
from tltool.training.trainer import Trainer

__all__ = ["ArrayBatches", "Checkpoints", "History", "Trainer", "TrainingPlan", "train"]
