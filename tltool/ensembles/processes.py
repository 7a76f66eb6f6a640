"""Commands of tltool as processes, several at once as the machine allows."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tltool._cores import cores
from tltool._progress import progress
from tltool._validation import TltoolError

__all__ = ["Task", "available_memory", "gpus", "peak_memory", "places_for", "run_tasks"]

_WAIT = 0.1

# For a member to end by itself once it is interrupted: it keeps what it has.
_GRACE = 20.0

_START = "import os; {affinity}from tltool.cli import main; main()"


@dataclass(frozen=True)
class Task:
    """One command.

    Args:
        name: for messages.
        arguments: of `tltool`.
        folder: run folder that it writes, whose history tells how far it is.
        log: file for what it says.
        memory: bytes that it may need.
        needs: name of the command that has to be done before.
        prepare: what is to be done right before it begins.
    """

    name: str
    arguments: tuple[str, ...]
    folder: Path
    log: Path
    memory: float
    needs: str = ""
    prepare: Callable[[], None] | None = None


def run_tasks(tasks: Sequence[Task], places: int) -> None:
    """Run commands to their end, some of them at a time.

    Each gets its share of the cores, or a GPU of its own. What one has done is kept when another
    fails or all are interrupted.

    Args:
        tasks: in the order in which they are begun.
        places: how many at a time.

    Raises:
        TltoolError: one failed; the sentence is its own. Those that run by then are waited for.
    """
    waiting, failed = list(tasks), list[Task]()
    running: dict[int, tuple[Task, subprocess.Popen[bytes]]] = {}
    shares = _shares(places)
    with progress("members", len(tasks), talks=True) as advance:
        try:
            while waiting or running:
                free = [place for place in range(places) if place not in running]
                while free and not failed:
                    undone = {task.name for task in waiting} | {t.name for t, _ in running.values()}
                    ready = [task for task in waiting if task.needs not in undone]
                    if not ready:
                        break
                    task, place = ready[0], free.pop(0)
                    waiting.remove(task)
                    if task.prepare is not None:
                        task.prepare()
                    running[place] = (task, _begun(task, shares[place], place))
                time.sleep(_WAIT)
                done = 0
                for place, (task, process) in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[place]
                    done += 1
                    if process.returncode:
                        failed.append(task)
                advance(done, ", ".join(_how_far(task) for task, _ in running.values()))
                if failed and not running:
                    break
        except BaseException:
            _interrupt([process for _, process in running.values()])
            raise
    if failed:
        raise TltoolError(
            f"Member {failed[0].name} failed: {_last_words(failed[0].log)} What is done is kept; "
            "the same command goes on from there."
        )


def places_for(tasks: Sequence[Task], wanted: int | None) -> int:
    """How many tasks to run at a time: as GPUs, else cores, and memory allow.

    Args:
        tasks: the commands.
        wanted: what the user asked for; None to choose.
    """
    if wanted is not None:
        return max(1, min(wanted, len(tasks)))
    names = {task.name for task in tasks}
    independent = sum(task.needs not in names for task in tasks)  # chains count once
    most = min(independent, gpus() or cores())
    needed = sorted((task.memory for task in tasks), reverse=True)
    room = available_memory()
    while most > 1 and sum(needed[:most]) > room:
        most -= 1
    return max(1, most)


def gpus() -> int:
    """How many GPUs of Nvidia's there are, without loading TensorFlow."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None:
        return len([part for part in shown.split(",") if part.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def available_memory() -> float:
    """Bytes that processes may still take; without end where the system does not tell."""
    try:
        text = Path("/proc/meminfo").read_text("ascii")
        (line,) = (row for row in text.splitlines() if row.startswith("MemAvailable:"))
        return 1024.0 * float(line.split()[1])
    except (OSError, ValueError):
        return float("inf")


def peak_memory() -> int | None:
    """Bytes that the largest process begun here has taken; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # on Windows
        return None
    size = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return size if sys.platform == "darwin" else 1024 * size


def _shares(places: int) -> list[set[int]]:
    """The cores of each place; empty sets where the system cannot keep processes apart."""
    if not hasattr(os, "sched_getaffinity") or gpus():
        return [set() for _ in range(places)]
    own = sorted(os.sched_getaffinity(0))
    if places >= len(own):
        return [{own[i % len(own)]} for i in range(places)]
    ends = [len(own) * i // places for i in range(places + 1)]
    return [set(own[a:b]) for a, b in itertools.pairwise(ends)]


def _begun(task: Task, share: set[int], place: int) -> subprocess.Popen[bytes]:
    affinity = f"os.sched_setaffinity(0, {share}); " if share else ""
    code = _START.format(affinity=affinity)
    environment = dict(os.environ)
    if gpus():
        shown = environment.get("CUDA_VISIBLE_DEVICES")
        names = shown.split(",") if shown else [str(i) for i in range(gpus())]
        environment["CUDA_VISIBLE_DEVICES"] = names[place % len(names)]
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with task.log.open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - this very program, with checked settings
            [sys.executable, "-c", code, *task.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=environment,
        )


def _how_far(task: Task) -> str:
    try:
        epochs = len((task.folder / "history.csv").read_text("utf-8").splitlines()) - 1
    except OSError:
        epochs = 0
    return f"{task.name} ({epochs})" if epochs > 0 else task.name


def _interrupt(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    end = time.monotonic() + _GRACE
    for process in processes:
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_words(log: Path) -> str:
    """The sentence that a command ended with."""
    try:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        lines = []
    said = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return (said or lines or [f"it said nothing, see {log}."])[-1]
