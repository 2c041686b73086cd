"""Keys over code: they change with everything a step can run, and with nothing else."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite import provenance
from suite.provenance import code_hash, hash_arrays, hash_json, machine, versions

TREE = {
    "plug/__init__.py": "",
    "plug/attack.py": """
        from __future__ import annotations
        import json
        import typing
        from typing import TYPE_CHECKING
        import plug.absolute
        from . import sibling
        from .inner import deep as renamed
        from plug.inner.leaf import name
        if TYPE_CHECKING:
            import plug.annotations
        else:
            import plug.otherwise
        if typing.TYPE_CHECKING:
            from plug import annotations
        if not TYPE_CHECKING:
            import plug.negated
        def late():
            import plug.lazy
            with open("weights.csv") as f:
                return f, "no/such/file.txt"
        try:
            import plug.attempted
        except ImportError:
            pass
    """,
    "plug/absolute.py": "from plug import transitive",
    "plug/transitive.py": "import plug.attack",  # a cycle
    "plug/sibling.py": "",
    "plug/inner/__init__.py": "from ..relative_up import x",
    "plug/inner/deep.py": "",
    "plug/inner/leaf.py": "name = 1",
    "plug/relative_up.py": "x = 1",
    "plug/otherwise.py": "",
    "plug/negated.py": "",
    "plug/lazy.py": "",
    "plug/attempted.py": "import helper",
    "plug/weights.csv": "1,2",
    "helper.py": "",
    "plug/annotations.py": "",
    "plug/unrelated.py": "",
    "plug/notes.csv": "3",
    "stranger.py": "",
}
REACHED = [
    name for name in TREE if name not in ("plug/annotations.py", "plug/unrelated.py", "plug/notes.csv", "stranger.py")
]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name, text in TREE.items():
        write(tmp_path / name, text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    forget()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


def forget():
    """As a new process sees it."""
    for cached in (
        provenance._digest_of, provenance._source_of, provenance._uses, provenance._is_users_own, provenance._code_hash,
    ):  # fmt: skip
        cached.cache_clear()
    for name in [n for n in sys.modules if n.split(".")[0] in ("plug", "helper", "space")]:
        del sys.modules[name]


def fresh(*modules, **options):
    forget()
    return code_hash(*modules, **options)


@pytest.mark.parametrize("name", REACHED)
def test_code_hash_changes_with_all_that_is_imported(tree, name):
    before = fresh("plug.attack", roots=())
    assert fresh("plug.attack", roots=()) == before
    with (tree / name).open("a") as file:
        file.write("\n# changed\n")
    assert fresh("plug.attack", roots=()) != before


@pytest.mark.parametrize("name", [name for name in TREE if name not in REACHED])
def test_code_hash_does_not_change_with_what_is_not(tree, name):
    before = fresh("plug.attack", roots=())
    with (tree / name).open("a") as file:
        file.write("\n# changed\n")
    assert fresh("plug.attack", roots=()) == before


def test_every_package_above_a_module_counts_also_without_an_init_between(tree):
    write(tree / "space" / "__init__.py", "import helper")
    write(tree / "space" / "bare" / "deep" / "__init__.py", "")
    write(tree / "space" / "bare" / "deep" / "leaf.py", "")
    for name in ("space/__init__.py", "helper.py", "space/bare/deep/__init__.py"):
        before = fresh("space.bare.deep.leaf", roots=())
        with (tree / name).open("a") as file:
            file.write("\n# changed\n")
        assert fresh("space.bare.deep.leaf", roots=()) != before, name


def test_the_suites_own_packages_count_only_as_roots(tree):
    write(tree / "plug" / "attack.py", "import suite.gates\nimport device.wire")
    known = {roots: fresh("plug.attack", roots=roots) for roots in ((), ("suite",), ("device",), ("suite", "device"))}
    assert len(set(known.values())) == 4


def test_installed_packages_do_not_count_but_a_plugin_that_is_one_does(tree, monkeypatch):
    site = tree / "lib" / "site-packages"
    write(site / "helper" / "__init__.py", "x = 1")  # shadows the loose helper.py
    monkeypatch.syspath_prepend(str(site))
    known = fresh("plug.attack", roots=()), fresh("helper", roots=())
    write(site / "helper" / "__init__.py", "x = 2")
    assert fresh("plug.attack", roots=()) == known[0]
    assert fresh("helper", roots=()) != known[1]


def test_an_edit_during_a_run_does_not_pass_for_what_the_run_has_loaded(tree):
    before = fresh("plug.attack", roots=())
    write(tree / "plug" / "sibling.py", "y = 1")
    assert code_hash("plug.attack", roots=()) == before
    assert fresh("plug.attack", roots=()) != before


def test_the_tree_of_the_suite_itself_is_seen():
    """A change in any kernel-side or graph file that a deployment rests on makes a new key."""
    script = """
        from suite import provenance
        from suite.deploying import GRAPH_CODE
        seen = []
        provenance._digest_of = lambda path: seen.append(path.name) or "x"
        provenance.code_hash("defenses.darknetz", *GRAPH_CODE, roots=("suite", "defenses"))
        print(*seen)
    """
    said = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    names = set(said.stdout.split())
    assert {
        "darknetz.py",
        "export.py",
        "fold.py",
        "format.py",
        "packing.py",
        "partition.py",
        "policy.py",
        "model.py",
    } <= names
    assert "test_cells.py" not in names


arrays = st.lists(
    st.tuples(st.sampled_from(["<f4", "<f8", "<i8", "?"]), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 9)),
    max_size=3,
).map(
    lambda specs: [
        (np.arange(int(np.prod(shape))).reshape(shape) % 2 + seed).astype(kind) for kind, shape, seed in specs
    ]
)


@given(arrays, arrays)
def test_hash_arrays_tells_shapes_dtypes_and_contents_apart(first, second):
    same = len(first) == len(second) and all(
        a.dtype == b.dtype and np.atleast_1d(a).shape == np.atleast_1d(b).shape and np.array_equal(a, b)
        for a, b in zip(first, second, strict=False)
    )
    assert (hash_arrays(first) == hash_arrays(second)) == same
    assert hash_arrays(first) == hash_arrays([np.array(a, order="F") for a in first])


def test_hash_json_is_canonical_and_refuses_what_is_not_json():
    assert hash_json({"b": 1, "a": [1, 2]}) == hash_json({"a": (1, 2), "b": 1})
    assert hash_json(1) != hash_json(1.0) != hash_json(True)
    with pytest.raises(TypeError):
        hash_json({"x": object()})


def test_provenance_names_no_machine():
    import socket

    assert set(machine()) == {"cpu", "cores", "os"}
    assert socket.gethostname() not in "".join(map(str, machine().values()))
    assert set(versions()) == {"python", "torch", "numpy", "scikit-learn"}
