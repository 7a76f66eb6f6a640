"""What `ensemble` returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tltool.comparing import Comparison
from tltool.results import RunResult

__all__ = ["EnsembleResult", "Growth", "MemberFacts"]


@dataclass(frozen=True)
class MemberFacts:
    """A member of an ensemble.

    Args:
        run: its folder.
        place: the same, from any folder.
        strategy: how it was adapted.
        backbone: the network.
        weight: its share in the mean; of stacking 1 over the number of members.
        accuracy: on the images that the members were weighed by; None where there are none.
        log_loss: on the same images.
    """

    run: str
    place: str
    strategy: str
    backbone: str
    weight: float
    accuracy: float | None
    log_loss: float | None


@dataclass(frozen=True)
class Growth:
    """How the members of an ensemble were trained.

    Args:
        trained: how many of them were; the others were there already.
        at_a_time: how many at a time.
        seconds: how long it took, with the features that they share.
        peak_memory: bytes that the largest of them took; None where that is not known.
    """

    trained: int
    at_a_time: int
    seconds: float
    peak_memory: int | None


@dataclass(frozen=True)
class EnsembleResult:
    """What came of an ensemble.

    Args:
        result: as of any run.
        members: in the order given.
        comparison: on the test images, the most accurate of the ensemble, its members and its
            student against all the others.
        student: a network that learned from it; None where there is none.
        growth: how the members came to be; None where they were there before.
    """

    result: RunResult
    members: tuple[MemberFacts, ...]
    comparison: Comparison
    growth: Growth | None = None
    student: RunResult | None = None

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values; what `--json` prints."""
        return self.result.as_json() | {
            "members": [asdict(member) for member in self.members],
            "comparison": self.comparison.as_json(),
            "student": None if self.student is None else self.student.as_json(),
            "growth": None if self.growth is None else asdict(self.growth),
        }
