"""``leakboard finetune``: takes the parsed options, returns the exit status."""

from __future__ import annotations

import argparse
import dataclasses
import secrets
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tabulate import tabulate

from device.board import Board, BoardError, DeploymentFiles
from device.owner import OwnerKey
from device.sealing import key_to_pem
from suite.boards import BOARDS, SSH_FORM, make_board
from suite.commands import load_plugins
from suite.deploying import deployed, trained_victim
from suite.files import read_file, write_file
from suite.finetuning import FineTuned, FineTuning, finetune, write_trainable
from suite.graph.dropouts import dropouts_of
from suite.model import Deployment, LabelledImages, OnDeviceTraining
from suite.models import TrainJob
from suite.policy import classes
from suite.profiles import PROFILES, get_profile
from suite.registry import Kind, PluginError
from suite.spec import parse
from suite.store import Store

MODEL_ID_BYTES = 16


def add_finetune(add: Callable[[str, Callable[[Namespace], int], str], argparse.ArgumentParser]) -> None:
    """Add ``finetune`` to the command line."""
    sub = add("finetune", run, "train a deployment further on a board, its hidden layers inside the TEE")
    sub.add_argument("victim")
    sub.add_argument("defense", help='for example "darknetz[k=2]"')
    sub.add_argument("--profile", default="quick", help=f"{', '.join(PROFILES)} (default: %(default)s)")
    sub.add_argument("--dataset", help="default: the profile's first")
    sub.add_argument("--board", default="emulated", help=f"{', '.join(BOARDS)} or {SSH_FORM} (default: %(default)s)")
    sub.add_argument("--tee-mib", type=float, help="the TEE's memory limit (default: the board's)")
    sub.add_argument("--images", type=int, default=500, help="to train on: new to the model (default: %(default)s)")
    sub.add_argument("--epochs", type=int, default=1, help="default: %(default)s")
    sub.add_argument("--batch", type=int, default=50, help="default: %(default)s")
    sub.add_argument("--learning-rate", type=float, default=0.001, help="default: %(default)s")
    sub.add_argument("--momentum", type=float, default=0.9, help="default: %(default)s")
    sub.add_argument("--weight-decay", type=float, default=0.0, help="default: %(default)s")
    sub.add_argument("--seed", type=int, default=0, help="of victim, batches and dropouts (default: %(default)s)")
    sub.add_argument("--owner-key", type=Path, metavar="PEM", help="whom the tuned layers are sealed to")
    sub.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="keep the tuned deployment here")
    sub.add_argument("--plugin", action="append", default=[], metavar="FILE", type=Path, help="load a loose file")


def run(options: Namespace) -> int:
    """Fine-tune, and print what it gained and what it cost."""
    load_plugins(options.plugin)
    how = _how(options)
    specs = parse(Kind.DEFENSE, options.defense)
    if len(specs) != 1:
        raise PluginError(f"{options.defense!r} stands for {len(specs)} variants: name one, such as {specs[0].text!r}")
    owner = OwnerKey.from_pem(read_file(options.owner_key)) if options.owner_key else OwnerKey.generate()
    board = make_board(options.board, options.tee_mib)
    try:
        profile = dataclasses.replace(get_profile(options.profile), queries=board.most_queries)
        job = TrainJob(options.victim, options.dataset or profile.datasets[0], profile, options.seed)
        deployment = _trainable(deployed(store := Store(), specs[0], job), store, job)
        pool = job.material().auxiliary
        if not 1 <= options.images <= len(pool):
            raise ValueError(f"--images {options.images}: the profile has 1 to {len(pool)} for this")
        data = LabelledImages(pool.images[: options.images], pool.labels[: options.images])
        with tempfile.TemporaryDirectory(prefix="leakboard-") as folder:
            files = write_trainable(Path(folder), deployment, secrets.token_bytes(MODEL_ID_BYTES), owner.public)
            before = _accuracy(board, files, job.material().queried_test)
            tuned = finetune(board, deployment, files, data, how)
            after = _accuracy(board, _unsealed(Path(folder), tuned, owner), job.material().queried_test)
    finally:
        board.close()
    print(f"{specs[0].text} on {job}, board {options.board}: {how.epochs} epochs over {len(data)} images\n")
    print(_table(deployment, tuned, before, after))
    if options.output:
        _keep(options.output, tuned, None if options.owner_key else owner)
    return 0


def _how(options: Namespace) -> FineTuning:
    if options.epochs < 1 or options.batch < 1:
        raise ValueError(f"--epochs {options.epochs} --batch {options.batch}: at least 1 each")
    return FineTuning(
        options.epochs, options.batch, options.learning_rate, options.momentum, options.weight_decay, options.seed
    )


def _trainable(deployment: Deployment, store: Store, job: TrainJob) -> Deployment:
    if deployment.training is not None:
        return deployment
    victim = trained_victim(store, job)
    dropouts = dropouts_of(victim.module, victim.input_shape, victim.graph)
    return dataclasses.replace(deployment, training=OnDeviceTraining(dropouts))


def _accuracy(board: Board, files: DeploymentFiles, test: LabelledImages) -> float:
    with board.open(files) as session:
        outputs = session.infer(test.images).outputs
    return float((classes(outputs) == test.labels).mean())


def _unsealed(folder: Path, tuned: FineTuned, owner: OwnerKey) -> DeploymentFiles:
    """The tuned deployment as its owner has it: the hidden part opened, to be sealed to a device again."""
    public, sealed = folder / "tuned-public.lbm", folder / "tuned-sealed.lbm"
    public.write_bytes(tuned.files.public)
    if tuned.files.sealed is None:
        return DeploymentFiles(public, None)
    sealed.write_bytes(owner.unseal(tuned.files.sealed, tuned.files.device_key))
    return DeploymentFiles(public, sealed)


def _table(deployment: Deployment, tuned: FineTuned, before: float, after: float) -> str:
    step, inside = (float(np.median(ns)) / 1e6 for ns in (tuned.step_ns, tuned.invoke_ns))
    out = "the gradient at the boundary, of each image" if deployment.public and deployment.hidden else "nothing"
    rows = [
        ("test accuracy before, after", f"{100 * before:.1f} %, {100 * after:.1f} %"),
        ("steps", len(tuned.step_ns)),
        ("a step, median", f"{step:.2f} ms, of it {inside:.2f} ms in the TEE and on the way there"),
        ("memory beside the deployment's", f"REE {tuned.ree_bytes:,} bytes, TEE {tuned.tee_bytes:,} bytes"),
        ("comes out of the TEE while training", out),
    ]
    return tabulate(rows, tablefmt="plain", disable_numparse=True)


def _keep(folder: Path, tuned: FineTuned, owner: OwnerKey | None) -> None:
    """The files, and the keys that it takes to open the hidden one; the owner's own if it was made here."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BoardError(f"cannot make {folder}: {error.strerror}") from error
    write_file(folder / "public.lbm", tuned.files.public)
    if tuned.files.sealed is not None:
        write_file(folder / "sealed.lbm", tuned.files.sealed)
        write_file(folder / "device.pem", key_to_pem(tuned.files.device_key))
        if owner is not None:
            write_file(folder / "owner.pem", owner.to_pem(), mode=0o600)
    print(f"\nthe tuned deployment: {folder}; leakboard unseal opens its hidden part to the owner")
