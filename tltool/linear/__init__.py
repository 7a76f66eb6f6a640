"""Linear classifiers on features, what is done to features before them, and how one is chosen."""

from tltool.linear.linear_head import LinearHead
from tltool.linear.problem import Problem
from tltool.linear.search import (
    CLASSIFIERS,
    VALUES,
    Candidate,
    Choice,
    Scored,
    choose,
    fit_candidate,
    out_of_fold_scores,
)
from tltool.linear.transforms import Classifier, check_transforms

__all__ = [
    "CLASSIFIERS",
    "VALUES",
    "Candidate",
    "Choice",
    "Classifier",
    "LinearHead",
    "Problem",
    "Scored",
    "check_transforms",
    "choose",
    "fit_candidate",
    "out_of_fold_scores",
]
