"""The data and base classes of exposure measurements: what a layer holds of the images that a model was trained on."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from suite.attack_model import AnyAttack
from suite.model import LabelledImages, OnProgress, Victim

Losses = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LayerLosses:
    """Cross entropy in nats of single images under the two models that are made for one layer, float32 [n] each.

    ``private``: of the model with the layer fine-tuned on the images that it was trained on (M_p of Mo et al. 2019);
    ``reference``: of the one with the layer fine-tuned on these and as many others (M_r). ``seen`` are the images that
    the victim was trained on, ``unseen`` the others, both in the order in which they were given.

    Raises:
        ValueError: an array is not float32 [n] of finite numbers, or one model was shown other images than the other.
    """

    private_seen: Losses
    private_unseen: Losses
    reference_seen: Losses
    reference_unseen: Losses

    def __post_init__(self) -> None:
        for field in fields(self):
            array = getattr(self, field.name)
            if array.dtype != np.float32 or array.ndim != 1 or not len(array) or not np.isfinite(array).all():
                raise ValueError(f"losses {field.name} must be finite float32 [n], not {array.dtype} {array.shape}")
        if (self.private_seen.shape, self.private_unseen.shape) != (
            self.reference_seen.shape,
            self.reference_unseen.shape,
        ):
            raise ValueError("both models of a layer must be shown the same images")


class ExposureAttack(AnyAttack):
    """A measurement of how much single layers hold of the images that a model was trained on.

    No adversary's: it is made with all that the owner of the model has, and tells which layers to hide. Its cells show
    the figures of those layers that a defense leaves in the normal world. It stands among the attacks because it is
    what a perfect reader of one layer could gain. It needs to be shown nothing.
    """

    @abstractmethod
    def measure(
        self,
        victim: Victim,
        unseen: LabelledImages,
        layer: str,
        seed: int,
        scratch: Path,
        on_progress: OnProgress | None = None,
    ) -> LayerLosses:
        """Measure one layer, a node of ``victim.graph`` with parameters. Must be deterministic under ``seed``.

        ``unseen`` are images that the victim was not trained on, as many as ``victim.members``. ``scratch`` is a folder
        for checkpoints, which the next attempt finds again after an interruption; call ``on_progress`` every epoch.
        """
