"""``pytest suite`` from end to end: cold, warm, on two workers, with damage, and through a loose victim."""

import json
import re
import shutil

import pytest
from suite_runs import CELLS, MODELS, records, run, trained

pytest_plugins = ["suite_cold"]

IDS = {
    f"tinynet-digits-{defense}-{measure}-emulated{seed}"
    for defense in ("vanilla", "darknetz_k1")
    for measure in ("dawdle", "latency")
    for seed in ("", "-seed1")
}


@pytest.fixture(scope="session")
def said(cold):
    return json.loads((cold / "said.json").read_text())


@pytest.fixture
def copy(cold, tmp_path):
    """Cache and results of the first run, to do with as one likes."""
    for name in ("cache", "results"):
        shutil.copytree(cold / name, tmp_path / name)
    return tmp_path


def test_every_cell_passes_and_has_a_record(cold, said):
    assert said["status"] == 0, said["out"] + said["err"]
    assert "8 passed" in said["out"]
    assert set(records(cold / "results")) == IDS


def test_training_is_told_before_the_cells_which_are_dots(said):
    before, _, after = said["out"].partition("suite/test_cells.py ........")
    assert "training 2 victims and 4 shadows" in before
    told = re.findall(r"^  (\d)/6  .{22} (.*)", before, re.M)
    assert [int(n) for n, what in told if "is trained" in what] == list(range(1, MODELS + 1))
    assert "done in" in before
    assert after
    assert "training" not in after.partition("leaderboard")[0]


def test_the_leaderboard_comes_last_and_joins_the_seeds(said):
    assert said["out"].index("benchmark 'tinynet") < said["out"].index("= leaderboard =")
    assert "tinynet on digits (smoke, board emulated)" in said["out"]
    assert re.search(r"^darknetz_k1 .*top1 ", said["out"], re.M)
    assert "seeds" in said["out"].lower()


def test_a_second_run_trains_nothing_and_leaves_the_attacks_records_alone(cold, copy):
    before = {path: path.stat().st_mtime_ns for path in (copy / "results").rglob("*dawdle*")}
    done = run(*(*CELLS, "--plugin", cold / "tiny.py", "-v"), cache=copy / "cache", results=copy / "results")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training" not in done.stdout.partition("leaderboard")[0]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    cells = [line for line in done.stdout.splitlines() if line.startswith("suite/test_cells.py::")]
    assert len(cells) == len(IDS)
    assert all(" PASSED " in line for line in cells)


def test_two_workers_share_the_training_and_write_the_same_records(cold, copy):
    shutil.rmtree(copy / "results")
    shutil.rmtree(copy / "cache" / "store")
    done = run(*(*CELLS, "--plugin", cold / "tiny.py", "-n", "2"), cache=copy / "cache", results=copy / "results")
    assert done.returncode == 0, done.stdout + done.stderr
    assert records(copy / "results") == records(cold / "results")
    ours, theirs = trained(copy / "cache"), trained(cold / "cache")
    assert {name: model for name, (model, _) in ours.items()} == {name: model for name, (model, _) in theirs.items()}
    assert done.stdout.count("= leaderboard =") == 1
    assert "Warning" not in done.stdout.replace("UserWarning", "") + done.stderr
    told = re.findall(r"^\[(gw\d)\]   \d/6  .{22} (.*) is trained, accuracy", done.stderr, re.M)
    assert len(told) == MODELS  # each once
    assert {worker for worker, _ in told} == {"gw0", "gw1"}


def test_bad_input_on_two_workers_is_one_clear_line(cold):
    done = run(
        *("--plugin", cold / "tiny.py", "--victims", "tinynet", "--defenses", "darknetz[k=99]", "-n", "2"),
        cache=cold / "cache",
        results=cold / "unused",
    )
    said = done.stdout + done.stderr
    assert done.returncode == 4, said
    assert said.count("so k is 1 to 2") == 1
    assert "INTERNALERROR" not in said


def test_damage_fails_the_cells_it_touches_with_a_clear_line(cold, copy):
    latency = records(cold / "results")["tinynet-digits-darknetz_k1-latency-emulated"]
    public = copy / "cache" / "store" / "entries" / latency["provenance"]["keys"]["deployment"] / "public.lbm"
    content = bytearray(public.read_bytes())
    content[len(content) // 2] ^= 1
    public.write_bytes(content)
    torn = copy / "results" / "smoke" / "tinynet-digits-vanilla-dawdle-emulated.json"
    torn.write_text(torn.read_text()[:100])
    foreign = copy / "results" / "smoke" / "foreign.json"
    foreign.write_text("{}")
    done = run(*(*CELLS, "--plugin", cold / "tiny.py"), cache=copy / "cache", results=copy / "results")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 6 passed" in done.stdout
    assert set(re.findall(r"^FAILED \S+\[(.*?)\]", done.stdout, re.M)) == {
        "tinynet-digits-darknetz_k1-dawdle-emulated",
        "tinynet-digits-darknetz_k1-latency-emulated",
    }
    (line,) = set(re.findall(r"^store entry .*", done.stdout, re.M))
    assert f"{public.parent} is damaged: public.lbm was changed; 'leakboard store repair' removes it" in line
    assert "Traceback" not in done.stdout
    assert "During handling" not in done.stdout
    assert re.search(r"foreign\.json: .*is missing", done.stdout)
    assert foreign.read_text() == "{}"
    foreign.unlink()
    assert records(copy / "results") == records(cold / "results")  # the torn one is whole again
