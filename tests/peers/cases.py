"""What is compared: victims, and the models that both sides' attackers may use."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from suite.models import Role, TrainJob
from suite.profiles import Profile
from suite.provenance import hash_json
from victims.data.splits import SplitSizes

VICTIMS = ("alexnet-cifar10", "alexnet-cifar100", "resnet20-cifar10")
MEMBERS = 5000


class PeersError(RuntimeError):
    """The comparison cannot go on; says why and what to do."""


def make_profile(members: int, auxiliary: int, test: int, epochs: int, shadows: int, references: int) -> Profile:
    """One scale for all victims. Epochs are multiplied by a recipe's own factor."""
    sizes = SplitSizes(members=members, auxiliary=auxiliary, test=test)
    return Profile("peers", (), sizes, epochs, shadows, 16, references=references)


@dataclass(frozen=True, slots=True)
class Case:
    """One victim and the attacker's models: shadows on auxiliary images, reference models on halves of the pool."""

    victim: TrainJob

    @classmethod
    def parse(cls, text: str, profile: Profile, seed: int = 0) -> Case:
        """Read ``architecture-dataset``.

        Raises:
            PeersError: the text is no such pair.
        """
        architecture, dash, dataset = text.partition("-")
        if not (architecture and dash and dataset):
            raise PeersError(f"cannot read the victim {text!r}: write architecture-dataset, as in {VICTIMS[0]}")
        return cls(TrainJob(architecture, dataset, profile, seed))

    @property
    def name(self) -> str:
        """For tables and folders."""
        return f"{self.victim.architecture}-{self.victim.dataset}"

    @property
    def shadows(self) -> tuple[TrainJob, ...]:
        """Models on the attacker's own images, which ART's attacks and some of ours learn from."""
        return self._others(Role.SHADOW, self.victim.profile.shadows)

    @property
    def references(self) -> tuple[TrainJob, ...]:
        """Models on halves of the candidates, which RMIA and LiRA compare the victim with."""
        return self._others(Role.REFERENCE, self.victim.profile.references)

    def _others(self, role: Role, n: int) -> tuple[TrainJob, ...]:
        return tuple(dataclasses.replace(self.victim, role=role, index=i) for i in range(n))

    def key(self) -> str:
        """Hex, of the victim and the shadows: what most scores depend on, the attacks apart."""
        return _key(self.victim, *self.shadows)

    def references_key(self) -> str:
        """Hex, of the reference models."""
        return _key(*self.references)


def _key(*jobs: TrainJob) -> str:
    return hash_json([job.key().digest for job in jobs])[:12]
