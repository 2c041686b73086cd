"""What must hold of every submission, whatever its division: that it is whole, consistent and what its scores give."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from suite import gates
from suite.foreign_source import Registered, Source, read_sources
from suite.matrix import LATENCY, cell_name
from suite.model import View
from suite.policy import OutputPolicy
from suite.provenance import ROOTS
from suite.record import AttackScores, Record, StolenAnswers
from suite.registry import REGISTRY, Kind, Plugin, PluginError
from suite.rescoring import differences
from suite.spec import PluginSpec, parse
from suite.submission import RUN_AGAIN, Item, Problem, Submission

_MOST_NUMBERS, _MOST_ROUNDS = 2_000_000, 10_000
"""So that nobody's file takes a machine's memory: a bootstrap draws a thousand times as many."""
_WHOLE = "hand in the files as the run left them"
_SOURCE = "hand in its file: --plugin FILE, or plugins/ beside the record"


def in_tree(kind: Kind, name: str) -> Plugin | None:
    """The plugin of that name in this version's own folders; None where it is somebody else's."""
    try:
        plugin = REGISTRY.get(kind, name)
    except PluginError:
        return None
    return plugin if plugin.cls.__module__.partition(".")[0] in ROOTS else None


def the_spec(kind: Kind, text: str) -> PluginSpec:
    """The one specification that a record's text stands for.

    Raises:
        PluginError: it stands for none, or for several.
    """
    found = parse(kind, text)
    if len(found) != 1:
        raise PluginError(f"{text!r} may be any of {', '.join(spec.text for spec in found)}")
    return found[0]


def uses(record: Record) -> Iterator[tuple[Kind, str, str]]:
    """The plugins of a record: kind, name, and the whole specification."""
    cell = record.cell
    yield Kind.VICTIM, cell.victim, cell.victim
    yield Kind.DEFENSE, cell.defense_spec.partition("[")[0], cell.defense_spec
    if cell.measure != LATENCY:
        yield Kind.ATTACK, cell.measure_spec.partition("[")[0], cell.measure_spec


def used_sources(submission: Submission) -> list[Source]:
    """The plugin sources that records of a submission are made with."""
    used = {(kind, name) for item in submission.items for kind, name, _ in uses(item.record)}
    sources, _ = read_sources(submission.plugins)
    return [source for source in sources if any((one.kind, one.name) in used for one in source.registered)]


def new_sources(submission: Submission) -> list[Source]:
    """Those of them that are not in this version's own folders."""
    return [s for s in used_sources(submission) if any(in_tree(one.kind, one.name) is None for one in s.registered)]


def check_always(submission: Submission) -> Iterator[Problem]:
    """Everything that is wrong with a submission in any division."""
    sources, _ = read_sources(submission.plugins)
    for item in submission.items:
        yield from _identity(item)
        yield from _sources(item, sources)
        wrong_sizes = list(_sizes(item))
        yield from wrong_sizes
        if not wrong_sizes:
            yield from _figures(item)
        yield from _arithmetic(item)
    yield from _one_deployment(submission.items)


def _identity(item: Item) -> Iterator[Problem]:
    """The names that a cell gives itself agree with one another."""
    cell, threat = item.record.cell, item.record.threat
    whole = cell_name(cell.victim, cell.dataset, cell.defense, cell.measure, cell.board, seed=cell.seed)
    if cell.seed < 0 or cell.id != whole:
        yield Problem(item.file, "cell.id", f"is {cell.id!r}, its other fields make {whole!r}", RUN_AGAIN)
    for field, short, spec in (
        ("defense", cell.defense, cell.defense_spec),
        ("measure", cell.measure, cell.measure_spec),
    ):
        if not short.startswith(spec.partition("[")[0]):
            yield Problem(item.file, f"cell.{field}", f"{short!r} is no short form of {spec!r}", RUN_AGAIN)
    for field, views in (("shows", threat.shows), ("needs", threat.needs)):
        if list(views) != sorted(set(views) & {str(view) for view in View}):
            yield Problem(item.file, f"threat.{field}", f"{list(views)} are not views in order", RUN_AGAIN)
    if not set(threat.needs) <= set(threat.shows):
        hidden = ", ".join(sorted(set(threat.needs) - set(threat.shows)))
        yield Problem(item.file, "threat.needs", f"{hidden} is not among what the deployment shows", RUN_AGAIN)
    try:
        OutputPolicy.parse(threat.policy)
    except ValueError as error:
        yield Problem(item.file, "threat.policy", str(error), RUN_AGAIN)


def _sources(item: Item, sources: Sequence[Source]) -> Iterator[Problem]:
    """The source of each plugin that is not this version's own is there, and is the one that ran."""
    code = item.record.provenance.code
    for kind, name, spec in uses(item.record):
        field = f"provenance.code.{kind}"
        if kind not in code:
            yield Problem(item.file, field, "is missing", "run the cell again with this version, which records it")
        elif in_tree(kind, name) is None:
            having = [(source, one) for source in sources if (one := source.find(kind, name))]
            if not having:
                yield Problem(item.file, field, f"the source of {kind} {name!r} is missing", _SOURCE)
            elif code[kind] not in [source.sha256 for source, _ in having]:
                what = f"{having[0][0].file} is not the source of {kind} {name!r} that the record was made with"
                yield Problem(item.file, field, what, "hand in that file, or run the cell again")
            else:
                yield from _parameters(item, kind, spec, having[0][1])


def _parameters(item: Item, kind: Kind, spec: str, registered: Registered) -> Iterator[Problem]:
    name, _, rest = spec.partition("[")
    given = {part.partition("=")[0].strip() for part in rest.removesuffix("]").split(",") if part.strip()}
    if (rest and not rest.endswith("]")) or not given <= registered.params:
        field = "cell.defense_spec" if kind is Kind.DEFENSE else "cell.measure_spec"
        known = ", ".join(sorted(registered.params)) or "none"
        yield Problem(item.file, field, f"{spec!r} has parameters that {name!r} has not (it has: {known})", RUN_AGAIN)


def _sizes(item: Item) -> Iterator[Problem]:
    """As many members as non-members, no candidate twice, and as many of all as the record says."""
    longest = max(getattr(item.scores, field).size for field in item.scores.__dataclass_fields__)
    most = _MOST_ROUNDS if item.record.latency is not None else _MOST_NUMBERS
    if longest > most:
        what = f"an array of {longest:,} numbers, at most {most:,} are looked at"
        yield Problem(item.file, f"scores/{item.record.cell.id}.npz", what, _WHOLE)
    task, scores = item.record.task, item.scores
    if min(task.n_members, task.n_nonmembers, task.n_auxiliary, task.n_test, task.n_classes) < 1:
        yield Problem(item.file, "task", "a number of images or classes below 1", RUN_AGAIN)
    if task.n_members != task.n_nonmembers:
        what = f"{task.n_members} members and {task.n_nonmembers} non-members are not as many"
        yield Problem(item.file, "task.n_members", what, RUN_AGAIN)
    where = f"scores/{item.record.cell.id}.npz"
    if isinstance(scores, AttackScores):
        found = int(scores.is_member.sum()), int((~scores.is_member).sum())
        if found != (task.n_members, task.n_nonmembers):
            what = f"{found[0]} members and {found[1]} others, the record has {task.n_members} and {task.n_nonmembers}"
            yield Problem(item.file, f"{where} is_member", what, _WHOLE)
        if len(np.unique(scores.candidates)) != len(scores.candidates):
            yield Problem(item.file, f"{where} candidates", "an image stands there twice", _WHOLE)
    elif isinstance(scores, StolenAnswers):
        if len(scores.images) != task.n_test or len(np.unique(scores.images)) != len(scores.images):
            yield Problem(item.file, f"{where} images", f"not {task.n_test} images, each once", _WHOLE)
        answers = (scores.labels, scores.deployed, scores.stolen, scores.fgsm, scores.pgd)
        if any(array.size and not 0 <= array.min() <= array.max() < task.n_classes for array in answers):
            yield Problem(item.file, where, f"classes that are not 0 to {task.n_classes - 1}", _WHOLE)
        elif len(scores.changed) and not 0 <= scores.changed.min() <= scores.changed.max() < len(scores.labels):
            yield Problem(item.file, f"{where} changed", "positions beyond the test images", _WHOLE)
        elif not math.isclose(float((scores.deployed == scores.labels).mean()), item.record.utility.accuracy_frac):
            yield Problem(item.file, "utility.accuracy_frac", f"not what {where} deployed gives", _WHOLE)
        elif (scores.queries > scores.budgets).any():
            yield Problem(item.file, f"{where} queries", "more than the budget allows", _WHOLE)


def _figures(item: Item) -> Iterator[Problem]:
    """Every figure is, to the last bit, what the raw scores give."""
    try:
        with np.errstate(all="ignore"):
            found = differences(item.record, item.scores)
    except Exception as error:  # arrays of a stranger's choosing: whatever a metric stumbles over, they are refused
        what = f"no metric can be computed: {type(error).__name__}: {error}"
        yield Problem(item.file, f"scores/{item.record.cell.id}.npz", what, _WHOLE)
        return
    for one in found:
        yield Problem(item.file, one.field, f"is {one.stored!r}, its raw scores give {one.computed!r}", RUN_AGAIN)


def _arithmetic(item: Item) -> Iterator[Problem]:
    """Figures that have no raw data of their own, but must agree with one another."""
    record = item.record
    cost, use, task = record.cost, record.utility, record.task
    for field in ("accuracy_frac", "accuracy_loss_frac", "accuracy_without_tee_frac"):
        value = getattr(use, field)
        if value is not None and (abs(value) > 1 or abs(value * task.n_test - round(value * task.n_test)) > 1e-6):
            what = f"{value!r} is no share of {task.n_test} test images"
            yield Problem(item.file, f"utility.{field}", what, RUN_AGAIN)
    macs = cost.ree_macs + cost.tee_macs
    if not math.isclose(cost.tee_flops_frac, cost.tee_macs / macs if macs > 0 else 0.0, abs_tol=1e-9):
        yield Problem(item.file, "cost.tee_flops_frac", "is not tee_macs of both worlds' macs", RUN_AGAIN)
    counts = {name: getattr(cost, name) for name in cost.__dataclass_fields__}
    for name, value in counts.items():
        if value < 0:
            yield Problem(item.file, f"cost.{name}", f"{value} is below 0", RUN_AGAIN)
    if cost.tee_peak_bytes > cost.tee_limit_bytes:
        yield Problem(item.file, "cost.tee_peak_bytes", "is more than the TEE may hold", RUN_AGAIN)
    try:
        gates.check(record, math.inf)
    except gates.GateError as error:
        yield Problem(item.file, "parity", str(error), "mend the deployment: it does not compute what it should")


def _one_deployment(items: Sequence[Item]) -> Iterator[Problem]:
    """Cells of one deployment tell the same of it."""
    groups: dict[tuple[object, ...], list[Item]] = defaultdict(list)
    for item in items:
        cell = item.record.cell
        groups[cell.profile, cell.victim, cell.dataset, cell.defense, cell.board, cell.seed].append(item)
    for group in groups.values():
        first = _told(group[0].record)
        for item in group[1:]:
            for field, value in _told(item.record).items():
                if value != first[field]:
                    what = f"is not the one in {Path(group[0].file).name}, of the same deployment"
                    yield Problem(item.file, field, what, "run all cells of a deployment with one version")


def _told(record: Record) -> dict[str, object]:
    code, keys = record.provenance.code, record.provenance.keys
    return {
        "cell.defense_spec": record.cell.defense_spec,
        "threat.policy": record.threat.policy,
        "threat.shows": record.threat.shows,
        "task": dataclasses.replace(record.task, dataset_source=""),
        "victim": record.victim,
        "learning": record.learning,
        "utility": record.utility,
        "provenance.keys.victim": keys.get("victim"),
        "provenance.keys.deployment": keys.get("deployment"),
        "provenance.code.victim": code.get("victim"),
        "provenance.code.defense": code.get("defense"),
    }
