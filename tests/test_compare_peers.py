"""What the comparison with other tools hands over, and what it concludes; neither network nor peers take part."""

import json
import sys

import compare_peers
import numpy as np
import pytest
import torch
from peers import environment, table
from peers.cases import Case, PeersError, make_profile
from peers.export import arrays, export, export_references, subset
from peers.ours import Scored, Times, only, output_attacks
from peers.theirs import METER, PEERS, Peer, TookTooLong, run_peer

from suite import models
from suite.attacking import show
from suite.deploying import lay
from suite.evaluating import evaluate
from suite.registry import Kind
from suite.spec import parse

QUICK = Times(wall=2.0, cpu=1.0, asking=1.0)
SLOW = Times(wall=20.0, cpu=11.0, asking=1.0)


@pytest.fixture(scope="module")
def case(small_run):
    """The small run's victim with its two shadows; reference models are not trained for it."""
    return Case(small_run.job)


def scored(name, shift, n=400, times=QUICK, seed=0, places=None):
    """Scores of which members' lie ``shift`` higher; members stand first."""
    noise = np.random.default_rng(seed).normal(size=n if places is None else len(places))
    truth = np.arange(n) < n // 2
    return Scored(name, noise + shift * (truth if places is None else truth[places]), times, places)


TRUTH = np.arange(400) < 200


def test_the_subset_is_balanced_and_in_the_candidates_order():
    truth = np.random.default_rng(0).permutation(TRUTH)
    places = subset(truth, 60)
    assert truth[places].sum() == 30
    assert (np.diff(places) > 0).all()
    assert len(subset(truth, 1000)) == 400


def test_what_is_handed_over_does_not_tell_who_is_a_member(small_run, case):
    answers = np.zeros((400, 10), np.float32)
    handed = arrays(case, small_run.store, answers, 20)
    material = case.victim.material()
    assert handed["images"].shape == material.candidates.images.shape
    assert handed["shadow_answers"].shape == (2, 2 * 200, 10)
    assert handed["shadow_is_member"].mean() == 0.5
    for name, array in handed.items():
        assert not (array.dtype == bool and array.shape == material.is_member.shape and name != "walk_is_member"), name
    # What the attacker walks around is its own: no candidate is among it.
    candidates = {image.tobytes() for image in material.candidates.images}
    assert not candidates & {image.tobytes() for image in handed["walk_images"]}


def test_exported_models_answer_as_the_trained_ones_for_any_number_of_images(small_run, case, tmp_path):
    folder = export(case, small_run.store, np.zeros((400, 10), np.float32), 20, tmp_path / "handed")
    assert {file.name for file in folder.iterdir()} == {"handed.npz", "victim.pt2", "shadow0.pt2", "shadow1.pt2"}
    victim = models.load_trained(models.train_job(small_run.store, case.victim), case.victim)
    exported = torch.export.load(folder / "victim.pt2").module()
    images = torch.tensor(case.victim.material().candidates.images)
    for n in (1, 7):
        with torch.inference_mode():
            torch.testing.assert_close(exported(images[:n]), victim(images[:n]), rtol=1e-4, atol=1e-4)
    stamp = (folder / "victim.pt2").stat().st_mtime_ns
    export(case, small_run.store, np.ones((400, 10), np.float32), 20, folder)
    assert (folder / "victim.pt2").stat().st_mtime_ns == stamp


def test_the_references_answers_come_from_the_store(small_run, case, tmp_path, monkeypatch):
    from suite.attack_model import References

    asked = []
    made = References(np.ones((4, 1, 400, 10), np.float32), np.zeros((4, 400), bool), np.ones((4, 200, 10), np.float32))
    monkeypatch.setattr("peers.export.references_of", lambda *words: asked.append(words) or made)
    for _ in range(2):
        file = export_references(case, small_run.store, tmp_path)
    with np.load(file) as kept:
        assert {name: kept[name].shape for name in kept.files} == {
            "reference_answers": (4, 400, 10),
            "reference_is_member": (4, 400),
            "reference_population": (4, 200, 10),
        }
    assert len(asked) == 1


def test_an_attack_may_be_shown_a_few_candidates_alone(small_run, case):
    (vanilla,), (loss,) = parse(Kind.DEFENSE, "vanilla"), parse(Kind.ATTACK, "loss_threshold")
    laid = lay(small_run.store, vanilla, case.victim)
    evaluation = evaluate(small_run.store, laid, vanilla, case.victim, small_run.board)
    shown = show(small_run.store, laid, evaluation, case.victim, loss, small_run.board)
    places = np.array([3, 5, 8])
    few = only(shown, places)
    np.testing.assert_array_equal(few.outputs, shown.outputs[places])
    np.testing.assert_array_equal(few.candidates.labels, shown.candidates.labels[places])


def test_attacks_that_see_outputs_alone_are_chosen(scratch_registry):
    slugs = {spec.slug for spec in output_attacks("alexnet")}
    assert {"loss_threshold", "shadow"} <= slugs
    assert not any("other" in slug or "vgg7" in slug for slug in slugs)
    assert not any("gradient" in slug for slug in slugs), "vanilla shows it the weights"


def test_a_stronger_peer_is_told_and_a_weaker_one_is_not(scratch_registry):
    ours, strong, weak = scored("shadow", 1.0), scored("art_nn", 3.0, seed=1), scored("art_nn", 0.2, seed=1)
    below = table.verdicts([ours], [strong], TRUTH)
    assert [verdict.met for verdict in below[:2]] == [False, False]
    assert "BELOW" in below[0].text
    above = table.verdicts([ours], [weak], TRUTH)
    assert all(verdict.met for verdict in above[:2])


def test_equal_scores_are_not_below():
    same = scored("shadow", 1.0)
    auc, tpr = table.verdicts([same], [Scored("art_rule", same.scores, QUICK)], TRUTH)
    assert auc.met
    assert tpr.met


def test_a_like_attack_must_be_five_times_as_fast(scratch_registry):
    ours = scored("shadow", 1.0)
    slow, quick = (Scored("art_nn", 0 * ours.scores, times) for times in (SLOW, QUICK))
    assert table.verdicts([ours], [slow], TRUTH)[-1].met
    assert not table.verdicts([ours], [quick], TRUTH)[-1].met
    assert "10.0 times" in table.verdicts([ours], [slow], TRUTH)[-1].text
    assert "19.0 beside asking" in table.verdicts([ours], [slow], TRUTH)[-1].text


def test_attacks_on_a_few_candidates_are_compared_on_these():
    places = np.arange(180, 220)
    walk = scored("art_label_only", 0.0, places=places)
    (only_one,) = table.verdicts([scored("loss_threshold", 2.0)], [walk], TRUTH)
    assert only_one.met
    assert "40 candidates" in only_one.text
    assert "| 40 " in " ".join(table.render("t", [], [walk], TRUTH).split())


def test_the_interval_of_a_paired_difference_knows_that_the_candidates_are_the_same():
    scores = scored("shadow", 1.0).scores
    same = table.paired_tpr_excess(scores, 2 * scores, TRUTH)
    assert (same.low, same.value, same.high) == (0, 0, 0)
    better = table.paired_tpr_excess(scored("a", 4.0).scores, scored("b", 0.5, seed=1).scores, TRUTH)
    assert better.low > 0.3


PROGRAM = """
import sys, time
import numpy as np
attack, folder, result = sys.argv[1:4]
if attack == "late":
    time.sleep(60)
if attack == "broken":
    raise SystemExit("it does not work")
np.savez(result, scores=np.full(3 if attack == "short" else 4, float(attack == "good")), seconds=[1.0, 0.5, 0.1])
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a program in a peer's place, with this Python as its environment."""
    (tmp_path / "fake.py").write_text(PROGRAM)
    (tmp_path / "handed.py").write_text("")
    handed = tmp_path / "victim"
    handed.mkdir()
    np.savez(handed / "handed.npz", labels=np.zeros(4), subset=np.arange(2))
    monkeypatch.setattr("peers.theirs.PROGRAMS", tmp_path)

    def go(attack, limit_s=30.0):
        peer = Peer(attack, "fake", attack, f"the {attack} one", METER)
        return run_peer(peer, sys.executable, handed, tmp_path / "kept", limit_s=limit_s, threads=1, files={})

    return go


def test_a_peer_runs_once_and_its_scores_are_kept(run, monkeypatch):
    first = run("good")
    assert first.times == Times(1.0, 0.5, 0.1)
    monkeypatch.setattr("peers.theirs._run", lambda *words: pytest.fail("it ran again"))
    np.testing.assert_array_equal(run("good").scores, first.scores)


def test_a_peer_that_fails_or_is_late_says_so(run, tmp_path):
    with pytest.raises(PeersError, match="the broken one failed.*it does not work"):
        run("broken")
    with pytest.raises(TookTooLong, match="the late one had not ended"):
        run("late", limit_s=0.2)
    with pytest.raises(PeersError, match="expected 4 finite scores"):
        run("short")
    assert not list((tmp_path / "kept").glob("*.part.npz"))


def test_without_a_network_the_way_out_is_named(tmp_path, monkeypatch):
    def offline(*words, **more):
        raise OSError("no route")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(PeersError, match="--privacy-meter"):
        environment.rmia_file(tmp_path)
    with pytest.raises(PeersError, match="no checkout of Privacy Meter"):
        environment.rmia_file(tmp_path, tmp_path)
    (tmp_path / environment.RMIA_FILE).parent.mkdir(parents=True)
    (tmp_path / environment.RMIA_FILE).write_text("another version")
    with pytest.raises(PeersError, match="is not modules/mia"):
        environment.rmia_file(tmp_path, tmp_path)


def test_an_installation_that_failed_is_not_taken_for_one(tmp_path, monkeypatch):
    def failing(command, what):
        raise PeersError(f"cannot {what}: no network")

    monkeypatch.setattr(environment, "_run", failing)
    for _ in range(2):
        with pytest.raises(PeersError, match="cannot make a virtual environment"):
            environment.make_environment(tmp_path)
    done = []

    def working(command, what):
        done.append(what)
        (tmp_path / "environment").mkdir(exist_ok=True)
        return json.dumps([{"name": "Privacy-Meter", "version": "1.0.1"}])

    monkeypatch.setattr(environment, "_run", working)
    for _ in range(2):
        environment.make_environment(tmp_path)
    assert len(done) == 3
    assert environment.versions(tmp_path) == {"privacy-meter": "1.0.1"}


def test_a_victim_is_written_as_a_pair():
    profile = make_profile(50, 100, 20, 1, 2, 4)
    case = Case.parse("alexnet-digits", profile)
    assert [len(case.shadows), len(case.references)] == [2, 4]
    with pytest.raises(PeersError, match="architecture-dataset"):
        Case.parse("alexnet", profile)


def test_what_nobody_knows_ends_with_status_2(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path))
    assert compare_peers.main(["--peers", "nobody"]) == 2
    assert "art_nn" in capsys.readouterr().err
    assert set(PEERS) >= {"art_nn", "art_rf", "art_rule", "art_label_only", "meter_rmia"}
