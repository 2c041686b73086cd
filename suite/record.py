"""One record a cell: what was run, what came out, on what. docs/records.md explains every field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from suite.estimate import Estimate

SCHEMA = 5


class RecordError(ValueError):
    """A record that cannot be read or written; names the file and the field."""


@dataclass(frozen=True, slots=True)
class CellInfo:
    """Which cell of the matrix: the combination that was run."""

    id: str
    victim: str
    dataset: str
    defense: str
    defense_spec: str
    measure: str
    measure_spec: str
    board: str
    profile: str
    seed: int


@dataclass(frozen=True, slots=True)
class ThreatInfo:
    """What the deployment showed and what the attack asked to see (names of ``suite.model.View``)."""

    policy: str
    shows: tuple[str, ...]
    needs: tuple[str, ...]
    goal: str


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """The data: sizes of the disjoint splits, and what identifies them."""

    input_shape: tuple[int, int, int]
    n_classes: int
    n_members: int
    n_nonmembers: int
    n_auxiliary: int
    n_test: int
    dataset_fingerprint: str
    dataset_source: str
    splits_fingerprint: str


@dataclass(frozen=True, slots=True)
class VictimInfo:
    """The trained model, measured in PyTorch."""

    key: str
    parameters: int
    epochs: int
    precision: str
    recipe: Mapping[str, object]
    train_accuracy_frac: float
    test_accuracy_frac: float


@dataclass(frozen=True, slots=True)
class UtilityInfo:
    """The deployed model on the test images, through the board; and what its public part answers alone.

    ``accuracy_without_tee_frac``: None where the public part alone gives no answer.
    """

    accuracy_frac: float
    accuracy_loss_frac: float
    accuracy_without_tee_frac: float | None


@dataclass(frozen=True, slots=True)
class LearningInfo:
    """What a defense that learns has learned about the victim. ``about`` is its own account."""

    key: str
    epochs: int
    seconds: float
    values: int
    about: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ParityInfo:
    """How far the deployed model's answers are from PyTorch's on the same images."""

    max_abs_error: float
    max_rel_error: float
    label_agreement_frac: float
    n_images: int


@dataclass(frozen=True, slots=True)
class CostInfo:
    """What a query costs in switches, bytes and memory; counted, not timed."""

    switches_per_query: int
    bytes_to_tee: int
    bytes_from_tee: int
    ree_bytes: int
    tee_peak_bytes: int
    tee_limit_bytes: int
    shared_bytes: int
    tee_planned_bytes: int
    tee_flops_frac: float
    ree_macs: int
    tee_macs: int
    int8_macs: int


@dataclass(frozen=True, slots=True)
class MedianInfo:
    """A median and the ends of its 95 % bootstrap interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LatencyInfo:
    """Times of one query, microseconds on the board's clock; vanilla ran interleaved in the same session."""

    rounds: int
    sessions: int
    vanilla_us: MedianInfo
    protected_us: MedianInfo
    ratio: Estimate
    ree_us: float
    tee_us: float
    switch_us: float


@dataclass(frozen=True, slots=True)
class EnergyInfo:
    """Energy that a query of the protected deployment takes above what the idle board takes.

    ``source``: "measured" by ``meter``, or "modelled" from published power (``meter`` is "none" then). ``idle_mw`` and
    ``busy_mw``: the powers used; ``n_queries``: run while measuring, 0 where nothing was; ``basis``: how, in words.
    """

    source: Literal["measured", "modelled"]
    per_query_uj: Estimate
    meter: str
    idle_mw: float
    busy_mw: float
    n_queries: int
    basis: str


@dataclass(frozen=True, slots=True)
class MetricsInfo:
    """Membership metrics. A metric that is None stands in ``withheld`` with the reason, the others do not.

    Raises:
        RecordError: a metric is None without a reason, or has both a value and a reason.
    """

    auc: Estimate | None
    balanced_accuracy: Estimate | None
    tpr_at_fpr_1e2: Estimate | None
    tpr_at_fpr_1e3: Estimate | None
    withheld: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = {name for name in METRICS if getattr(self, name) is None}
        if missing != set(self.withheld):
            odd = ", ".join(sorted(missing ^ set(self.withheld)))
            raise RecordError(f"withheld must give a reason for each metric that is null and no other; see {odd}")


METRICS = ("auc", "balanced_accuracy", "tpr_at_fpr_1e2", "tpr_at_fpr_1e3")


@dataclass(frozen=True, slots=True)
class AttackInfo:
    """How the attack went. ``threshold``: at or above this score it says "member".

    ``n_queries``: images that the deployment was asked for; ``n_references``: reference models, which know half of the
    candidates each, beside ``n_shadows``, which know none.
    """

    shadow_architecture: str | None
    n_shadows: int
    n_references: int
    n_queries: int
    threshold: float
    threshold_source: Literal["attack", "shadows", "references"]
    metrics: MetricsInfo


@dataclass(frozen=True, slots=True)
class ExtractionPoint:
    """What was stolen with one budget. Estimates are shares of images.

    ``accuracy``: the stolen model on the test images; ``fidelity``: how often it gives the class that the deployment
    gives; ``transfer_fgsm`` and ``transfer_pgd``: how often the deployment errs on adversarial examples made on the
    stolen model, of images that it got right before, None where it got none right.
    """

    budget: int
    n_queries: int
    accuracy: Estimate
    fidelity: Estimate
    transfer_fgsm: Estimate | None
    transfer_pgd: Estimate | None


@dataclass(frozen=True, slots=True)
class ExtractionInfo:
    """How the extraction went: one point a budget, the smallest first.

    ``shadow_architecture``: of the attacker's own pre-trained model, None where it has none; ``epsilon_pixels``: the
    largest change of a pixel value (0 to 255) in an adversarial example; ``n_transferred``: images changed.

    Raises:
        RecordError: there is no point, or budgets do not rise.
    """

    shadow_architecture: str | None
    epsilon_pixels: float
    n_transferred: int
    points: tuple[ExtractionPoint, ...]

    def __post_init__(self) -> None:
        budgets = [point.budget for point in self.points]
        if not budgets or budgets != sorted(set(budgets)):
            raise RecordError(f"points must be of rising budgets, at least one, not {budgets}")


@dataclass(frozen=True, slots=True)
class ExposedLayer:
    """One layer of the victim, whether it lies open or not. ``number`` counts layers with parameters, from 1.

    ``exposure`` is None where ``withheld`` says why. ``private_gap_nats``, ``reference_gap_nats``: generalization
    errors of the two models of equation 4. ``public_frac``: how much of the layer the public file holds; ``is_open``:
    whether that is enough to count.
    """

    number: int
    layer: str
    parameters: int
    exposure: Estimate | None
    withheld: str
    private_gap_nats: float
    reference_gap_nats: float
    public_frac: float
    is_open: bool


@dataclass(frozen=True, slots=True)
class ExposureInfo:
    """How exposed the layers are that a deployment leaves in the normal world.

    ``most``: the highest exposure of an open layer, ``mean``: the mean over open layers; 0 when none is open, None
    where that of an open layer is withheld.
    """

    most: Estimate | None
    mean: Estimate | None
    layers: tuple[ExposedLayer, ...]


@dataclass(frozen=True, slots=True)
class ScoresFile:
    """Where the raw scores lie, relative to the record's own folder, and their SHA-256 in hex."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class MachineInfo:
    """The machine that ran the suite (the board may be another)."""

    cpu: str
    cores: int
    os: str


@dataclass(frozen=True, slots=True)
class ProvenanceInfo:
    """What it takes to tell whether two records may be compared, and to repeat one."""

    leakboard: str
    code: Mapping[str, str]
    keys: Mapping[str, str]
    python: str
    torch: str
    numpy: str
    machine: MachineInfo
    board: Mapping[str, str | int]
    created_utc: str
    seconds: Mapping[str, float]
    attempts: int
    incidents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """All that is kept of one cell.

    ``latency`` is set when ``cell.measure`` is "latency", else what ``threat.goal`` asks for: ``extraction``,
    ``exposure``, or else ``attack``. ``energy`` may stand beside ``latency``.

    Raises:
        RecordError: not exactly that one of the four is set which measure and goal ask for, or there is an energy of a
            cell that was not timed.
    """

    schema: int
    cell: CellInfo
    threat: ThreatInfo
    task: TaskInfo
    victim: VictimInfo
    learning: LearningInfo | None
    utility: UtilityInfo
    parity: ParityInfo
    cost: CostInfo
    latency: LatencyInfo | None
    energy: EnergyInfo | None
    attack: AttackInfo | None
    extraction: ExtractionInfo | None
    exposure: ExposureInfo | None
    scores: ScoresFile | None
    provenance: ProvenanceInfo

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise RecordError(f"schema {self.schema} is not {SCHEMA}, the one this version reads; run the cell again")
        wanted = self.outcome
        names = ("latency", "attack", "extraction", "exposure")
        if [name for name in names if getattr(self, name) is not None] != [wanted]:
            others = " and ".join(repr(name) for name in names if name != wanted)
            raise RecordError(f"measure {self.cell.measure!r} needs {wanted!r} set, and {others} null")
        if self.energy is not None and wanted != "latency":
            raise RecordError(f"measure {self.cell.measure!r} needs 'energy' null: only latency cells have one")

    @property
    def outcome(self) -> str:
        """The name of the field that says what came out."""
        if self.cell.measure == "latency":
            return "latency"
        return self.threat.goal if self.threat.goal in ("extraction", "exposure") else "attack"


@dataclass(frozen=True, slots=True)
class AttackScores:
    """Raw scores of an attack, one a candidate.

    ``scores`` float64 [N], higher means member; ``is_member`` bool [N], the truth; ``candidates`` int64 [N],
    indices into the data set.
    """

    scores: NDArray[np.float64]
    is_member: NDArray[np.bool_]
    candidates: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not self.scores.shape == self.is_member.shape == self.candidates.shape == (len(self.scores),):
            shapes = (self.scores.shape, self.is_member.shape, self.candidates.shape)
            raise RecordError(f"scores, is_member and candidates must be [N] of one length, not {shapes}")


@dataclass(frozen=True, slots=True)
class LatencySamples:
    """Raw times, int64 nanoseconds on the board's clock.

    ``vanilla_ns`` and ``protected_ns`` [rounds] ran in turns, so equal positions are neighbours in time;
    ``invoke_ns`` [rounds], the part of ``protected_ns`` in TEE calls; ``noop_ns`` [calls], empty TEE calls.
    ``session`` [rounds] numbers the starts of the two deployments: rounds of one number share theirs.
    """

    vanilla_ns: NDArray[np.int64]
    protected_ns: NDArray[np.int64]
    invoke_ns: NDArray[np.int64]
    noop_ns: NDArray[np.int64]
    session: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StolenAnswers:
    """Raw answers of an extraction, classes as int64: B budgets, T test images, K of them changed.

    ``budgets`` and ``queries`` [B]; ``labels`` [T], the truth, ``deployed`` [T], what the deployment says, and
    ``stolen`` [B, T], what the stolen models say; ``images`` [T], indices into the data set. ``changed`` [K] are the
    positions of the images that were changed, ``fgsm`` and ``pgd`` [B, K] what the deployment says of them then.
    """

    budgets: NDArray[np.int64]
    queries: NDArray[np.int64]
    labels: NDArray[np.int64]
    deployed: NDArray[np.int64]
    stolen: NDArray[np.int64]
    images: NDArray[np.int64]
    changed: NDArray[np.int64]
    fgsm: NDArray[np.int64]
    pgd: NDArray[np.int64]

    def __post_init__(self) -> None:
        b, t, k = len(self.budgets), len(self.labels), len(self.changed)
        wanted = {"queries": (b,), "deployed": (t,), "images": (t,), "stolen": (b, t), "fgsm": (b, k), "pgd": (b, k)}
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise RecordError(f"{name} must be {list(shape)}, not {list(getattr(self, name).shape)}")


@dataclass(frozen=True, slots=True)
class ExposureSamples:
    """Raw losses of a measurement of exposure, float32 [layers, n] nats: rows as ``ExposureInfo.layers``.

    The four arrays of losses as in ``suite.exposure_model.LayerLosses``. ``seen`` and ``unseen`` int64 [n]: the images,
    indices into the data set.
    """

    private_seen: NDArray[np.float32]
    private_unseen: NDArray[np.float32]
    reference_seen: NDArray[np.float32]
    reference_unseen: NDArray[np.float32]
    seen: NDArray[np.int64]
    unseen: NDArray[np.int64]


Scores = AttackScores | LatencySamples | StolenAnswers | ExposureSamples
