"""What a cell of the matrix says of exposure: the layers of the victim, and which of them a deployment leaves open."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from suite.deploying import Laid
from suite.estimate import Estimate
from suite.exposure import FIELDS, ExposureJob, exposures, mean_exposure
from suite.exposure_model import LayerLosses
from suite.graph.parse import parse_file
from suite.likeness import is_open, likeness
from suite.owning import trained_victim
from suite.record import ExposedLayer, ExposureInfo, ExposureSamples
from suite.store import Store

NOTHING = Estimate(0.0, 0.0, 0.0)
"""The exposure of a deployment that leaves no layer open."""


def expose(store: Store, laid: Laid, jobs: Sequence[ExposureJob]) -> tuple[ExposureInfo, ExposureSamples]:
    """Figures and raw losses of one deployment of one victim."""
    victim = jobs[0].victim
    found, losses = exposures(store, jobs)
    public = [segment.graph for segment in parse_file(laid.files.public).as_segments()]
    shares = likeness(trained_victim(store, victim).graph, public)
    layers = tuple(
        ExposedLayer(
            number=one.number,
            layer=one.layer,
            parameters=one.parameters,
            exposure=one.exposure,
            withheld=one.withheld,
            private_gap_nats=one.private_gap,
            reference_gap_nats=one.reference_gap,
            public_frac=shares[job.layer],
            is_open=is_open(shares[job.layer]),
        )
        for job, one in zip(jobs, found, strict=True)
    )
    splits = victim.material().splits
    samples = ExposureSamples(
        **{name: np.stack([getattr(one, name) for one in losses]) for name in FIELDS},
        seen=np.asarray(splits.members),
        unseen=np.asarray(splits.nonmembers),
    )
    return summary(layers, losses, seed=victim.seed), samples


def summary(layers: Sequence[ExposedLayer], losses: Sequence[LayerLosses], *, seed: int) -> ExposureInfo:
    """Highest and mean exposure of the open layers; ``losses`` belong to ``layers``, one each."""
    visible = [place for place, layer in enumerate(layers) if layer.is_open]
    known = [e for place in visible if (e := layers[place].exposure) is not None]
    if not visible:
        return ExposureInfo(NOTHING, NOTHING, tuple(layers))
    if len(known) < len(visible):
        return ExposureInfo(None, None, tuple(layers))
    mean = mean_exposure([losses[place] for place in visible], seed=seed)
    return ExposureInfo(max(known, key=lambda e: e.value), mean, tuple(layers))


def losses_of(samples: ExposureSamples) -> tuple[LayerLosses, ...]:
    """The raw losses layer by layer."""
    return tuple(
        LayerLosses(**{name: getattr(samples, name)[row] for name in FIELDS})
        for row in range(len(samples.private_seen))
    )
