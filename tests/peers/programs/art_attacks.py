"""The Adversarial Robustness Toolbox's membership attacks, through its public interface, as it recommends them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from art.attacks.inference.membership_inference import (
    LabelOnlyDecisionBoundary,
    MembershipInferenceBlackBox,
    MembershipInferenceBlackBoxRuleBased,
)
from art.estimators.classification import PyTorchClassifier
from handed import Clock, Probabilities, load, main

WALK = {"norm": 2, "max_iter": 10, "max_eval": 1000, "init_eval": 100, "init_size": 100, "verbose": False}
"""Of HopSkipJump. ART's own 50 iterations and 10,000 evaluations take minutes for one image."""


def classifier(folder: Path, model: str, images: np.ndarray, n_classes: int) -> PyTorchClassifier:
    return PyTorchClassifier(
        Probabilities(folder / f"{model}.pt2"),
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=images.shape[1:],
        nb_classes=n_classes,
        clip_values=(float(images.min()), float(images.max())),
        device_type="cpu",
    )


def black_box(kind: str, folder: Path, clock: Clock) -> np.ndarray:
    """Learned from what the attacker's shadow models answer for the images they know and do not know."""
    handed = load(folder)
    images, n_classes = handed["images"], handed["answers"].shape[1]
    victim = classifier(folder, "victim", images, n_classes)
    inside = handed["shadow_is_member"].reshape(-1)
    answers = handed["shadow_answers"].reshape(-1, n_classes)
    labels = handed["shadow_labels"].reshape(-1)
    with clock.running():
        attack = MembershipInferenceBlackBox(victim, attack_model_type=kind)
        attack.fit(y=labels[inside], test_y=labels[~inside], pred=answers[inside], test_pred=answers[~inside])
        return attack.infer(images, handed["labels"], probabilities=True)


def rule_based(folder: Path, clock: Clock) -> np.ndarray:
    """Right answers are members'."""
    handed = load(folder)
    victim = classifier(folder, "victim", handed["images"], handed["answers"].shape[1])
    with clock.running():
        return MembershipInferenceBlackBoxRuleBased(victim).infer(handed["images"], handed["labels"])


def label_only(folder: Path, clock: Clock) -> np.ndarray:
    """The distance to the decision boundary, on a subset; its threshold from a shadow model, as ART's examples do.

    The score is the sigmoid of distance minus threshold: with a threshold that was given, ART keeps no coarser bins.
    """
    handed = load(folder)
    images, labels = handed["images"][handed["subset"]], handed["labels"][handed["subset"]]
    n_classes = handed["answers"].shape[1]
    own, own_labels, known = handed["walk_images"], handed["walk_labels"], handed["walk_is_member"]
    shadow = LabelOnlyDecisionBoundary(classifier(folder, "shadow0", handed["images"], n_classes))
    victim = classifier(folder, "victim", handed["images"], n_classes)
    with clock.running():
        shadow.calibrate_distance_threshold(own[known], own_labels[known], own[~known], own_labels[~known], **WALK)
        print(f"threshold {shadow.distance_threshold_tau:.4f} from {len(own)} images of a shadow model", flush=True)
        attack = LabelOnlyDecisionBoundary(victim, distance_threshold_tau=float(shadow.distance_threshold_tau))
        return attack.infer(images, labels, probabilities=True, **WALK)[:, 1]


if __name__ == "__main__":
    main(
        {
            "nn": lambda folder, clock: black_box("nn", folder, clock),
            "rf": lambda folder, clock: black_box("rf", folder, clock),
            "rule": rule_based,
            "label_only": label_only,
        }
    )
