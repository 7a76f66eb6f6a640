"""Several runs made into one."""

from tltool.ensembles.results import EnsembleResult, MemberFacts
from tltool.ensembles.workflow import ensemble, resume

__all__ = ["EnsembleResult", "MemberFacts", "ensemble", "resume"]
