"""What a long run says: only what takes long, and how long is left."""

import time

import pytest

from suite import progress
from suite.models import Role, TrainJob
from suite.profiles import get_profile
from suite.tally import TELL_EVERY_S, Tally
from victims.training import Progress


@pytest.fixture
def said():
    lines = []
    with progress.sink(lines.append):
        yield lines


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [100.0]
    monkeypatch.setattr("suite.tally.time.monotonic", lambda: now[0])
    return now


def job(architecture="alexnet", index=-1):
    role = Role.VICTIM if index < 0 else Role.SHADOW
    return TrainJob(architecture, "digits", get_profile("smoke"), 0, role, max(index, 0))


def at(epoch, seconds_left):
    return Progress(task=None, epoch=epoch, epochs=10, loss=1.0, accuracy=0.5, seconds_left=seconds_left)


def test_what_is_quick_is_not_told():
    lines = []
    with progress.sink(lines.append, patience_s=0.15):
        progress.tell("first")
        progress.tell("second")
        time.sleep(0.3)
        progress.tell("third")
        progress.settle()
        progress.announce("at once")
        progress.tell("fourth")
    time.sleep(0.3)
    assert lines == ["second", "at once"]


def test_without_patience_everything_is_told(said):
    progress.tell("a")
    progress.announce("b")
    assert said == ["a", "b"]


def test_without_a_sink_nothing_happens():
    progress.tell("a")
    progress.announce("b")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (599, "9 min 59 s"), (1500, "25 min"), (7500, "2 h 5 min")],
)
def test_durations_are_as_exact_as_they_are_useful(seconds, text):
    assert progress.duration(seconds) == text


def test_the_first_line_says_what_will_be_trained(said):
    Tally([job(), job(index=0), job(index=1)], 2)
    assert said == ["training 1 victim and 2 shadows, 2 side by side; what is trained is kept for later runs"]


def test_a_line_now_and_then_with_the_time_left(said, clock):
    jobs = [job(), job(index=0), job(index=1)]
    tally = Tally(jobs, 1)
    del said[:]
    for epoch in range(1, 6):  # 4 s an epoch of 10
        clock[0] += 4
        tally.note(jobs[0], at(epoch, 4.0 * (10 - epoch)))
    # at 12 s: 28 s of the first and 40 s of each other
    assert said == [f"  0/3  {'about 1 min 48 s left':<22} alexnet victim on digits: epoch 3/10, loss 1.000"]
    clock[0] += 20
    tally.finish(jobs[0])
    assert said[1].startswith("  1/3  about 1 min 20 s left  alexnet victim on digits is trained, accuracy 0.500")
    tally.finish(jobs[1])  # by another process, which told it
    assert len(said) == 2
    tally.finish(jobs[2])
    assert said[2].startswith("  3/3  done in 40 s")


def test_side_by_side_divides_the_time_but_never_below_the_longest(said, clock):
    jobs = [job(), job(index=0)]
    tally = Tally(jobs, 2)
    clock[0] += TELL_EVERY_S
    tally.note(jobs[0], at(5, 50.0))
    assert "about 1 min 40 s left" in said[-1]  # the second has not told yet: as long as the first in all


def test_a_failed_training_is_named(said):
    tally = Tally([job()], 1)
    tally.fail(job(), ValueError("the loss is nan"))
    assert said[-1].endswith("alexnet victim on digits: the loss is nan")


def test_many_trainings_at_once_fit_in_a_line(said, clock):
    jobs = [job(index=i) for i in range(16)]
    tally = Tally(jobs, 16)
    for one in jobs:
        tally.note(one, at(1, 9.0))
    clock[0] += TELL_EVERY_S
    tally.note(jobs[0], at(2, 8.0))
    assert said[-1].endswith("; 13 more")
