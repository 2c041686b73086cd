"""What must hold in the closed division: a defense or an attack is new, all else is what this version has.

In the open division the same is looked at, and told: what differs must be declared, not hidden.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from device.board import Board
from device.emulated import EmulatedBoard
from device.qemu.board import QemuBoard
from device.remote import RemoteBoard
from suite.attacking import attacker_jobs, shadow_jobs
from suite.deploying import survey
from suite.extracting import budgets_of, budgets_within
from suite.graph.ir import GraphError
from suite.material import prepare
from suite.matrix import LATENCY, cell_name
from suite.models import TrainJob
from suite.profiles import PROFILES, Profile
from suite.record import AttackScores, ExposureSamples, StolenAnswers
from suite.recording import plugin_code_of
from suite.registry import Kind, PluginError
from suite.session import BOUNDS
from suite.spec import default_specs
from suite.store import Store
from suite.submission import Item, Problem, Submission
from suite.submission_checks import in_tree, the_spec, used_sources, uses
from suite.timing import BURST
from victims.data import DataError
from victims.data import cache as data_cache
from victims.data.catalogue import INPUT_SHAPES, entry
from victims.task import build_model

_UNCHANGED = "run it unchanged, or hand it in as open"
_BOARDS: Mapping[str, type[Board]] = {"emulated": EmulatedBoard, "qemu": QemuBoard}


def check_closed(submission: Submission, store: Store, tell: Callable[[str], None]) -> Iterator[Problem]:
    """Everything in which a submission is not closed. ``tell`` hears what could not be compared here."""
    for source in used_sources(submission):
        for problem in source.problems:
            yield Problem(
                f"{submission.name}/plugins/{source.file}", "source", problem, "mend it, or hand it in as open"
            )
        for one in source.registered:
            known = in_tree(one.kind, one.name)
            if known is not None and plugin_code_of(known) != source.sha256:  # else it became part of the tree
                what = f"{one.kind} {one.name!r} is the name of {known.where}"
                yield Problem(f"{submission.name}/plugins/{source.file}", "source", what, "choose another name")
            elif known is None and one.kind is Kind.VICTIM:
                what = f"victim {one.name!r} is new"
                yield Problem(f"{submission.name}/plugins/{source.file}", "source", what, _UNCHANGED)
    for item in submission.items:
        profile = PROFILES.get(item.record.cell.profile)
        if profile is None:
            what = f"{item.record.cell.profile!r} is none of {', '.join(PROFILES)}"
            yield Problem(item.file, "cell.profile", what, _UNCHANGED)
            continue
        yield from _own_plugins(item)
        yield from _data(item, profile, tell)
        yield from _victim(item, profile)
        yield from _budgets(item, profile)
        yield from _counts(item, store)
    yield from _seeds(submission)
    yield from _complete(submission)


def _differs(item: Item, field: str, found: object, wanted: object) -> Iterator[Problem]:
    if found != wanted:
        yield Problem(item.file, field, f"is {_shown(found)}, this version has {_shown(wanted)}", _UNCHANGED)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _own_plugins(item: Item) -> Iterator[Problem]:
    """What bears the name of a plugin of the tree is that plugin, with parameters that it has."""
    cell = item.record.cell
    slugs = {Kind.DEFENSE: ("defense", cell.defense), Kind.ATTACK: ("measure", cell.measure)}
    for kind, name, text in uses(item.record):
        plugin = in_tree(kind, name)
        if plugin is None:
            continue
        claimed = item.record.provenance.code.get(kind)
        if claimed is not None and claimed != plugin_code_of(plugin):
            what = f"{kind} {name!r} is not as this version has it"
            way_out = "run the cell again with this version, or give a changed plugin a name of its own"
            yield Problem(item.file, f"provenance.code.{kind}", what, way_out)
        if kind is Kind.VICTIM:
            continue
        field, slug = slugs[kind]
        try:
            spec = the_spec(kind, text)
        except (PluginError, ValueError) as error:
            yield Problem(item.file, f"cell.{field}_spec", str(error), _UNCHANGED)
            continue
        yield from _differs(item, f"cell.{field}_spec", text, spec.text)
        yield from _differs(item, f"cell.{field}", slug, spec.slug)
        if kind is Kind.ATTACK:
            made = spec.make()
            yield from _differs(item, "threat.goal", item.record.threat.goal, str(made.goal))
            needs = sorted(made.needs | (made.uses & set(item.record.threat.shows)))
            yield from _differs(item, "threat.needs", list(item.record.threat.needs), [str(need) for need in needs])


def limited_profile(item: Item, profile: Profile) -> Profile:
    """The profile with queries limited as the record's were."""
    n = item.record.task.n_members
    return profile if n == profile.sizes.members else dataclasses.replace(profile, queries=2 * n)


def _data(item: Item, profile: Profile, tell: Callable[[str], None]) -> Iterator[Problem]:
    """The data set, its splits and who is a member are what this machine makes of the same data."""
    cell, task, sizes = item.record.cell, item.record.task, profile.sizes
    try:
        known = entry(cell.dataset)
    except DataError as error:
        yield Problem(item.file, "cell.dataset", str(error), _UNCHANGED)
        return
    yield from _differs(item, "task.input_shape", task.input_shape, INPUT_SHAPES[cell.dataset])
    yield from _differs(item, "task.n_classes", task.n_classes, known.n_classes)
    yield from _differs(item, "task.n_auxiliary", task.n_auxiliary, sizes.auxiliary)
    most = getattr(_BOARDS.get(cell.board, RemoteBoard), "most_queries", None)
    least = sizes.members if most is None else min(most // 2, sizes.members)
    if not least <= task.n_members <= sizes.members:
        what = f"{task.n_members}, profile {profile.name} has {sizes.members}"
        yield Problem(
            item.file, "task.n_members", f"{what}, board {cell.board} is asked for {least} at least", _UNCHANGED
        )
        return
    limited = limited_profile(item, profile)
    n_test = sizes.test if limited.queries is None else min(sizes.test, task.n_members)
    yield from _differs(item, "task.n_test", task.n_test, n_test)
    if known.content is not None:
        yield from _differs(item, "task.dataset_fingerprint", task.dataset_fingerprint, known.content)
    if not (cell.dataset == "digits" or data_cache.has(data_cache.folder(), cell.dataset)):
        tell(
            f"{item.file}: members and splits are not compared, since {cell.dataset} is not here"
            f" (leakboard data {cell.dataset} fetches it)"
        )
        return
    try:
        material = prepare(cell.dataset, cell.seed, limited)
    except (DataError, ValueError, OverflowError) as error:
        yield Problem(item.file, "task", f"{cell.dataset} cannot be split so: {error}", _UNCHANGED)
        return
    yield from _differs(item, "task.dataset_fingerprint", task.dataset_fingerprint, material.dataset.fingerprint)
    yield from _differs(item, "task.splits_fingerprint", task.splits_fingerprint, material.splits.fingerprint)
    test = material.splits.test[: len(material.queried_test)]
    wanted: dict[str, object] = {}
    if isinstance(item.scores, AttackScores):
        wanted = {"candidates": material.candidate_ids, "is_member": material.is_member}
    elif isinstance(item.scores, StolenAnswers):
        wanted = {"images": test, "labels": material.queried_test.labels}
    elif isinstance(item.scores, ExposureSamples):
        wanted = {"seen": material.splits.members, "unseen": material.splits.nonmembers}
    for name, array in wanted.items():
        if not np.array_equal(getattr(item.scores, name), array):  # type: ignore[arg-type]
            what = f"not what seed {cell.seed} of {cell.dataset} gives"
            yield Problem(item.file, f"scores/{cell.id}.npz {name}", what, "use the suite's own splits")


def _victim(item: Item, profile: Profile) -> Iterator[Problem]:
    """The victim is one of the tree's, trained as its recipe and the profile say."""
    record = item.record
    plugin = in_tree(Kind.VICTIM, record.cell.victim)
    if plugin is None or plugin.cost_only:
        yield Problem(item.file, "cell.victim", f"{record.cell.victim!r} is no victim of this version", _UNCHANGED)
        return
    recipe = plugin.options["recipe"]
    yield from _differs(item, "victim.recipe", dict(record.victim.recipe), dataclasses.asdict(recipe))
    yield from _differs(item, "victim.epochs", record.victim.epochs, recipe.epochs(profile.epochs))
    if record.victim.precision not in ("fp32", "bf16"):
        yield Problem(item.file, "victim.precision", f"{record.victim.precision!r} is not fp32 or bf16", _UNCHANGED)
    if record.cell.dataset in INPUT_SHAPES:
        module = build_model(plugin.name, INPUT_SHAPES[record.cell.dataset], entry(record.cell.dataset).n_classes)
        yield from _differs(
            item, "victim.parameters", record.victim.parameters, sum(p.numel() for p in module.parameters())
        )


def _budgets(item: Item, profile: Profile) -> Iterator[Problem]:
    """As many shadow models, reference models, queries and timed rounds as the profile gives."""
    record, cell = item.record, item.record.cell
    if record.latency is not None:
        board = _BOARDS.get(cell.board, RemoteBoard)
        turns = min(profile.latency_rounds, board.most_turns or profile.latency_rounds)
        yield from _differs(item, "latency.rounds", record.latency.rounds, turns * (BURST - 1))
        sessions = math.ceil(turns / board.turns_a_session)
        yield from _differs(item, "latency.sessions", record.latency.sessions, sessions)
        return
    spec = None
    if in_tree(Kind.ATTACK, cell.measure_spec.partition("[")[0]) is not None:
        try:
            spec = the_spec(Kind.ATTACK, cell.measure_spec)
        except (PluginError, ValueError):
            return  # told already
    limited = limited_profile(item, profile)
    if record.extraction is not None:
        budgets = tuple(point.budget for point in record.extraction.points)
        allowed = (
            {budgets_of(spec, limited)}
            if spec
            else {
                (0,),
                profile.budgets,
                budgets_within(limited),
            }
        )
        if budgets not in allowed:
            shown = " or ".join(str(list(one)) for one in sorted(allowed))
            yield Problem(
                item.file, "extraction.points", f"budgets {list(budgets)}, the profile has {shown}", _UNCHANGED
            )
    if record.attack is None:
        return
    if spec is not None and in_tree(Kind.VICTIM, cell.victim) is not None:
        job = TrainJob(cell.victim, cell.dataset, limited, cell.seed)
        n_shadows = len(shadow_jobs(spec, job))
        yield from _differs(item, "attack.n_shadows", record.attack.n_shadows, n_shadows)
        n_references = len(attacker_jobs(spec, job)) - n_shadows
        yield from _differs(item, "attack.n_references", record.attack.n_references, n_references)
    for field, most in (("n_shadows", profile.shadows), ("n_references", profile.references)):
        if getattr(record.attack, field) not in (0, most):
            yield from _differs(item, f"attack.{field}", getattr(record.attack, field), most)


def _counts(item: Item, store: Store) -> Iterator[Problem]:
    """What a defense of the tree shows, computes where and plans to need: counted here again, with random weights."""
    record, cell = item.record, item.record.cell
    known = in_tree(Kind.DEFENSE, cell.defense_spec.partition("[")[0])
    if known is None or record.learning is not None or in_tree(Kind.VICTIM, cell.victim) is None:
        return  # a stranger's is not run; one that learns may have learned another layout
    try:
        spec = the_spec(Kind.DEFENSE, cell.defense_spec)
        found = survey(store, spec, cell.victim, INPUT_SHAPES[cell.dataset], entry(cell.dataset).n_classes)
    except (PluginError, GraphError, DataError, KeyError, ValueError) as error:
        yield Problem(item.file, "cell.defense_spec", str(error), _UNCHANGED)
        return
    yield from _differs(item, "threat.policy", record.threat.policy, found["policy"])
    yield from _differs(item, "threat.shows", list(record.threat.shows), found["shows"])
    yield from _differs(item, "cost.tee_planned_bytes", record.cost.tee_planned_bytes, found["planned_bytes"])
    for field in ("tee_flops_frac", "ree_macs", "tee_macs", "int8_macs"):
        yield from _differs(item, f"cost.{field}", getattr(record.cost, field), found[field])


def _seeds(submission: Submission) -> Iterator[Problem]:
    """Seeds are 0, 1, 2 ... without a gap: nobody picks the seeds that look best."""
    groups: dict[tuple[str, ...], dict[int, Item]] = defaultdict(dict)
    for item in submission.items:
        cell = item.record.cell
        groups[cell.profile, cell.victim, cell.dataset, cell.defense, cell.measure, cell.board][cell.seed] = item
    for (profile, *names), by_seed in groups.items():
        has = submission.beside | {(profile, item.record.cell.id) for item in by_seed.values()}
        for seed in range(max(by_seed)):
            if (profile, cell_name(*names, seed=seed)) not in has:
                what = f"seed {seed} is missing where {max(by_seed)} is handed in"
                yield Problem(by_seed[max(by_seed)].file, "cell.seed", what, "hand in seeds 0, 1, 2 ... without a gap")
                break


def _complete(submission: Submission) -> Iterator[Problem]:
    """A new defense meets every default membership attack that it shows enough for, a new attack the white box.

    A defense is listed by its best attack, so leaving the best ones out would make it look better.
    """
    has = submission.beside | {(item.record.cell.profile, item.record.cell.id) for item in submission.items}
    told: set[tuple[str, str]] = set()
    attacks = [(spec, spec.make()) for spec in default_specs(Kind.ATTACK) if in_tree(Kind.ATTACK, spec.name)]
    for item in submission.items:
        cell, shows = item.record.cell, set(item.record.threat.shows)
        new = {kind for kind, name, _ in uses(item.record) if in_tree(kind, name) is None}
        wanted: list[tuple[str, str]] = []
        if Kind.DEFENSE in new:
            measures = [s.slug for s, made in attacks if made.goal == "membership" and made.needs <= shows]
            wanted = [(cell.defense, measure) for measure in (*measures, LATENCY)]
        elif Kind.ATTACK in new:
            wanted = [(next(iter(BOUNDS)), cell.measure)]
        place = (cell.victim, cell.dataset)
        ids = {cell_name(*place, d, m, cell.board, seed=cell.seed): m for d, m in wanted}
        missing = [name for name in ids if (cell.profile, name) not in has and (cell.profile, name) not in told]
        if missing:
            told |= {(cell.profile, name) for name in missing}
            measured = ", ".join(ids[name] for name in missing)
            which = f"{cell.defense} lacks cells of {measured}" if Kind.DEFENSE in new else f"no cell {missing[0]}"
            yield Problem(item.file, "cells", which, "run the suite without --attacks, and hand in all its records")
