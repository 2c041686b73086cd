"""The TA against a client that breaks its rules, and the exact set of what the C side may link to."""

import os
import subprocess
from pathlib import Path

import pytest
from c_build import MODEL_ID, small_graph

from device import wire
from device.build import build, build_program, part_sources
from device.emulated import provision
from suite.graph.format import pack_sealed
from suite.graph.partition import split
from suite.policy import OutputPolicy


@pytest.mark.parametrize("sanitize", [False, True], ids=["plain", "sanitized"])
def test_hostile_parameters_are_refused(tmp_path, sanitize):
    client = build_program(Path(__file__).parent / "c" / "hostile_client.c", ("client",), sanitize=sanitize)
    segments = split(small_graph(), {"conv", "flat", "fc", "soft"})
    sealed, storage, config = tmp_path / "sealed", tmp_path / "storage", tmp_path / "config"
    sealed.write_bytes(pack_sealed(segments, OutputPolicy.parse("top1"), MODEL_ID))
    storage.mkdir()
    provision(sealed, storage)
    config.write_text(f"tee_limit_bytes={16 << 20}\nstorage={storage}\n")
    with config.open("rb") as file:
        environment = {
            **os.environ,
            "LEAKBOARD_EMU_CONFIG_FD": str(file.fileno()),
            "LEAKBOARD_EMU_SECURE_WORLD": str(build(sanitize=sanitize).secure_world),
        }
        sizes = [4 * 2 * 6 * 6, 4 * 3 * 6 * 6, 4 * 3 * 6 * 6]
        done = subprocess.run(
            [client, *map(str, sizes)],
            env=environment,
            pass_fds=(file.fileno(),),
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
    allowed = {"tee_internal_api.h", "stddef.h", "stdint.h"}
    for part in ("ta", "runtime", "kernels"):
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
}


def test_python_s_view_of_the_protocol_is_the_headers(tmp_path):
    constants = {
        "LB_FRAME_MAGIC": wire.FRAME_MAGIC,
        "LB_FRAME_VERSION": wire.FRAME_VERSION,
        "LB_FRAME_MAX_BYTES": wire.FRAME_MAX_BYTES,
        "LB_FRAME_ANSWER": wire.FRAME_ANSWER,
        "LB_FRAME_ERROR": wire.FRAME_ERROR,
        "LB_MAX_ROUNDS": wire.MAX_ROUNDS,
        "LB_POLICY_LABEL": wire.POLICY_LABEL,
        "sizeof(struct lb_model_header)": wire.MODEL_HEADER_BYTES,
        "offsetof(struct lb_model_header, model_id)": wire.MODEL_ID.start,
        "LEAKBOARD_OBJECT_PREFIX_BYTES": len(wire.OBJECT_PREFIX),
        "LEAKBOARD_MODEL_ID_BYTES": wire.MODEL_ID.stop - wire.MODEL_ID.start,
        **{f"LB_FRAME_{kind.name}": int(kind) for kind in wire.FrameType},
        **{f"LB_AGENT_{code.name}": int(code) for code in wire.AgentErrorCode},
        **{f"sizeof(struct {name})": layout.size for name, layout in HEADERS.items()},
        "offsetof(struct lb_frame, request)": 8,
        "offsetof(struct lb_loaded, n_classes)": 20,
        "offsetof(struct lb_crossing, dims)": 16,
    }
    checks = "\n".join(f'_Static_assert({c} == {value}u, "{c}");' for c, value in constants.items())
    source = tmp_path / "layout.c"
    source.write_text(
        '#include <stddef.h>\n#include "agent_protocol.h"\n#include "lb_model.h"\n#include "leakboard_ta.h"\n'
        f"{checks}\nint main(void) {{ return LEAKBOARD_OBJECT_PREFIX[0] != 'm'; }}\n"
    )
    assert subprocess.run([build_program(source, ())], check=False).returncode == 0
