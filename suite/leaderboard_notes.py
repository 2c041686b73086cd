"""What a reader must know to read a table right: the footnotes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pandas as pd

from suite import published_pi
from suite.record import METRICS, Record

LABELS = {
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "tpr_at_fpr_1e2": "TPR at 1 % FPR",
    "tpr_at_fpr_1e3": "TPR at 0.1 % FPR",
}

_WORST_CASE = (
    "Best attack: the one with the highest AUC on the scored candidates (* among all attacks). It is the"
    " worst case over the attackers that were run; picked on what is scored, it errs upwards."
)
_THRESHOLDS = (
    "TPR at a FPR: members found by the best threshold that accuses at most that share of the non-members."
    " Balanced accuracy: at the attacker's own threshold, set without the candidates."
)
_EXCESS = (
    "Over full_tee: AUC above that of the best attack on full_tee with the same answers, paired on the same"
    " candidates (DeLong)."
)


_PREDICTED = (
    f"{published_pi.TITLE} ms (predicted): nobody's measurement. The deployment's multiply-accumulates on one thread at"
    " the rate that ncnn's published latencies of known networks come to; in brackets the slowest and the fastest of"
    f" these. Left out: {published_pi.LEFT_OUT}."
)


def table_notes(records: Sequence[Record], defenses: pd.DataFrame) -> tuple[str, ...]:
    """The footnotes of one table, in reading order."""
    attacked = any(r.attack for r in records)
    notes = (
        board_note(records[0]),
        _candidates(records) if attacked else "",
        _seeds(records),
        _WORST_CASE if attacked else "",
        _THRESHOLDS if attacked else "",
        _without_tee(records),
        _withheld(records),
        _EXCESS + _unpaired(defenses) if attacked else "",
        _answers_only(records),
        _extraction(records),
        _latency(records),
        _PREDICTED,
        _mixed(records),
    )
    return tuple(note for note in notes if note)


def board_note(record: Record) -> str:
    """What the times of a record's board are, and are not."""
    board = record.cell.board
    if board == "emulated":
        return "Board emulated: times of this machine, with a process for a TEE; not of a Pi, not of OP-TEE."
    if board == "qemu":
        return (
            "Board qemu: real OP-TEE on an emulated processor. Its times are emulated time, not a Pi's: one nanosecond"
            " for any instruction. Ratios within the table compare, microseconds with no other board's."
        )
    return f"Board {board}: times of the board's own clock."


def _candidates(records: Sequence[Record]) -> str:
    sizes = sorted({(r.task.n_members, r.task.n_nonmembers, r.task.n_test) for r in records if r.attack})
    each = (f"{m:,} members and {n:,} non-members scored, {t:,} test images" for m, n, t in sizes)
    return f"A seed has {' or '.join(each)}. Guessing: AUC and balanced accuracy 0.5, TPR = FPR."


def _seeds(records: Sequence[Record]) -> str:
    by_defense: dict[str, set[int]] = defaultdict(set)
    for record in records:
        by_defense[record.cell.defense].add(record.cell.seed)
    seeds = sorted(set().union(*by_defense.values()))
    if len(seeds) == 1:
        return f"One seed ({seeds[0]}): 95 % intervals cover the choice of candidates, not another training."
    lacking = [f"{name} has {len(has)}" for name, has in by_defense.items() if len(has) < len(seeds)]
    fewer = f" Of these {', '.join(lacking)}." if lacking else ""
    numbers = ", ".join(map(str, seeds))
    return (
        f"Means over {len(seeds)} seeds ({numbers}); 95 % intervals hold the error within a seed and the"
        f" spread over seeds (Student's t).{fewer}"
    )


def _without_tee(records: Sequence[Record]) -> str:
    """Say what the public part's accuracy is, and is not, where a defense leaves it an answer."""
    if not any(r.utility.accuracy_without_tee_frac is not None and r.cost.tee_peak_bytes for r in records):
        return ""
    return (
        "Without TEE: accuracy of what the public files answer as they are. Who trains on public features with data of"
        " their own may get more. Shadow models are plain models of the victim's architecture, not of the defense:"
        " an attacker who trains shadows with the defense may do better."
    )


def _withheld(records: Sequence[Record]) -> str:
    reasons: dict[str, str] = {}
    for record in records:
        for name, reason in (record.attack.metrics.withheld if record.attack else {}).items():
            reasons.setdefault(name, reason)
    found = (f"{LABELS[name]} is withheld: {reasons[name]}." for name in METRICS if name in reasons)
    return " ".join(text[0].upper() + text[1:] for text in found)


def _unpaired(defenses: pd.DataFrame) -> str:
    attacked = defenses.best_attack.notna() & ~defenses.defense_spec.str.match(r"full_tee(\[|$)")
    lacking = defenses[attacked & defenses.excess_auc.isna()]
    if lacking.empty:
        return ""
    answers = ", ".join(sorted(set(lacking.policy)))
    return f' "-": there are no scores of full_tee with these answers ({answers}) and seeds.'


def _answers_only(records: Sequence[Record]) -> str:
    """Warn where nobody tried what hidden layers are hidden from."""
    attacks = [r for r in records if r.attack]
    if not attacks or any(set(r.threat.needs) & {"weights", "boundary"} for r in attacks):
        return ""
    return (
        "Every attack here looks at the answers alone. None reads normal-world weights or the tensors that cross, so"
        " hiding layers cannot lower these figures, only hiding answers can; they say nothing of white-box attacks."
    )


def _extraction(records: Sequence[Record]) -> str:
    found = [r for r in records if r.extraction]
    if not found:
        return ""
    infos = [r.extraction for r in found if r.extraction]
    reach = " or ".join(f"{e:g}" for e in sorted({info.epsilon_pixels for info in infos}))
    changed = sorted({info.n_transferred for info in infos})
    many = f"{changed[0]:,}" if len(changed) == 1 else f"{changed[0]:,} to {changed[-1]:,}"
    over = (
        " Over full_tee: fidelity at the largest budget above that of the best extraction from full_tee with the same"
    )
    over += " answers, paired on the test images."
    return (
        f"Extraction, by number of queries: fidelity is the share of the {found[0].task.n_test:,} test images on which"
        " the stolen model says what the deployment says, accuracy the share on which it is right. PGD and FGSM: share"
        f" of {many} images that the deployment gets right, and no longer does when changed by at most {reach} of 255"
        " against the stolen model. The attacker begins with a model of its own, trained on labelled images of its own."
        + over
    )


def _is_emulated_time(records: Sequence[Record]) -> bool:
    return all("emulated time" in str(r.provenance.board.get("mode", "")) for r in records)


def _latency(records: Sequence[Record]) -> str:
    rounds = sorted({r.latency.rounds for r in records if r.latency})
    sessions = sorted({r.latency.sessions for r in records if r.latency})
    if not rounds:
        return "Latency was not measured."
    shown = " or ".join(f"{n:,}" for n in rounds)
    starts = " or ".join(map(str, sessions))
    return (
        f"Latency{', in emulated time' if _is_emulated_time(records) else ''}: median of {shown} rounds in {starts}"
        f" {'start' if sessions == [1] else 'starts'} of both, protected and vanilla in turns in one run; intervals are"
        " taken over starts and rounds; the ratio is over that vanilla. Switch us: the number of switches times the"
        " median empty TEE call."
    )


def _mixed(records: Sequence[Record]) -> str:
    """Versions and machines that differ within a table, since their figures may not compare."""
    versions = sorted({r.provenance.leakboard for r in records})
    cpus = sorted({r.provenance.machine.cpu for r in records if r.latency})
    found = []
    if len(versions) > 1:
        found.append(f"records are of Leakboard {', '.join(versions)}")
    if len(cpus) > 1:
        found.append(f"latency was measured on {', '.join(cpus)}")
    return f"Mixed: {'; '.join(found)}; rows may not compare." if found else ""
