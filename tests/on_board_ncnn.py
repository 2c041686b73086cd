"""Runs on the board, under its own Python: convolutions by ncnn, timed. ``on_board_ncnn.py <cases.npz> <rounds>``.

Prints a JSON line for each case and way: the median and the least CPU time in nanoseconds of one inference, and the
largest difference from the expected output, relative to the largest expected value.
"""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "site"))

import ncnn
import numpy as np

WAYS = {"ncnn": True, "ncnn, no Winograd": False}
NOT_FP32 = (
    *("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"),
    *("use_bf16_packed", "use_bf16_storage", "use_int8_inference"),
)


def time_one(case: dict, winograd: bool, rounds: int) -> tuple[list[int], float]:
    """Sorted nanoseconds, and the difference from what is expected."""
    weight = case["weight"]
    size, (out, channels, kernel, _) = case["in"].shape[1], weight.shape
    stride, pad, relu = case["geometry"].tolist()
    conv = f"0={out} 1={kernel} 3={stride} 4={pad} 5=1 6={weight.size} 9={relu}"
    layers = f"Input in 0 1 in 0={size} 1={size} 2={channels}\nConvolution c 1 1 in out {conv}\n"
    Path("net.param").write_text(f"7767517\n2 2\n{layers}")
    Path("net.bin").write_bytes(bytes(4) + weight.tobytes() + case["bias"].tobytes())  # four zeros: float32 follows
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_winograd_convolution = winograd
    for name in NOT_FP32:
        if hasattr(net.opt, name):
            setattr(net.opt, name, False)
    if net.load_param("net.param") or net.load_model("net.bin"):
        raise SystemExit("ncnn does not load its model")
    image, times = ncnn.Mat(case["in"]), []
    for _ in range(rounds):
        extractor = net.create_extractor()
        extractor.input("in", image)
        start = time.clock_gettime_ns(time.CLOCK_PROCESS_CPUTIME_ID)
        _, got = extractor.extract("out")
        times.append(time.clock_gettime_ns(time.CLOCK_PROCESS_CPUTIME_ID) - start)
    expected = case["out"]
    return sorted(times), float(np.abs(np.array(got) - expected).max() / np.abs(expected).max())


def main(cases: str, rounds: int) -> None:
    """Every case of the archive, whose arrays are named ``<number>.<what>``."""
    arrays = np.load(cases)
    for number in range(len({name.partition(".")[0] for name in arrays})):
        case = {what: arrays[f"{number}.{what}"] for what in ("in", "weight", "bias", "out", "geometry")}
        for way, winograd in WAYS.items():
            times, error = time_one(case, winograd, rounds)
            line = {"case": number, "way": way, "median_ns": times[rounds // 2], "least_ns": times[0], "error": error}
            print(json.dumps(line), flush=True)


main(sys.argv[1], int(sys.argv[2]))
