"""The ``leakboard`` command: what it prints, and one clear line for what it cannot do."""

import pytest

from suite.cli import main
from suite.registry import discover
from suite.store import Key, Store

discover()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path / "cache"))


def one_line_error(capsys, *arguments):
    assert main(arguments) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("leakboard: error:")
    assert "\n" not in said
    return said


def test_plan_shows_every_hidden_layer_and_the_peak(capsys):
    assert main(["plan", "alexnet", "darknetz[k=2]"]) == 0
    said = capsys.readouterr().out
    assert "classifier" in said
    assert "features.10" in said
    assert "features.8" not in said
    assert "peak" in said


def test_plan_refuses_what_does_not_fit_with_the_table(capsys):
    assert main(["plan", "vgg16", "full_tee[output=top1]"]) == 1
    said = capsys.readouterr().err
    assert "the limit is 16.00 MiB" in said
    assert "weights_bytes" in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("plan", "alxnet", "vanilla"), "did you mean alexnet"),
        (("plan", "alexnet", "darknets"), "did you mean darknetz"),
        (("plan", "alexnet", "darknetz[k=7]"), "k is 1 to 6"),
        (("plan", "alexnet", "darknetz[k=x]"), "takes int or none"),
        (("plan", "alexnet", "vanilla", "--dataset", "cifar11"), "did you mean"),
        (("check", "nobody"), "no plugin is called 'nobody'"),
        (("check", "--plugin", "missing.py"), "no such file"),
        (("data", "cifar11"), "did you mean"),
    ],
)
def test_what_does_not_exist_is_one_line(capsys, arguments, expected):
    assert expected in one_line_error(capsys, *arguments)


def test_any_board_can_be_checked(capsys):
    assert main(["board", "check", "--board", "emulated"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("ok     alexnet with darknetz[k=2,output=probs] answers as PyTorch does")
    assert "compiler" in said


def test_leaderboard_without_records_says_how_to_get_some(capsys, tmp_path):
    assert main(["leaderboard", str(tmp_path)]) == 1
    assert "pytest suite" in capsys.readouterr().err


def test_list_names_plugins_with_their_variants(capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert "darknetz[k=2,output=probs]" in said
    assert "shadow[model=other]" in said
    assert "28" in said


def test_store_check_finds_damage_and_repair_removes_it(capsys):
    store = Store()
    entries = [store.get(Key("thing", {"n": n}), lambda folder, _: (folder / "a").write_text("x")) for n in range(2)]
    assert main(["store", "check"]) == 0
    (entries[0] / "a").write_text("y")
    assert main(["store", "check"]) == 1
    assert "a was changed" in capsys.readouterr().out
    assert main(["store", "repair"]) == 0
    assert main(["store", "check"]) == 0
    assert not entries[0].exists()
    assert entries[1].exists()
