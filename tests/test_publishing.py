"""Publishing records and the README's head that is made of them; and evaluating a submission once more."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
from submission_samples import OWN_SOURCE, changed, write_cell

from suite import cli, publishing
from suite.estimate import Estimate
from suite.leaderboard_cli import of_folder
from suite.readme_head import BEGIN, END, head, inside
from suite.record import RecordError
from suite.records import read_record
from suite.registry import REGISTRY, Kind
from suite.rescoring import differences
from suite.submission import Division, read_loose
from suite.submission_rerun import agree, compare, rerun, warning

FULL_TEE = "vgg7-digits-full_tee-shadow-emulated"


@pytest.fixture
def store(submitted_store):
    return submitted_store


@pytest.fixture
def place(submitted, tmp_path, monkeypatch, store):
    """A project with results to publish and a README with the two marks."""
    monkeypatch.setattr("suite.submit_commands.Store", lambda: store)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(submitted / "honest", tmp_path / "results" / "local")
    shutil.copytree(submitted / "own", tmp_path / "own")
    (tmp_path / "README.md").write_text(f"# Title\n\n{BEGIN}\n{END}\n\nRest.\n")
    return tmp_path


def publish(*arguments, capsys):
    status = cli.main(("submit", "publish", *map(str, arguments)))
    said = capsys.readouterr()
    return status, said.out + said.err


def names(folder):
    return {path.stem for path in folder.glob("smoke/*.json")}


def test_accepted_records_are_copied_and_the_readme_shows_them(place, capsys):
    status, said = publish("results/local", capsys=capsys)
    assert status == 0, said
    published = place / "results" / "published"
    assert names(published) == names(place / "results" / "local") - {"vgg7-digits-full_tee-knockoff-emulated"}
    for path in published.rglob("*.??[zn]*"):
        assert path.read_bytes() == (place / "results" / "local" / path.relative_to(published)).read_bytes()
    text = (place / "README.md").read_text()
    assert text.startswith("# Title\n") and text.endswith("\nRest.\n")  # noqa: PT018
    shown = inside(text, place / "README.md")
    assert shown == head(published)
    record = read_record(published / "smoke" / f"{FULL_TEE}.json")
    (table,) = of_folder(published).tables
    row = table.defenses.set_index("defense").loc["full_tee"]
    (line,) = (line for line in shown.splitlines() if line.startswith("| full_tee "))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:3] == ["full_tee", "top1", row.best_attack]
    assert cells[3].startswith(f"{row.auc:.3f} (")
    assert row.auc >= record.attack.metrics.auc.value
    assert "1.25 (1.25–1.25)" in shown
    again, said = publish(capsys=capsys)  # the README alone
    assert again == 0
    assert "up to date" in said


def test_damaged_records_are_refused_by_name(place, capsys):
    changed(place / f"results/local/smoke/{FULL_TEE}.json", lambda r: r["attack"]["metrics"]["auc"].update(value=0.99))
    (place / "results/local/smoke/scores/vgg7-digits-vanilla-shadow-emulated.npz").write_bytes(b"")
    status, said = publish("results/local", capsys=capsys)
    assert status == 1
    assert f"refused: results/local/smoke/{FULL_TEE}.json: attack.auc.value" in said
    assert "vgg7-digits-vanilla-shadow-emulated.json: scores.sha256" in said
    assert len(names(place / "results" / "published")) == 4


def test_nothing_changes_where_nothing_can_be_published(place, capsys):
    for path in (place / "results/local/smoke").glob("*.json"):
        changed(path, lambda r: r["victim"].update(epochs=1))
    before = (place / "README.md").read_text()
    status, said = publish("results/local", capsys=capsys)
    assert status == 1
    assert "no record to publish" in said
    assert "victim.epochs" in said
    assert not (place / "results" / "published").exists()
    assert (place / "README.md").read_text() == before


def test_a_readme_without_marks_is_named_before_anything_is_written(place, capsys):
    (place / "README.md").write_text("# Title\n")
    status, said = publish("results/local", capsys=capsys)
    assert status == 1
    assert f"write the lines {BEGIN} and {END}" in said
    assert not (place / "results" / "published").exists()


def test_new_defenses_come_with_their_source_or_not_at_all(place, capsys):
    status, said = publish("own", capsys=capsys)
    assert status == 1
    assert "the source of defense 'first_layers' is missing" in said
    status, said = publish("own", "--plugin", "own/first_layers.py", "--best", 2, capsys=capsys)
    assert status == 0, said
    published = place / "results" / "published"
    assert (published / "smoke/plugins/first_layers.py").read_text() == OWN_SOURCE
    assert len(names(published)) == 3  # the two strongest attacks and latency
    (published / "smoke/plugins/first_layers.py").unlink()
    (place / "own/smoke/vgg7-digits-first_layers_k1-lira-emulated.json").unlink()
    status, said = publish("own", "--plugin", "own/first_layers.py", "-o", "elsewhere", capsys=capsys)
    assert status == 1
    assert "lacks cells of lira" in said


def test_the_strongest_attack_stays_the_best(place, capsys):
    publish("own", "--plugin", "own/first_layers.py", "-o", "all", capsys=capsys)
    publish("own", "--plugin", "own/first_layers.py", "-o", "one", "--best", 1, capsys=capsys)
    assert head(place / "all").splitlines()[4] == head(place / "one").splitlines()[4]


def test_selecting_replacing_and_the_limit(place, capsys, monkeypatch):
    published = place / "results" / "published"
    assert publish("results/local", "--select", "*-vanilla-*", capsys=capsys)[0] == 0
    assert len(names(published)) == 3
    assert publish("results/local", "--select", "*-full_tee-*", "--goals", "extraction", capsys=capsys)[0] == 0
    assert len(names(published)) == 4
    status, said = publish("results/local", "--replace", capsys=capsys)
    assert status == 0
    assert "taken out: 1 records" in said
    assert len(names(published)) == 6
    assert len(list(published.glob("smoke/scores/*"))) == 6
    monkeypatch.setattr(publishing, "MAX_BYTES", publishing.size_bytes(published) - 1)
    status, said = publish("results/local", capsys=capsys)
    assert status == 1
    assert "--best N" in said
    for wrong in (("--goals", "speed"), ("--best", 0), ("--select", "nothing")):
        assert publish("results/local", *wrong, capsys=capsys)[0] == 1


def test_a_damaged_published_record_is_an_error(place, capsys):
    publish("results/local", capsys=capsys)
    (place / f"results/published/smoke/{FULL_TEE}.json").write_text("{}")
    with pytest.raises(RecordError, match="publish it anew"):
        head(place / "results" / "published")
    with pytest.raises(RecordError, match="no records"):
        head(place / "none")


# ---- once more


def test_what_counts_as_the_same():
    assert agree(Estimate(0.7, 0.65, 0.75), Estimate(0.72, 0.67, 0.77))
    assert not agree(Estimate(0.7, 0.69, 0.71), Estimate(0.72, 0.67, 0.77))
    assert agree(Estimate(1.0, 1.0, 1.0), Estimate(0.995, 0.99, 0.999))


def test_figures_that_differ_are_named(submitted):
    theirs = read_record(submitted / "honest" / "smoke" / f"{FULL_TEE}.json")
    assert list(compare("x", theirs, theirs)) == []
    metrics = dataclasses.replace(theirs.attack.metrics, auc=Estimate(0.9, 0.89, 0.91))
    ours = dataclasses.replace(
        theirs,
        attack=dataclasses.replace(theirs.attack, metrics=metrics),
        utility=dataclasses.replace(theirs.utility, accuracy_frac=0.5),
        cost=dataclasses.replace(theirs.cost, switches_per_query=2, tee_peak_bytes=4000),
    )
    fields = {problem.field for problem in compare("x", theirs, ours)}
    assert fields == {
        "attack.metrics.auc", "utility.accuracy_frac", "cost.switches_per_query", "cost.tee_peak_bytes"
    }  # fmt: skip


def test_a_cell_is_evaluated_again_from_the_source_that_was_handed_in(tmp_path, store, scratch_registry):
    """Made-up figures do not survive a run: the plugin is loaded, the victim trained, the deployment timed."""
    path = write_cell(tmp_path, store, "first_layers", "latency")
    (tmp_path / "first_layers.py").write_text(OWN_SOURCE)
    submission, problems = read_loose([path], [tmp_path / "first_layers.py"], Division.CLOSED, "")
    assert not problems
    assert "runs code of strangers" in warning(submission)
    (once,) = rerun(submission, None, store, lambda text: None)
    assert {"cost.ree_macs", "cost.tee_macs"} <= {problem.field for problem in once.problems}
    assert "first_layers" in {plugin.name for plugin in REGISTRY.all(Kind.DEFENSE)}


def test_a_plugin_that_fails_is_named(tmp_path, store, scratch_registry):
    source = OWN_SOURCE.replace("        nodes, layers", "        raise ZeroDivisionError('no')\n        nodes, layers")
    path = write_cell(tmp_path, store, "first_layers", "latency")
    import hashlib

    changed(path, lambda r: r["provenance"]["code"].update(defense=hashlib.sha256(source.encode()).hexdigest()))
    (tmp_path / "first_layers.py").write_text(source)
    submission, _ = read_loose([path], [tmp_path / "first_layers.py"], Division.CLOSED, "")
    (once,) = rerun(submission, None, store, lambda text: None)
    assert [problem.field for problem in once.problems] == ["rerun"]
    assert "ZeroDivisionError" in str(once.problems[0])


def test_published_figures_are_those_of_their_scores(place, capsys):
    publish("results/local", capsys=capsys)
    published, problems = read_loose(sorted(place.glob("results/published/*/*.json")), (), Division.CLOSED, "")
    assert not problems
    assert [differences(item.record, item.scores) for item in published.items] == [[]] * 6
