"""Our output attacks beside those of ART and Privacy Meter: ``python tests/compare_peers.py``; see docs/peers.md.

Same victims, same candidates, same auxiliary data, same shadow and reference models. The peers are installed into an
environment of their own in the cache. What is trained, asked or scored is kept: a run that was stopped goes on.

Exit status: 0 ours is not below theirs; 1 it is, beyond the interval, or not as fast as it must be; 2 something could
not be compared; 130 stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from peers import environment, table  # noqa: E402
from peers.cases import MEMBERS, VICTIMS, Case, PeersError, make_profile  # noqa: E402
from peers.export import export, export_references, subset  # noqa: E402
from peers.ours import (  # noqa: E402
    answers_of,
    counterpart,
    needs_references,
    output_attacks,
    run_on_subset,
    run_ours,
)
from peers.theirs import METER, PEERS, Peer, run_peer  # noqa: E402

from device.board import BoardError  # noqa: E402
from device.cache import cache_root  # noqa: E402
from suite import pool, progress  # noqa: E402
from suite.boards import make_board  # noqa: E402
from suite.provenance import hash_arrays  # noqa: E402
from suite.registry import Kind, PluginError, discover  # noqa: E402
from suite.spec import parse_list  # noqa: E402
from suite.store import Store, StoreError  # noqa: E402
from victims.data.errors import DataError  # noqa: E402


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--victims", default=",".join(VICTIMS), help="architecture-dataset, separated by commas (%(default)s)")
    add("--peers", default=",".join(PEERS), help="which of theirs (%(default)s)")
    add("--ours", help="which of ours, as the suite writes attacks; all that see outputs alone, if not given")
    add("--members", type=int, default=MEMBERS, help="training images of a victim (%(default)s)")
    add("--auxiliary", type=int, default=20000, help="images of the attacker's own (%(default)s)")
    add("--test", type=int, default=2000, help="images that accuracy is measured on (%(default)s)")
    add("--epochs", type=int, default=25, help="times a recipe's own factor (%(default)s)")
    add("--shadows", type=int, default=4, help="models trained on auxiliary images (%(default)s)")
    add("--references", type=int, default=8, help="models trained on halves of the candidates (%(default)s)")
    add("--walked", type=int, default=200, help="candidates for attacks that are too slow for all (%(default)s)")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1, help="of each attack, ours and theirs (%(default)s)")
    add("--workers", type=int, help="trainings side by side; one a core, if not given")
    add("--limit-min", type=float, default=60.0, help="minutes a peer's attack may take (%(default)s)")
    add("--find-links", type=Path, help="a folder with wheels of the peers")
    add("--privacy-meter", type=Path, help="a checkout of Privacy Meter's repository, for RMIA")
    return parser.parse_args(words)


def compare(case: Case, asked: argparse.Namespace, peers: Sequence[Peer], python: Path, rmia: Path | None) -> list[str]:
    """Run one victim's comparison and print it. What is not as it must be, one line each."""
    store, board, root = Store(), make_board("emulated"), cache_root() / "peers"
    architecture = case.victim.architecture
    specs = parse_list(Kind.ATTACK, asked.ours) if asked.ours else output_attacks(architecture)
    walks = [like for peer in peers if peer.on_subset and (like := counterpart(peer.same)) and not asked.ours]
    with_references = any(p.references for p in peers) or any(needs_references(spec) for spec in [*specs, *walks])
    trained = (case.victim, *case.shadows, *(case.references if with_references else ()))
    pool.ensure(store, trained, workers=asked.workers)
    evaluation = answers_of(case, store, board)
    name = f"{case.name}-{case.key()}-{hash_arrays([evaluation.candidates])[:8]}-{asked.walked}"
    handed, results = root / "handed" / name, root / "results" / name
    export(case, store, evaluation.candidates, asked.walked, handed)
    ours = run_ours(case, store, board, specs, results, asked.threads)
    places = subset(case.victim.material().is_member, asked.walked)
    ours += [run_on_subset(case, store, board, like, results, asked.threads, places) for like in walks]
    theirs, amiss = [], []
    for peer in peers:
        try:
            files, kept = {}, results
            if peer.references:
                files["PEERS_REFERENCES_FILE"] = export_references(case, store, handed)
                kept = results / case.references_key()
            if rmia is not None:
                files["PEERS_RMIA_FILE"] = rmia
            limit_s = 60 * asked.limit_min
            theirs.append(run_peer(peer, python, handed, kept, limit_s=limit_s, threads=asked.threads, files=files))
        except PeersError as error:
            amiss.append(f"not compared: {error}")
    material = case.victim.material()
    n, threads = len(material.is_member) // 2, asked.threads
    n_references = len(case.references) if with_references else 0
    title = (
        f"{case.name}: {n} members and {n} non-members, {len(case.shadows)} shadow and {n_references} reference models,"
        f" {threads} thread{'s' if threads > 1 else ''}; test accuracy {evaluation.about['accuracy_frac']:.3f}"
    )
    print("\n" + table.render(title, ours, theirs, material.is_member) + "\n")
    for verdict in table.verdicts(ours, theirs, material.is_member):
        print(f"{'ok ' if verdict.met else 'NO '} {verdict.text}")
        if not verdict.met:
            amiss.append(f"not met: {verdict.text}")
    for line in amiss:
        print(line, file=sys.stderr, flush=True)
    return amiss


def main(words: Sequence[str] | None = None) -> int:
    """Compare all victims that were asked for; the exit status."""
    asked = arguments(words)
    try:
        discover()
        unknown = [name for name in asked.peers.split(",") if name not in PEERS]
        if unknown:
            raise PeersError(f"unknown peer {unknown[0]!r}: there are {', '.join(PEERS)}")
        peers = [PEERS[name] for name in asked.peers.split(",")]
        sizes = (asked.members, asked.auxiliary, asked.test, asked.epochs, asked.shadows, asked.references)
        cases = [Case.parse(text, make_profile(*sizes), asked.seed) for text in asked.victims.split(",")]
        root = cache_root() / "peers"
        rmia = environment.rmia_file(root, asked.privacy_meter) if any(p.attack == "rmia" for p in peers) else None
        python = environment.make_environment(root, asked.find_links)
        have = environment.versions(root)
        print(f"theirs: {', '.join(f'{name} {have.get(name)}' for name in dict.fromkeys(p.package for p in peers))}")
        if any(peer.package == METER for peer in peers):
            print(f"RMIA: Privacy Meter's repository at {environment.RMIA_COMMIT[:12]}, no release has it")
        amiss = [line for case in cases for line in compare(case, asked, peers, python, rmia)]
    except (PeersError, PluginError, StoreError, DataError, BoardError, ValueError) as error:
        print(f"compare_peers: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; what was done is kept, the same command goes on", file=sys.stderr)
        return 130
    if any(line.startswith("not met") for line in amiss):
        return 1
    return 2 if amiss else 0


if __name__ == "__main__":
    with progress.sink(progress.to_stderr):
        sys.exit(main())
