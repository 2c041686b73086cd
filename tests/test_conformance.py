"""The conformance kit over every plugin of the tree, and over plugins that break its rules."""

import itertools

import numpy as np
import pytest

from suite import (
    Attack,
    Defense,
    Deployment,
    Goal,
    Guess,
    OutputPolicy,
    View,
    attack,
    defense,
    split,
)
from suite import conformance as kit
from suite.registry import REGISTRY, Kind, discover
from suite.spec import every_spec, parse

discover()
FINETUNED = ("darknetz[k=2,finetune=true]", "darknetz[start=3,end=4,output=probs,finetune=true]")
SPECS = [spec for kind in Kind for spec in every_spec(kind)]
SPECS += [spec for text in FINETUNED for spec in parse(Kind.DEFENSE, text)]
CASES = [(check, spec) for spec in SPECS for check in kit.checks_of(spec.plugin)]


@pytest.mark.parametrize(("check", "spec"), CASES, ids=[f"{spec.slug}-{check.__name__}" for check, spec in CASES])
def test_plugin_keeps_the_rules(check, spec):
    check(spec)


@pytest.fixture
def _scratch_registry(monkeypatch):
    """Plugins registered in a test are gone after it."""
    monkeypatch.setattr(REGISTRY, "_plugins", {kind: dict(REGISTRY._plugins[kind]) for kind in Kind})


def refused(check, kind, name):
    (spec,) = parse(kind, name)
    with pytest.raises(kit.ConformanceError, match=name) as caught:
        check(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("_scratch_registry")
def test_unsound_defenses_are_refused():
    draw = np.random.default_rng(0)

    @defense("fickle")
    class Fickle(Defense):
        """Not the same twice."""

        def deploy(self, victim):
            names = [node.name for node in victim.graph.nodes]
            return Deployment(split(victim.graph, in_tee=names[draw.integers(1, 5) :]), OutputPolicy.parse("top1"))

    @defense("meddler")
    class Meddler(Defense):
        """Writes into the victim (original)."""

        def deploy(self, victim):
            next(victim.module.parameters()).data.add_(1.0)
            return Deployment(split(victim.graph, in_tee=()), OutputPolicy.parse("probs"))

    assert "deterministic" in refused(kit.deploys_the_same_twice, Kind.DEFENSE, "fickle")
    assert "cite" in refused(kit.docstring_cites_its_source, Kind.DEFENSE, "fickle")
    assert "changed the victim" in refused(kit.leaves_the_victim_alone, Kind.DEFENSE, "meddler")


@pytest.mark.usefixtures("_scratch_registry")
def test_unsound_attacks_are_refused():
    calls = itertools.count()

    def register(name, infer):
        attack(name, goal=Goal.MEMBERSHIP, needs={View.OUTPUT})(type(name, (Attack,), {"infer": infer}))

    def meddle(self, observation):
        observation.labels[:] = 0
        return Guess(np.zeros(len(observation.labels)))

    register("dice", lambda self, o: Guess(np.full(len(o.labels), float(next(calls)))))
    register("nan", lambda self, o: Guess(np.full(len(o.labels), np.nan)))
    register("scribbler", meddle)
    register(
        "seer",
        lambda self, o: Guess(np.random.default_rng(99).permutation(np.arange(len(o.labels)) % 2 == 0).astype(float)),
    )
    assert "deterministic" in refused(kit.infers_the_same_twice, Kind.ATTACK, "dice")
    assert "changed its observation" in refused(kit.leaves_the_observation_alone, Kind.ATTACK, "scribbler")
    assert "on noise" in refused(kit.finds_nothing_where_nothing_is, Kind.ATTACK, "seer")
    (spec,) = parse(Kind.ATTACK, "nan")
    with pytest.raises(Exception, match="not finite"):
        kit.scores_are_one_finite_number_each(spec)
