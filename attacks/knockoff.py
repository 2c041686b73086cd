"""Knockoff nets: a surrogate that learns from the deployment's answers."""

import numpy as np
import torch

from suite import ExtractionAttack, Goal, Stolen, View, attack
from suite.held_out import taught
from suite.surrogates import targets_of
from suite.transfer_set import FINE_TUNING, FROM_SCRATCH, TransferSet, at_random, order_of
from suite.view import AdversaryView
from victims.inference import predict
from victims.task import build_model

ROUNDS = 10
_DRAW = 0xADA


@attack("knockoff", goal=Goal.EXTRACTION, needs={View.QUERY, View.AUXILIARY}, variants=({}, {"choice": "adaptive"}))
class Knockoff(ExtractionAttack):
    """Ask for images of one's own, and train a model of one's own on the answers.

    Orekondy et al., "Knockoff Nets: Stealing Functionality of Black-Box Models", CVPR 2019, sections 4.1 (choice of
    images: ``random`` or ``adaptive``) and 4.2 (training, by the cross-entropy of the answered probabilities; a label
    is taken for certain). The surrogate begins as a pre-trained model, as theirs do, or at random with
    ``start=scratch``. It reads answers alone, so it is the black box's bound for attacks that read weights.

    Interpretation: the pre-trained model is the attacker's own of the victim's architecture, trained on labelled images
    of its own, and it learns only as far as answers held back say that it helps. ``adaptive`` is their policy gradient
    over the images' classes, in ten rounds, rewarded by all three of their criteria (certainty of the answer, diversity
    of the answered classes, loss of the surrogate). The loss is that of the surrogate at its beginning: it is trained
    when all is answered, and not after every image.

    ``epochs``: passes over the answered images, 0 for as many as their number asks for; ``rate``: the learning rate at
    its highest, 0 for the better of 1e-4 and 5e-4 from a pre-trained model and 1e-3 from scratch.
    """

    choice: str = "random"
    start: str = "pretrained"
    epochs: int = 0
    rate: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what there is not."""
        if (
            self.choice not in ("random", "adaptive")
            or self.start not in ("pretrained", "scratch")
            or min(self.epochs, self.rate) < 0
        ):
            raise ValueError(
                f"knockoff[choice={self.choice},start={self.start},epochs={self.epochs},rate={self.rate:g}]: choice is"
                " random or adaptive, start is pretrained or scratch, epochs and rate are not negative"
            )

    def wants_pretrained(self) -> bool:
        """Unless it starts from scratch."""
        return self.start == "pretrained"

    def extract(self, view: AdversaryView, budget: int) -> Stolen:
        """Choose, ask, train."""
        if self.start == "pretrained":
            module, rates = view.pretrained, FINE_TUNING
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(view.seed)
                module = build_model(view.architecture, view.input_shape, view.n_classes).eval()
            rates = (FROM_SCRATCH,)
        known = at_random(view, budget) if self.choice == "random" else _adaptively(view, budget, module)
        rates = (self.rate,) if self.rate else rates
        return Stolen(taught(view, known, (module, rates), epochs=self.epochs), view.n_queries)


def _adaptively(view: AdversaryView, budget: int, module: torch.nn.Module) -> TransferSet:
    """A gradient bandit whose arms are the classes of the attacker's images (section 4.1.2)."""
    own, order = view.auxiliary, order_of(view)
    arms = [list(order[own.labels[order] == label]) for label in range(view.n_classes)]
    draw = np.random.default_rng((_DRAW, view.seed))
    worth, mean_reward = np.zeros(len(arms)), 0.0
    counts = np.zeros(view.n_classes)
    budget = min(budget, len(own))
    images, answers = [], []
    for done, asked in enumerate(np.array_split(np.arange(budget), min(ROUNDS, budget)), 1):
        shares = np.exp(worth - worth.max()) * [bool(arm) for arm in arms]
        chosen = []
        for _ in asked:
            left = shares * [bool(arm) for arm in arms]
            left = left if left.sum() > 0 else np.array([float(bool(arm)) for arm in arms])
            chosen.append(arms[draw.choice(len(arms), p=left / left.sum())].pop(0))
        images.append(own.images[chosen])
        answers.append(view.query(images[-1]))
        told = targets_of(answers[-1], view.n_classes).astype(np.float64)
        counts += told.sum(axis=0)
        largest = np.sort(told, axis=1)
        certainty = largest[:, -1] - largest[:, -2]
        diversity = 1.0 - (told * (counts / counts.sum())).sum(axis=1)
        loss = -(told * np.log(np.maximum(predict(module, images[-1]), 1e-12))).sum(axis=1)
        rewards = np.mean([_scaled(part) for part in (certainty, diversity, loss)], axis=0)
        mean_reward += (float(rewards.mean()) - mean_reward) / done
        shares = shares / shares.sum() if shares.sum() > 0 else np.full(len(arms), 1 / len(arms))
        for label, reward in zip(own.labels[chosen], rewards, strict=True):
            step = (reward - mean_reward) * (np.eye(len(arms))[label] - shares)
            worth = worth + step * len(arms) / len(chosen)
    answered = np.concatenate(answers)
    return TransferSet(np.concatenate(images), answered, view.n_classes)


def _scaled(values: np.ndarray) -> np.ndarray:
    """From 0 to 1 over a round, as the paper's rewards are."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
