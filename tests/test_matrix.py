"""The matrix: every combination once, with names that tell them apart."""

import itertools

import pytest

from conftest import TINY
from suite import Defense, defense
from suite.matrix import LATENCY, build
from suite.registry import Kind, PluginError
from suite.spec import default_specs, parse_list

pytestmark = pytest.mark.usefixtures("scratch_registry")


def cells(**changed):
    asked = {
        "victims": "alexnet,vgg7", "datasets": ("digits", "mnist"), "defenses": "vanilla,darknetz[k=2]",
        "attacks": "loss_threshold,shadow[]", "board": "emulated", "profile": TINY, "seeds": (0, 1), **changed,
    }  # fmt: skip
    for kind in Kind:
        if isinstance(asked.get(kind.plural), str):
            asked[kind.plural] = parse_list(kind, asked[kind.plural])
    return build(**asked)


def test_every_combination_once_and_a_latency_cell_for_each_deployment():
    found = cells()
    assert len(found) == 2 * 2 * 2 * 2 * 3
    points = {(c.victim.name, c.dataset, c.defense.slug, c.measure, c.seed) for c in found}
    assert points == set(
        itertools.product(
            ("alexnet", "vgg7"),
            ("digits", "mnist"),
            ("vanilla", "darknetz_k2"),
            ("loss_threshold", "shadow", LATENCY),
            (0, 1),
        )
    )
    assert len({c.id for c in found}) == len(found)
    assert len({hash(c) for c in found}) == len(found)


def test_names_read_from_the_outside_in():
    names = [c.id for c in cells(victims="alexnet", datasets=("digits",))]
    assert names[:4] == [
        "alexnet-digits-vanilla-loss_threshold-emulated",
        "alexnet-digits-vanilla-shadow-emulated",
        "alexnet-digits-vanilla-latency-emulated",
        "alexnet-digits-darknetz_k2-loss_threshold-emulated",
    ]
    assert names[6:7] == ["alexnet-digits-vanilla-loss_threshold-emulated-seed1"]


def test_the_measures_of_a_deployment_stand_together():
    places = [(c.place, c.seed) for c in cells()]
    assert [key for key, _ in itertools.groupby(places)] == list(dict.fromkeys(places))


def test_what_is_asked_for_twice_is_run_once():
    once = cells(defenses="darknetz")
    twice = cells(defenses="darknetz[k=2],darknetz,darknetz[k=1,output=top1]", seeds=(0, 1, 0))
    assert {c.id for c in once} == {c.id for c in twice}
    assert len(once) == len(twice)


def test_two_that_share_a_name_are_refused(scratch_registry):
    class Dial(Defense):
        text: str = "x"

        def deploy(self, victim):
            return None

    defense("dial")(Dial)
    with pytest.raises(
        PluginError, match=r"two cells are named 'alexnet-digits-dial_a_b-.*dial\[text=a-b\].*dial\[text=a_b\]"
    ):
        cells(defenses="dial[text=a-b],dial[text=a_b]")


def test_the_default_matrix_has_no_two_of_one_name():
    found = build(
        victims=default_specs(Kind.VICTIM), datasets=("digits",), defenses=default_specs(Kind.DEFENSE),
        attacks=default_specs(Kind.ATTACK), board="emulated", profile=TINY, seeds=(0,),
    )  # fmt: skip
    assert len({c.id for c in found}) == len(found) > 50


def test_no_cell_for_an_empty_axis():
    assert cells(seeds=()) == []
    assert [c.measure for c in cells(attacks="", seeds=(0,), victims="alexnet", datasets=("digits",))] == [LATENCY] * 2
