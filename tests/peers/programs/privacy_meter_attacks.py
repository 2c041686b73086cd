"""Privacy Meter's attacks, through their own interfaces: RMIA of its repository, the reference attack of 1.0.1."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from handed import Clock, Probabilities, ask, load, load_file, main

FPR_TOLERANCES = np.concatenate([np.logspace(-6, -2, 400), np.linspace(0.01, 1.0, 991)[1:-1]])


def rmia(folder: Path, clock: Clock) -> np.ndarray:
    """RMIA with the reference models, its parameter tuned on a pair of them as Privacy Meter tunes it.

    Its own pipeline tunes on the victim's complement, a model trained on exactly the non-members: who has that knows
    the truth. Here the first two reference models take that part.
    """
    spec = importlib.util.spec_from_file_location("privacy_meter_rmia", os.environ["PEERS_RMIA_FILE"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handed = load(folder) | load_file(Path(os.environ["PEERS_REFERENCES_FILE"]))
    known = handed["reference_is_member"].T
    victim = Probabilities(folder / "victim.pt2")
    with clock.running():
        of_candidates, of_people = ask(victim, handed["images"]), ask(victim, handed["population"])
        target, people = right(of_candidates, handed["labels"]), right(of_people, handed["population_labels"])
        references = right(handed["reference_answers"], handed["labels"]).T
        reference_people = right(handed["reference_population"], handed["population_labels"]).T
        log = logging.getLogger("rmia")
        tuned, _, _ = module.tune_offline_a(
            0, references, known, references[:, 2:], known[:, 2:], reference_people[:, 1], reference_people[:, 2:], log
        )
        print(f"offline_a = {tuned:.1f}", flush=True)
        return module.run_rmia(target, references, known, people, reference_people, tuned)


def right(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The probability of the true class: [..., N, n_classes] to float64 [..., N]."""
    rows = np.broadcast_to(labels[:, None], (*answers.shape[:-1], 1))
    return np.take_along_axis(answers, rows, -1)[..., 0].astype(np.float64)


@contextmanager
def without_tensorflow() -> Iterator[None]:
    """Import Privacy Meter 1.0.1 where TensorFlow and Opacus are not installed.

    It imports both at its top and uses them for TensorFlow models and for gradients alone. Nothing here has either.
    """
    absent = {name: types.ModuleType(name) for name in ("tensorflow", "opacus")}
    absent["opacus"].GradSampleModule = None
    sys.modules.update(absent)
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def reference(folder: Path, clock: Clock) -> np.ndarray:
    """The reference attack of the release: losses of models that know none of the candidates, a Gaussian each.

    It says "member" or not at a list of tolerated false-positive rates; the score is at how many of them it does.
    All candidates stand in one list, since who is a member is not the attack's to know.
    """
    with without_tensorflow():
        from privacy_meter.dataset import Dataset
        from privacy_meter.hypothesis_test import gaussian_threshold_func
        from privacy_meter.information_source import InformationSource
        from privacy_meter.information_source_signal import ModelLoss
        from privacy_meter.metric import ReferenceMetric
        from privacy_meter.model import Model

    class Asked(Model):
        """A model asked in batches; the package's own PyTorch model takes all images at once."""

        def get_loss(self, batch_samples, batch_labels, per_point=True):
            wide = right(ask(self.model_obj, batch_samples), batch_labels)
            losses = -np.log(np.maximum(wide, 1e-45))
            return losses if per_point else float(losses.mean())

        get_logits = get_grad = get_intermediate_outputs = None

    handed = load(folder)
    splits = {
        "train": {"x": handed["images"], "y": handed["labels"]},
        "test": {"x": handed["population"][:BESIDE], "y": handed["population_labels"][:BESIDE]},
    }
    data = Dataset(splits, "x", "y")
    victim = Asked(Probabilities(folder / "victim.pt2"), None)
    shadows = [Asked(Probabilities(file), None) for file in sorted(folder.glob("shadow*.pt2"))]
    with clock.running():
        metric = ReferenceMetric(
            target_info_source=InformationSource([victim], [data]),
            reference_info_source=InformationSource(shadows, [data]),
            signals=[ModelLoss()],
            hypothesis_test_func=gaussian_threshold_func,
        )
        metric.prepare_metric()
        (result,) = metric.run_metric(FPR_TOLERANCES)
        return result.predicted_labels[:, : len(handed["labels"])].sum(axis=0)


BESIDE = 10  # the attack takes a second list of images; what it says about these is not used

if __name__ == "__main__":
    main({"rmia": rmia, "reference": reference})
