"""``pytest suite`` before anything is trained: ids, exclusions, and one clear line for what cannot be."""

import json
import re

import pytest
from suite_runs import PLUGINS, in_one_process, once

from suite.registry import Kind, discover

COLLECT = ("--collect-only", "-q")
ONE_VICTIM = ("--victims", "alexnet", "--attacks", "loss_threshold")

BAD = {
    "victim": (("--victims", "alxnet"), "unknown victim 'alxnet'; did you mean alexnet"),
    "no victim": (("--victims", " ,"), "--victims ' ,': no victim in it"),
    "empty victim": (("--victims", ""), "--victims '': no victim in it"),
    "defense": (("--defenses", "vanila"), "unknown defense 'vanila'; did you mean vanilla?"),
    "attack": (("--attacks", "shadw"), "unknown attack 'shadw'; did you mean shadow"),
    "data set": (("--datasets", "digit"), "did you mean 'digits'?"),
    "no data set": (("--datasets", ","), "--datasets ',': no data set in it"),
    "profile": (("--profile", "smok"), "unknown profile 'smok'; did you mean smoke?"),
    "board": (("--board", "emulatd"), "unknown board 'emulatd'; did you mean emulated or qemu?"),
    "seeds": (("--seeds", "x"), "--seeds 'x': write whole numbers"),
    "seeds backwards": (("--seeds", "3-1"), "--seeds '3-1': no seed in it"),
    "seeds without end": (("--seeds", "0-999999999999"), "take fewer"),
    "parameter": (("--defenses", "darknetz[kk=1]"), "has no parameter 'kk'; did you mean k?"),
    "type": (("--defenses", "darknetz[k=two]"), "takes int or none, not 'two'"),
    "bracket": (("--defenses", "darknetz[k=2"), "write name or name[parameter=value,...]"),
    "too large": ((*ONE_VICTIM, "--defenses", "vanilla,darknetz[k=99]"), "so k is 1 to 6"),
    "shadow": (("--attacks", "shadow[model=vgg99]"), "unknown victim 'vgg99'"),
    "no memory": (("--tee-mib", "0"), "--tee-mib 0: the TEE's memory limit is a number of MiB above 0"),
    "negative memory": (("--tee-mib", "-1"), "--tee-mib -1: the TEE's memory limit"),
    "no number": (("--tee-mib", "abc"), "--tee-mib 'abc': the TEE's memory limit"),
    "no plugin": (("--plugin", "missing.py"), "missing.py: no such file"),
    "broken plugin": (("--plugin", "{broken}"), "does not import: ModuleNotFoundError: No module named 'nowhere'"),
    "results": (("--results", "{file}/below"), "cannot be written (Not a directory); choose another folder"),
}

GOOD = {
    "listing": COLLECT,
    "three seeds": (*COLLECT, *ONE_VICTIM, "--defenses", "vanilla", "--seeds", "0,2-3"),
    "k": (*COLLECT, "-k", "alexnet and darknetz_k2-shadow-"),
    "little memory": (*COLLECT, *ONE_VICTIM, "--defenses", "vanilla,darknetz[k=1]", "--tee-mib", "0.05"),
    "nothing selected": (*COLLECT, "-k", "no_such_thing"),
    "some suit": (
        *(*COLLECT, "--victims", "alexnet,vgg16", "--defenses", "darknetz[k=7]"),
        *("--attacks", "loss_threshold", "--tee-mib", "64"),
    ),
    "hidden": (
        *COLLECT,
        "--plugin",
        "{plugins}",
        "--victims",
        "tinynet",
        "--attacks",
        "peek",
        "--defenses",
        "full_tee",
    ),
    "hidden, not asked": (*COLLECT, "-k", "alexnet and full_tee"),
    "no data": ("--profile", "quick", "-k", "alexnet", "--attacks", "loss_threshold"),
    "no data, asked": ("--profile", "quick", *ONE_VICTIM, "--datasets", "cifar10"),
    "own tests": ("tests/test_metrics.py", *COLLECT),
}


@pytest.fixture(scope="session")
def said(tmp_path_factory):
    """Status, output and error output of every command line above; they train nothing, so one process does."""

    def make(folder):
        names = {"broken": "import nowhere\n", "plugins": PLUGINS, "file": ""}
        paths = {name: folder / f"{name}.py" for name in names}
        for name, text in names.items():
            paths[name].write_text(text)
        runs = {name: arguments for name, (arguments, _) in BAD.items()} | GOOD
        filled = [[argument.format(**paths) for argument in arguments] for arguments in runs.values()]
        away = "http://127.0.0.1:9"  # nobody listens there
        nowhere = {"LEAKBOARD_DATA": str(folder), "PATH": str(folder), "https_proxy": away, "http_proxy": away}
        found = in_one_process(filled, cache=folder / "cache", folder=folder, **nowhere)
        (folder / "said.json").write_text(json.dumps(dict(zip(runs, found, strict=True))))

    folder = once(tmp_path_factory, "suite-matrix", make)
    found = json.loads((folder / "said.json").read_text())
    assert len(found) == len(BAD) + len(GOOD), "a name in both"
    return found | {"cache": folder / "cache"}


def ids(output):
    return re.findall(r"test_\w+\[([^]]+)\]", output)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line(said, name):
    status, out, err = said[name]
    assert status == 4, out + err
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert lines[0].startswith("ERROR: ")
    assert BAD[name][1] in lines[0]
    assert "Traceback" not in out


def test_listing_names_every_cell_bounds_first(said):
    status, out, _ = said["listing"]
    assert status == 0
    listed = ids(out)
    assert len(set(listed)) == len(listed)
    assert listed[0].startswith("alexnet-digits-vanilla-")
    assert "alexnet-digits-darknetz_k2-shadow-emulated" in listed
    defenses = list(dict.fromkeys(name.split("-")[2] for name in listed if name.startswith("alexnet")))
    assert defenses[:3] == ["vanilla", "full_tee", "full_tee_probs"]


def test_what_lists_and_refuses_makes_nothing_but_surveys(said):
    made = {path.name.partition("-")[0] for path in (said["cache"] / "store" / "entries").iterdir()}
    assert made == {"survey"}
    assert not list(said["cache"].glob("data/*.np*"))
    assert not (said["cache"].parent / "results" / "smoke").exists()


def test_cells_too_large_for_the_tee_are_left_out_with_the_reason_and_do_not_fail_the_run(said):
    status, out, _ = said["listing"]
    assert status == 0
    assert "vgg16-digits-full_tee-loss_threshold-emulated" not in ids(out)
    reason, cells = re.search(r"^(the TEE part .*vgg16 'full_tee\[output=top1\]'.*:)\n(    .*)\n", out, re.M).groups()
    assert re.search(r"needs 5\d\.\d MiB, the limit is 16 MiB", reason)
    assert "leakboard plan vgg16 'full_tee[output=top1]' --dataset digits" in reason
    named = re.fullmatch(r"    vgg16-digits-full_tee-\{(.*),latency\}-emulated", cells)[1].split(",")
    assert {"loss_threshold", "shadow", "shadow_other"} <= set(named)


def test_seeds_beyond_the_first_stand_in_the_ids(said):
    assert ids(said["three seeds"][1])[:3] == [
        "alexnet-digits-vanilla-loss_threshold-emulated",
        "alexnet-digits-vanilla-loss_threshold-emulated-seed2",
        "alexnet-digits-vanilla-loss_threshold-emulated-seed3",
    ]


def test_k_selects_exactly(said):
    assert ids(said["k"][1]) == ["alexnet-digits-darknetz_k2-shadow-emulated"]


def test_nothing_selected_is_no_success(said):
    assert said["nothing selected"][0] == 5


def test_a_plugin_that_little_memory_leaves_without_a_cell_fails_the_run(said):
    status, out, _ = said["little memory"]
    assert status == 1
    assert {name.split("-")[2] for name in ids(out)} == {"vanilla"}
    (line,) = re.findall("^ERROR: .*", out, re.M)
    assert "no runnable cell for defense darknetz: the TEE part needs" in line
    assert "the limit is 51.2 KiB" in line


def test_a_k_that_suits_one_victim_only_leaves_out_the_other(said):
    status, out, _ = said["some suit"]
    assert status == 0, out
    assert {name.split("-")[0] for name in ids(out)} == {"vgg16"}
    assert "alexnet has 6 layers with parameters, so k is 1 to 6" in out


def test_an_attack_that_is_shown_too_little_fails_the_run(said):
    status, out, _ = said["hidden"]
    assert status == 1
    assert "peek needs weights, which the deployment hides:\n    tinynet-digits-full_tee-peek-emulated" in out
    assert re.findall("^ERROR: .*", out, re.M) == [
        "ERROR: no runnable cell for attack peek: peek needs weights, which the deployment hides"
    ]


def test_an_attack_that_nobody_asked_for_may_have_nothing_to_look_at(said):
    """As in ``pytest suite -k "vgg7 and darknetz"``, where no layer is disguised."""
    status, out, _ = said["hidden, not asked"]
    assert status == 0, out
    assert "weight_recovery needs boundary, weights, which the deployment hides:" in out
    assert "ERROR" not in out


def test_the_projects_own_tests_build_no_matrix(said):
    status, out, err = said["own tests"]
    assert status == 0, out + err
    assert "test_metrics.py::" in out
    assert "excluded" not in out
    assert "leaderboard" not in out


NO_CIFAR = "data set 'cifar10' cannot be had from any source: local folder: "


def test_a_data_set_that_cannot_be_had_leaves_out_its_cells(said):
    status, out, err = said["no data"]
    assert status == 1
    assert re.search(rf"^{NO_CIFAR}.*:\n    alexnet-cifar10-vanilla-{{loss_threshold,latency}}-emulated\n", out, re.M)
    (line,) = re.findall("^ERROR: .*", out + err, re.M)
    defenses = ", ".join(plugin.name for plugin in discover((Kind.DEFENSE,)).all(Kind.DEFENSE))
    assert f"no runnable cell for defenses {defenses} and attack loss_threshold: {NO_CIFAR}" in line
    assert "vgg" not in out


def test_a_data_set_that_cannot_be_had_is_an_error_when_asked_for(said):
    status, out, err = said["no data, asked"]
    assert status == 4
    assert re.findall("^ERROR: data set 'cifar10' .*", out + err, re.M)
    assert "Traceback" not in out + err
