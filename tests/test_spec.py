"""Plugins with parameters as text: read, written, read again."""

import enum
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from suite import Defense, Deployment, OutputPolicy, defense, split
from suite.registry import REGISTRY, Kind, PluginError
from suite.spec import default_specs, parse, parse_list, specify

pytestmark = pytest.mark.usefixtures("scratch_registry")


class Mode(enum.StrEnum):
    FAST = "fast"
    SLOW = "slow"


@pytest.fixture
def rich(scratch_registry):
    @defense("rich", variants=({"k": 1}, {"k": 2, "text": "b"}))
    class Rich(Defense):
        k: int
        rate: float = 0.5
        flag: bool = False
        text: str = "a"
        maybe: int | None = None
        either: float | bool = True
        mode: Mode = Mode.FAST
        pick: Literal["left", 3] = "left"

        def deploy(self, victim):
            return Deployment(split(victim.graph, in_tee=()), OutputPolicy.parse("probs"))

    return REGISTRY.get(Kind.DEFENSE, "rich")


def one(text, kind=Kind.DEFENSE):
    (spec,) = parse(kind, text)
    return spec


def refused(text, message, kind=Kind.DEFENSE):
    with pytest.raises(PluginError, match=message) as caught:
        parse(kind, text)
    assert "\n" not in str(caught.value)


def test_parameters_are_completed_in_declaration_order():
    spec = one("darknetz[output=probs, k = 2 ]")
    assert spec.params == (("k", 2), ("start", None), ("end", None), ("output", "probs"), ("finetune", None))
    assert spec.text == "darknetz[k=2,output=probs]"
    assert spec.slug == "darknetz_k2_probs"
    assert spec.asked
    made = spec.make()
    assert (made.k, made.output) == (2, "probs")
    assert one("darknetz[k=2]").text == "darknetz[k=2,output=top1]"
    assert one("darknetz[k=2]").slug == "darknetz_k2"
    assert one(" vanilla ").slug == one("vanilla").text == "vanilla"
    assert one("alexnet", Kind.VICTIM).slug == "alexnet"


def test_a_bare_name_stands_for_all_variants():
    assert [spec.slug for spec in parse(Kind.DEFENSE, "darknetz")] == [
        "darknetz_k1", "darknetz_k2", "darknetz_k3", "darknetz_k2_probs", "darknetz_start3_end4_probs",
        "darknetz_k2_finetune",
    ]  # fmt: skip
    assert [spec.slug for spec in parse_list(Kind.DEFENSE, "vanilla, darknetz[k=1,output=probs],full_tee[]")] == [
        "vanilla", "darknetz_k1_probs", "full_tee",
    ]  # fmt: skip


def test_whether_somebody_asked_does_not_make_another_spec():
    asked, given_ = one("darknetz[k=1]"), next(s for s in default_specs(Kind.DEFENSE) if s.slug == "darknetz_k1")
    assert asked == given_
    assert hash(asked) == hash(given_)
    assert asked.asked
    assert not given_.asked


def test_every_type_is_read(rich):
    spec = one("rich[k=-3,rate=1,flag=TRUE,text=a=b c,maybe=None,either=0.25,mode=slow,pick=3]")
    assert dict(spec.params) == {
        "k": -3, "rate": 1.0, "flag": True, "text": "a=b c", "maybe": None, "either": 0.25, "mode": Mode.SLOW,
        "pick": 3,
    }  # fmt: skip
    assert isinstance(dict(spec.params)["rate"], float)
    assert dict(spec.params)["mode"] is Mode.SLOW
    assert one(spec.text) == spec
    assert spec.slug == "rich_k_3_rate1_0_flag_a_b_c_either0_25_slow_pick3"
    assert one("rich[k=1]").slug == "rich_k1"
    assert one("rich[k=1,either=false]").slug == "rich_k1_no_either"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {"k": st.integers()},
        optional={
            "rate": st.floats(allow_nan=False) | st.integers(-(2**50), 2**50),
            "flag": st.booleans(),
            "text": st.text(max_size=6),
            "maybe": st.none() | st.integers(),
            "either": st.booleans() | st.floats(allow_nan=False),
            "mode": st.sampled_from(Mode),
            "pick": st.sampled_from(["left", 3]),
        },
    )
)
def test_text_and_specification_turn_into_one_another(rich, given_):
    """Or the value is refused at once, never read back as another one."""
    try:
        spec = specify(rich, given_)
    except PluginError:
        text = given_["text"]  # nothing else can be at fault
        assert set("[],") & set(text) or text != text.strip() or not text.isprintable()
        return
    read = one(spec.text)
    assert read == spec
    assert read.text == spec.text
    assert read.slug == spec.slug
    assert [type(value) for _, value in read.params] == [type(value) for _, value in spec.params]
    assert all(c in "abcdefghijklmnopqrstuvwxyz0123456789_" for c in spec.slug)


@pytest.mark.parametrize(
    "given_", [{"k": "2"}, {"k": True}, {"k": 1.5}, {"k": None}, {"k": 1, "rate": float("nan")}, {"k": 1, "flag": 1}]
)
def test_values_of_another_type_are_refused_in_variants_too(rich, given_):
    with pytest.raises(PluginError, match=r"parameter '(k|rate|flag)' of defense 'rich' (takes|cannot be)"):
        specify(rich, given_)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("darknetz[k=two]", "parameter 'k' of defense 'darknetz' takes int or none, not 'two'"),
        ("darknetz[k=]", "parameter 'k' of defense 'darknetz' takes int or none, not ''"),
        ("darknetz[k=1.5]", "takes int or none, not '1.5'"),
        ("darknetz[kk=2]", r"defense 'darknetz' has no parameter 'kk'; did you mean k\?"),
        ("darknetz[k]", r"cannot read 'k' in 'darknetz\[k\]': write parameter=value"),
        ("darknetz[k=1,k=2]", "parameter 'k' stands twice"),
        ("rich[]", r"defense 'rich' needs k=...: write rich\[k=...\]"),
        ("darknetz[k=1", r"cannot read defense 'darknetz\[k=1': write name or name\[parameter=value,...\]"),
        ("dark netz", "cannot read defense 'dark netz'"),
        ("", "cannot read defense ''"),
        ("darknetzz[k=1]", r"unknown defense 'darknetzz'; did you mean darknetz( or .*)?\?"),
        ("rich[k=1,flag=yes]", "parameter 'flag' of defense 'rich' takes bool, not 'yes'"),
        ("rich[k=1,maybe=x]", "takes int or none, not 'x'"),
        ("rich[k=1,mode=medium]", "takes Mode, not 'medium'"),
        ("rich[k=1,pick=right]", "takes left or 3, not 'right'"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(rich, text, message):
    refused(text, message)


def test_victims_take_no_parameters():
    refused("alexnet[depth=3]", "victim 'alexnet' takes no parameters, got depth", Kind.VICTIM)


def test_a_type_that_cannot_be_resolved_is_named(scratch_registry):
    class Vague(Defense):
        k: "NoSuchType" = 1  # noqa: F821

        def deploy(self, victim):
            return None

    defense("vague")(Vague)
    refused("vague", r"defense 'vague' \(.*test_spec.py:\d+\): type of a parameter: name 'NoSuchType' is not defined")


def test_all_default_specs_can_be_written_and_read():
    for kind in Kind:
        for spec in default_specs(kind):
            assert one(spec.text if spec.params else f"{spec.text}[]", kind) == spec
            assert spec.make is not None
