"""Every way in which the kernels can be compiled, against PyTorch: NEON on the real board, plain C on this machine."""

import subprocess

import pytest
from kernel_program import LANES, SANITIZED, Case, Cases, build_for_boards, build_here, every_kind, read_answers

ON_BOARD = "/tmp/run_kernels"


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return every_kind()


def pack_cases(cases: list[Case]) -> bytes:
    return b"".join(case.pack(rounds=1) for case in cases)


@pytest.mark.parametrize("flags", [(), LANES["portable C"]], ids=["vectors", "portable"])
def test_kernels_on_this_machine_sanitized(tmp_path, cases, flags):
    program = build_here(tmp_path, (*SANITIZED, *flags))
    done = subprocess.run([program], input=pack_cases(cases), capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[:2000]
    for case, answer in zip(cases, read_answers(done.stdout, cases), strict=True):
        answer.check(case)


def test_kernels_on_the_board(qemu_machine, cases):
    target = qemu_machine.target()
    for name in ("NEON", "portable C"):
        target.put(build_for_boards(LANES[name]), ON_BOARD, 0o755)
        done = subprocess.run(target.command(ON_BOARD), input=pack_cases(cases), capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        for case, answer in zip(cases, read_answers(done.stdout, cases), strict=True):
            answer.check(case)


def test_instructions_of_a_convolution_on_the_board(qemu_machine):
    case = Cases(0).conv((64, 64), (24, 24), activation=1)
    target, least = qemu_machine.target(), {}
    for name in ("NEON", "portable C"):
        target.put(build_for_boards(LANES[name]), ON_BOARD, 0o755)
        done = subprocess.run(target.command(ON_BOARD), input=case.pack(rounds=9), capture_output=True, timeout=120)
        (answer,) = read_answers(done.stdout, [case])
        least[name] = answer.least_ns  # emulated: an instruction takes a nanosecond
    assert least["NEON"] / case.macs < 0.5
    assert least["portable C"] > 3 * least["NEON"]
