"""The workflow and the systemd units: they parse, and call the command that there is."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from suite import cli

ROOT = Path(__file__).parents[1]
UNITS = ROOT / "docs" / "nightly"
yaml = pytest.importorskip("yaml")


def workflow():
    return yaml.safe_load((ROOT / ".github" / "workflows" / "nightly.yml").read_text())


def nightly_words(text):
    """The arguments behind ``leakboard`` in a shell's or a unit's line."""
    (line,) = re.findall(r"bin/leakboard\"? (nightly .*)", text.replace("\\\n", " "))
    words = [word for word in shlex.split(line) if word not in ("$ARGUMENTS", "$LEAKBOARD_ARGUMENTS")]
    return ["qemu" if "_BOARD" in word else "none" if "METER" in word else word for word in words]


def test_both_call_the_same_command():
    (step,) = [s for s in workflow()["jobs"]["pi"]["steps"] if s.get("name") == "Measure"]
    unit = (UNITS / "leakboard-nightly.service").read_text()
    ours, theirs = nightly_words(step["run"]), nightly_words(unit)
    place = ours.index("--folder") + 1
    assert ours[:place] == theirs[:place]
    options = cli.parser().parse_args(ours)
    assert (options.board, options.meter, options.action) == ("qemu", "none", None)


def test_the_workflow_runs_by_night_one_at_a_time_beside_the_board():
    found = workflow()
    assert found[True]["schedule"]  # YAML reads the key "on" as true
    assert found["concurrency"] == {"group": "nightly-pi", "cancel-in-progress": False}
    job = found["jobs"]["pi"]
    assert job["runs-on"] == ["self-hosted", "leakboard-pi"]
    assert found["permissions"] == {"contents": "read"}
    for step in job["steps"]:
        if "uses" in step:
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])
    upload = job["steps"][-1]
    assert upload["if"] == "always()"
    assert "night" in upload["with"]["path"]
    assert "inputs" not in "".join(step.get("run", "") for step in job["steps"]), "input in a script: quote it by env"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("name", ["leakboard-nightly.service", "leakboard-nightly.timer"])
def test_systemd_finds_no_fault(name, tmp_path):
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/leakboard/.venv/bin/leakboard", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", tmp_path / name],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert name not in done.stderr, done.stderr
