"""What several trainings together have done, and how long they may still take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from suite.exposure import ExposureJob
from suite.learning import LearnJob
from suite.model import LearningProgress
from suite.models import TrainJob
from suite.progress import announce, counted, duration
from victims.training import Progress

Job = TrainJob | LearnJob | ExposureJob
AnyProgress = Progress | LearningProgress

TELL_EVERY_S = 10.0
_SHOWN = 3
"""Trainings named in one line; on a machine of many cores the line would not end."""
_WORDS = {
    "victim": "victim", "shadow": "shadow", "reference": "reference model", "defense": "defense", "layer": "layer",
}  # fmt: skip


class Tally:
    """Progress lines for ``jobs``, ``workers`` of which run at a time: one a finished model, else one in 10 s."""

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self._left = list(jobs)
        self._latest: dict[Job, AnyProgress] = {}
        self._cost_s: dict[str, float] = {}
        self._workers = workers
        self._total = len(jobs)
        self._started = self._told = time.monotonic()
        numbers = Counter(map(_role, jobs))
        known = [(numbers[role], word) for role, word in _WORDS.items() if numbers[role]]
        parts = [counted(number, word) for number, word in known]
        beside = f", {workers} side by side" if workers > 1 else ""
        announce(f"training {' and '.join(parts)}{beside}; what is trained is kept for later runs")

    def note(self, job: Job, progress: AnyProgress) -> None:
        """A training has come further."""
        self._latest[job] = progress
        if progress.epoch < progress.epochs:
            pace_s = progress.seconds_left / (progress.epochs - progress.epoch)
            self._cost_s[job.architecture] = pace_s * progress.epochs
        if time.monotonic() - self._told >= TELL_EVERY_S:
            running = [
                f"{one}: epoch {p.epoch}/{p.epochs}, loss {p.loss:.3f}"
                for one, p in list(self._latest.items())[:_SHOWN]
            ]
            if (more := len(self._latest) - len(running)) > 0:
                running.append(f"{more} more")
            self._say("; ".join(running))

    def wait(self, jobs: Sequence[Job]) -> None:
        """All that is left is being trained by other processes."""
        if time.monotonic() - self._told >= TELL_EVERY_S:
            self._say(f"waiting for another process, which trains {jobs[0]}")

    def finish(self, job: Job) -> None:
        """A model is trained, by this process's workers or by somebody else."""
        self._left.remove(job)
        last = self._latest.pop(job, None)
        if last is not None or not self._left:
            accuracy = f", accuracy {last.accuracy:.3f} on its own images" if last else ""
            self._say(f"{job} is trained{accuracy}")

    def fail(self, job: Job, error: Exception) -> None:
        """A training ended with an error."""
        self._left.remove(job)
        self._latest.pop(job, None)
        self._say(f"{job}: {error or type(error).__name__}")

    def _say(self, what: str) -> None:
        self._told = time.monotonic()
        width = len(str(self._total))
        announce(f"  {self._total - len(self._left):>{width}}/{self._total}  {self._estimate():<22} {what}")

    def _estimate(self) -> str:
        if not self._left:
            return f"done in {duration(time.monotonic() - self._started)}"
        if not self._cost_s:
            return ""
        unknown_s = sum(self._cost_s.values()) / len(self._cost_s)
        left_s = [
            self._latest[job].seconds_left if job in self._latest else self._cost_s.get(job.architecture, unknown_s)
            for job in self._left
        ]
        return f"about {duration(max(sum(left_s) / self._workers, *left_s, 1.0))} left"


def _role(job: Job) -> str:
    if isinstance(job, TrainJob):
        return str(job.role)
    return "defense" if isinstance(job, LearnJob) else "layer"
