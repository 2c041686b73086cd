"""The TA against a client that breaks its rules, and the exact set of what the C side may link to."""

import os
import subprocess
from pathlib import Path

import pytest
from c_build import MODEL_ID, small_graph

from device import sealing, wire
from device.build import build, build_program, part_sources
from device.emulated import EmulatedBoard
from device.owner import TUNED_INFO, OwnerKey
from device.sealing import seal
from suite.graph import planner, training
from suite.graph.format import pack_sealed
from suite.graph.partition import split
from suite.graph.training import allow_training
from suite.policy import OutputPolicy


@pytest.mark.parametrize("sanitize", [False, True], ids=["plain", "sanitized"])
@pytest.mark.parametrize("client", ["hostile_client", "hostile_loading", "hostile_training"])
def test_hostile_parameters_are_refused(tmp_path, client, sanitize):
    program = build_program(
        Path(__file__).parent / "c" / f"{client}.c", ("client", "runtime", "kernels"), sanitize=sanitize
    )
    segments = split(small_graph(), {"conv", "flat", "fc", "soft"})
    file, newer = tmp_path / "model.lbs", tmp_path / "newer.lbs"
    storage, config = tmp_path / "storage", tmp_path / "config"
    storage.mkdir()
    key = EmulatedBoard(sanitize=sanitize, storage=storage).device_key()
    model = pack_sealed(segments, OutputPolicy.parse("top1"), MODEL_ID)
    trainable = allow_training(model, segments, OwnerKey.generate().public)
    file.write_bytes(seal(trainable if client == "hostile_training" else model, key, chunk_bytes=1024))
    newer.write_bytes(seal(model, key, version=client == "hostile_loading", chunk_bytes=1024))
    config.write_text(f"tee_limit_bytes={16 << 20}\nstorage={storage}\n")
    sizes = [4 * 2 * 6 * 6, 4 * 3 * 6 * 6, 4 * 3 * 6 * 6]
    arguments = [newer] if client == "hostile_loading" else [*map(str, sizes)]
    if client == "hostile_training":
        arguments.append(newer)
    with config.open("rb") as opened:
        environment = {
            **os.environ,
            "LEAKBOARD_EMU_CONFIG_FD": str(opened.fileno()),
            "LEAKBOARD_EMU_SECURE_WORLD": str(build(sanitize=sanitize).secure_world),
        }
        done = subprocess.run(
            [program, file, *arguments],
            env=environment,
            pass_fds=(opened.fileno(),),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_kernels_need_no_library(tmp_path):
    """OP-TEE's libutils has memcpy, memmove and memset; nothing else may be asked for."""
    made = build()
    wanted = subprocess.run(["nm", "-u", str(made.kernels)], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1].split("@")[0] for line in wanted.splitlines()}
    start_files = {
        "__cxa_finalize",
        "__gmon_start__",
        "_ITM_deregisterTMCloneTable",
        "_ITM_registerTMCloneTable",
    }
    assert names - start_files <= {"memcpy", "memmove", "memset"}


def test_the_ta_includes_nothing_that_a_dev_kit_lacks():
    allowed = {"tee_internal_api.h", "stddef.h", "stdint.h", "arm_neon.h"}
    for part in ("ta", "streaming", "runtime", "kernels"):
        for file in [*part_sources(part), *part_sources(part)[0].parent.glob("*.h")]:
            for line in file.read_text().splitlines():
                if line.startswith("#include <"):
                    assert line[10:-1] in allowed, f"{file}: {line}"


HEADERS = {
    "lb_frame": wire.FRAME,
    "lb_failure": wire.FAILURE,
    "lb_hello": wire.HELLO,
    "lb_load": wire.LOAD,
    "lb_loaded": wire.LOADED,
    "lb_crossing": wire.CROSSING,
    "lb_infer": wire.INFER,
    "lb_result": wire.RESULT,
    "lb_time": wire.TIME,
    "lb_stats": wire.STATS,
    "lb_train_begin": wire.TRAIN_BEGIN,
    "lb_dropout": wire.DROPOUT,
    "lb_train_begun": wire.TRAIN_BEGUN,
    "lb_train_batch": wire.TRAIN_BATCH,
    "lb_trained": wire.TRAINED,
    "lb_exported": wire.EXPORTED,
    "lb_training": training.SECTION,
    "lb_sealed_header": sealing.HEADER,
    "lb_sealed_chunk": sealing.CHUNK,
}


def test_python_s_view_of_the_protocol_is_the_headers(tmp_path):
    constants = {
        "LB_FRAME_MAGIC": wire.FRAME_MAGIC,
        "LB_FRAME_VERSION": wire.FRAME_VERSION,
        "LB_FRAME_MAX_BYTES": wire.FRAME_MAX_BYTES,
        "LB_FRAME_ANSWER": wire.FRAME_ANSWER,
        "LB_FRAME_ERROR": wire.FRAME_ERROR,
        "LB_MAX_ROUNDS": wire.MAX_ROUNDS,
        "LB_DTYPE_INT8": wire.DTYPE_INT8,
        "LB_POLICY_LABEL": wire.POLICY_LABEL,
        "sizeof(struct lb_model_header)": sealing.MODEL_HEADER_BYTES,
        "offsetof(struct lb_model_header, model_id)": sealing.MODEL_ID.start,
        "LEAKBOARD_MODEL_ID_BYTES": sealing.MODEL_ID.stop - sealing.MODEL_ID.start,
        "LB_MODEL_MAGIC": int.from_bytes(sealing.MODEL_MAGIC, "little"),
        "LB_SEALED_MAGIC": int.from_bytes(sealing.MAGIC, "little"),
        "LB_SEALED_CHUNK_MAGIC": int.from_bytes(sealing.CHUNK_MAGIC, "little"),
        "LB_SEALED_FORMAT": sealing.FORMAT,
        "LB_SEALED_INFO_BYTES": len(sealing.INFO),
        "LB_SEALED_KEY_BYTES": sealing.KEY_BYTES,
        "sizeof(LB_TUNED_INFO) - 1": len(TUNED_INFO),
        "LB_TRAINING_MAGIC": training.MAGIC,
        "LB_TRAINING_FORMAT": training.FORMAT,
        "LB_MAX_DROPOUTS": training.MAX_DROPOUTS,
        "offsetof(struct lb_training, owner_key)": 16,
        "sizeof(((struct lb_training *)0)->owner_key)": training.KEY_BYTES,
        "LB_SEALED_TAG_BYTES": sealing.TAG_BYTES,
        "LB_SEALED_MIN_CHUNK_BYTES": sealing.MIN_CHUNK_BYTES,
        "LB_SEALED_CHUNK_BYTES": sealing.CHUNK_BYTES,
        "LB_SEALED_MAX_CHUNK_BYTES": sealing.MAX_CHUNK_BYTES,
        "LB_SEALED_CHUNK_BYTES + 0": planner.CHUNK_BYTES,
        "LB_SEALED_TAG_BYTES + sizeof(struct lb_sealed_chunk)": planner.RECORD_BYTES,
        "sizeof(struct lb_sealed_header) + 0": planner.HEADER_BYTES,
        **{f"LB_CLOCK_{clock.name}": int(clock) for clock in wire.Clock},
        **{f"LB_SEALED_ERROR_{error.name}": int(error) for error in wire.SealedError},
        **{f"LB_FRAME_{kind.name}": int(kind) for kind in wire.FrameType},
        **{f"LB_AGENT_{code.name}": int(code) for code in wire.AgentErrorCode},
        **{f"sizeof(struct {name})": layout.size for name, layout in HEADERS.items()},
        "offsetof(struct lb_frame, request)": 8,
        "offsetof(struct lb_loaded, n_classes)": 20,
        "offsetof(struct lb_crossing, dims)": 16,
        "offsetof(struct lb_crossing, dtype)": 32,
        "offsetof(struct lb_stats, shared_bytes)": 48,
        "offsetof(struct lb_stats, unseal_cpu_ns)": 64,
        "offsetof(struct lb_sealed_header, version)": 24,
        "offsetof(struct lb_sealed_header, device_id)": 56,
        "offsetof(struct lb_sealed_header, salt)": 152,
    }
    checks = "\n".join(f'_Static_assert({c} == {value}u, "{c}");' for c, value in constants.items())
    source = tmp_path / "layout.c"
    source.write_text(
        '#include <stddef.h>\n#include "agent_protocol.h"\n#include "lb_model.h"\n#include "lb_sealed.h"\n'
        '#include "lb_training.h"\n'
        f'#include "leakboard_ta.h"\n#include <string.h>\n{checks}\n'
        f'int main(void) {{ return strcmp(LB_SEALED_INFO, "{sealing.INFO.decode()}") != 0 ||'
        f' strcmp(LB_TUNED_INFO, "{TUNED_INFO.decode()}") != 0; }}\n'
    )
    assert subprocess.run([build_program(source, ())], check=False).returncode == 0
