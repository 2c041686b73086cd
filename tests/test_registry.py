"""Registering plugins: what is refused, and that the message names the thing, the place and the way out."""

import os
import re
import subprocess
import sys
import textwrap

import pytest

from device.emulated import EmulatedBoard
from suite import Attack, Defense, Deployment, Goal, Guess, OutputPolicy, View, attack, defense, split, victim
from suite.registry import REGISTRY, Kind, Plugin, PluginError, Registry, did_you_mean, discover, load_file
from suite.spec import parse

pytestmark = pytest.mark.usefixtures("scratch_registry")
HERE = rf"{re.escape(__file__)}:\d+"


class Nothing(Defense):
    def deploy(self, victim):
        return Deployment(split(victim.graph, in_tee=()), OutputPolicy.parse("probs"))


class Zero(Attack):
    def infer(self, observation):
        return Guess(scores=0.0 * observation.labels)


def fresh(base):
    """A class of its own, since a decorator changes the one it is given."""
    return type(base.__name__, (base,), {"__module__": __name__})


def refused(action, pattern):
    with pytest.raises(PluginError, match=pattern) as caught:
        action()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "Shadow", "2fast", "_x", "a-b", "a b", "a.b", "ä", "a\n"])
@pytest.mark.parametrize("kind", list(Kind))
def test_bad_names_are_refused(kind, name):
    base = {Kind.DEFENSE: Nothing, Kind.ATTACK: Zero, Kind.VICTIM: object, Kind.BOARD: EmulatedBoard}[kind]
    with pytest.raises(PluginError, match="a name is made of a-z, 0-9 and _, and starts with a letter"):
        REGISTRY.add(Plugin(kind, name, base, "file.py", 3))


def test_the_wrong_base_class_is_refused_with_its_place():
    class Lost:
        def deploy(self, victim):
            return None

    refused(lambda: defense("lost")(Lost), rf"defense 'lost' \({HERE}\): Lost must derive from Defense")
    refused(lambda: defense("lost")(fresh(Zero)), "Zero must derive from Defense")
    refused(
        lambda: attack("lost", goal=Goal.MEMBERSHIP, needs=())(fresh(Nothing)), "Nothing must derive from AnyAttack"
    )
    refused(lambda: defense("lost")(lambda: None), "defense 'lost': decorate a class, not <function")


def test_an_abstract_class_is_refused_with_what_it_lacks():
    class Idea(Defense):
        pass

    class Hunch(Attack):
        pass

    refused(lambda: defense("idea")(Idea), rf"defense 'idea' \({HERE}\): Idea does not define deploy")
    refused(lambda: attack("hunch", goal=Goal.MEMBERSHIP, needs=())(Hunch), "Hunch does not define infer")


def test_a_parameter_cannot_take_the_place_of_what_the_decorator_sets():
    class Shady(Nothing):
        name: str = "x"

    refused(lambda: defense("shady")(Shady), rf"defense 'shady' \({HERE}\): a parameter cannot be called 'name'")


def test_an_unknown_view_or_goal_is_refused_where_it_is_declared():
    refused(lambda: attack("odd", goal=Goal.MEMBERSHIP, needs={"outputs"})(fresh(Zero)), "attack 'odd' .*'outputs'")
    refused(lambda: attack("odd", goal="fame", needs=())(fresh(Zero)), "attack 'odd' .*'fame'")
    made = attack("plain", goal="membership", needs={"output"})(fresh(Zero))
    assert made.needs == {View.OUTPUT}
    assert (made.goal, made.name) == (Goal.MEMBERSHIP, "plain")


def test_a_taken_name_is_refused_with_both_places():
    defense("twice")(fresh(Nothing))

    class Second(Nothing):
        pass

    refused(
        lambda: defense("twice")(Second), rf"defense 'twice' \({HERE}\): the name is taken by {re.escape(__file__)}:\d+"
    )
    registry = Registry()
    registry.add(Plugin(Kind.DEFENSE, "twice", Nothing, "here.py", 3))
    with pytest.raises(PluginError, match=re.escape("defense 'twice' (there.py:9): the name is taken by here.py:3")):
        registry.add(Plugin(Kind.DEFENSE, "twice", Nothing, "there.py", 9))
    registry.add(Plugin(Kind.ATTACK, "twice", Zero, "there.py", 9))  # another kind
    again = Plugin(Kind.DEFENSE, "twice", Nothing, "here.py", 3)
    registry.add(again)  # the same file under a second module name
    assert registry.get(Kind.DEFENSE, "twice") is again


@pytest.mark.parametrize("other", ["shadow_two", "my_shadow", "shad", "dow"])
def test_a_name_within_another_is_refused_since_k_could_not_tell(other):
    refused(
        lambda: attack(other, goal=Goal.MEMBERSHIP, needs=())(fresh(Zero)),
        rf"'{other}' \({HERE}\): the name and 'shadow' \(.*attacks/shadow.py:\d+\) contain one another, so -k",
    )


def test_no_two_plugins_of_the_tree_contain_one_another():
    for kind in Kind:
        names = [plugin.name for plugin in REGISTRY.all(kind)]
        assert names == sorted(names)
        assert not [(a, b) for a in names for b in names if a != b and a in b]


def test_an_unknown_plugin_is_refused_with_close_names():
    refused(
        lambda: REGISTRY.get(Kind.ATTACK, "shadwo"), r"unknown attack 'shadwo'; did you mean shadow\? \(known: .*shadow"
    )
    refused(lambda: REGISTRY.get(Kind.DEFENSE, "zzz"), r"unknown defense 'zzz' \(known: darknetz, .*, vanilla\)")
    assert did_you_mean("x", []) == " (known: none)"


PLUGIN = """
from suite import Defense, Deployment, OutputPolicy, defense, split

@defense("{name}")
class Loose(Defense):
    def deploy(self, victim):
        return Deployment(split(victim.graph, in_tee=()), OutputPolicy.parse("probs"))
"""


@pytest.fixture
def loose(tmp_path):
    """Write a loose file and say where; its module is forgotten after the test."""
    before = set(sys.modules)

    def write(text, name="mine.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("leakboard_plugin_"):
            del sys.modules[name]


def test_a_loose_file_registers_and_may_be_given_twice(loose):
    path = loose(PLUGIN.format(name="mine"))
    load_file(path)
    found = REGISTRY.get(Kind.DEFENSE, "mine")
    assert found.where == f"{path}:4"
    load_file(path)
    load_file(path.parent / ".." / path.parent.name / path.name)
    assert REGISTRY.get(Kind.DEFENSE, "mine") is found
    assert parse(Kind.DEFENSE, "mine")[0].make().name == "mine"


def test_two_loose_files_of_one_name_are_two_modules(loose):
    load_file(loose(PLUGIN.format(name="first"), "a/mine.py"))
    load_file(loose(PLUGIN.format(name="second"), "b/mine.py"))
    first, second = (REGISTRY.get(Kind.DEFENSE, name).cls.__module__ for name in ("first", "second"))
    assert first != second
    assert sys.modules[first].__file__.endswith("a/mine.py")


def test_a_loose_file_may_carry_a_name_that_another_kind_has(loose):
    load_file(loose(PLUGIN.format(name="loss_threshold")))
    assert REGISTRY.get(Kind.DEFENSE, "loss_threshold").file.endswith("mine.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "--plugin .*mine.py does not import: SyntaxError: "),
        (
            "import no_such_module_at_all",
            "does not import: ModuleNotFoundError: No module named 'no_such_module_at_all'",
        ),
        ("raise SystemExit(2)", "does not import: SystemExit: 2"),
        ("x = 1", "registers nothing; decorate a class with @defense, @attack, @victim or @board"),
        (PLUGIN.format(name="vanilla"), r"mine.py:4\): the name is taken by .*defenses/vanilla.py:\d+"),
    ],
)
def test_a_bad_loose_file_is_refused_every_time(loose, text, message):
    path = loose(text)
    for _ in range(2):
        refused(lambda: load_file(path), message)


def test_a_missing_loose_file_is_refused(tmp_path):
    refused(lambda: load_file(tmp_path / "no.py"), "--plugin .*no.py: no such file")
    refused(lambda: load_file(tmp_path), "no such file")


def test_variants_and_parameters_are_kept():
    @defense("dial", variants=({"level": 1}, {"level": 2}))
    class Dial(Nothing):
        level: int = 3

    assert [dict(variant) for variant in REGISTRY.get(Kind.DEFENSE, "dial").variants] == [{"level": 1}, {"level": 2}]
    assert Dial().level == 3
    with pytest.raises(AttributeError):
        Dial().level = 4


def test_victims_keep_their_recipe():
    victim("tiny_net", recipe="slow")(type("TinyNet", (), {"__module__": __name__}))
    assert REGISTRY.get(Kind.VICTIM, "tiny_net").options["recipe"] == "slow"


def in_a_new_process(folder, code):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_installed_plugins_come_in_by_entry_points(tmp_path):
    (tmp_path / "third_party.py").write_text(PLUGIN.format(name="borrowed"))
    info = tmp_path / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[leakboard.defenses]\nborrowed = third_party:Loose\n")
    said = in_a_new_process(
        tmp_path,
        """
        from suite.registry import Kind, discover
        from suite.provenance import code_hash
        registry = discover((Kind.DEFENSE,))
        discover((Kind.DEFENSE,))
        plugin = registry.get(Kind.DEFENSE, "borrowed")
        print(plugin.where, code_hash(plugin.cls.__module__, roots=("suite",)))
        """,
    )
    assert said.returncode == 0, said.stderr
    assert f"{tmp_path}/third_party.py:4 " in said.stdout
    (tmp_path / "third_party.py").write_text("import absent")
    said = in_a_new_process(tmp_path, "from suite.registry import discover; discover()")
    assert (
        "PluginError: defense 'borrowed' of entry point 'third_party:Loose' does not import: ModuleNotFoundError: No"
        " module named 'absent'" in said.stderr
    )


def test_a_broken_file_of_the_tree_is_named(monkeypatch):
    import importlib

    real = importlib.import_module

    def broken(name, *rest):
        if name == "attacks.shadow":
            raise SyntaxError("bad")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", broken)
    refused(discover, "attack file attacks/shadow.py does not import: SyntaxError: bad")
