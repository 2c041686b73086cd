"""How long 5,000 records take to build into a site, and that site to open from disk in headless Chromium.

    python tests/bench_site.py RESULTS [-n 5000] [-o FOLDER]

RESULTS holds real records. They are multiplied under other victims, data sets, defenses and seeds, figures as they are,
in a folder that is removed: material for timing, and no results. Times are of this machine, whatever else runs on it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from pathlib import Path

import chromium

from suite.site.build import build

VICTIMS = ("alexnet", "vgg7", "vgg11", "vgg16", "resnet20")
DATASETS = ("cifar10", "cifar100", "mnist", "fashion_mnist", "tiny_imagenet")
MARKS = "Object.fromEntries(performance.getEntriesByType('mark').map((mark) => [mark.name, mark.startTime]))"


def multiply(results: Path, folder: Path, n: int) -> None:
    """Write n records into ``folder``; raw scores are links to those of ``results``."""
    sources = [path for path in sorted(results.glob("*/*.json")) if not path.name.startswith(".")]
    if not sources:
        raise SystemExit(f"no records in {results}: run pytest suite -k vgg7 --profile smoke --results {results}")
    read = [(path, json.loads(path.read_bytes())) for path in sources]
    copies = itertools.product(range(n), DATASETS, VICTIMS, read)
    for number, dataset, victim, (path, record) in itertools.islice(copies, n):
        cell = record["cell"]
        seed, defense = number % 2, f"{cell['defense']}_v{number // 2}" if number > 1 else cell["defense"]
        name = f"{victim}-{dataset}-{defense}-{cell['measure']}-{cell['board']}" + (f"-seed{seed}" if seed else "")
        place = folder / cell["profile"]
        (place / "scores").mkdir(parents=True, exist_ok=True)
        changed = {"id": name, "victim": victim, "dataset": dataset, "defense": defense, "seed": seed}
        scores = record["scores"]
        if scores is not None:
            link = place / "scores" / f"{name}.npz"
            link.unlink(missing_ok=True)
            os.link(path.parent / scores["file"], link)
            scores = {**scores, "file": f"scores/{name}.npz"}
        text = json.dumps({**record, "cell": {**cell, **changed}, "scores": scores}, indent=2)
        (place / f"{name}.json").write_text(text, encoding="utf-8")


def main() -> None:
    """Multiply, build, open, and say how long the last two took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("-n", type=int, default=5000)
    parser.add_argument("-o", "--output", type=Path, help="keep the site here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.results.parent) as aside:
        folder, site = Path(aside) / "results", options.output or Path(aside) / "site"
        multiply(options.results, folder, options.n)
        wall, cpu = time.perf_counter(), time.process_time()
        built = build(folder, site)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"built: {built.n_records:,} records, {built.n_tables} tables in {wall:.1f} s, {cpu:.1f} s of CPU")
        size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
        index = (site / "data" / "index.js").stat().st_size
        print(f"size: {size / 2**20:.0f} MiB, data of the first page {index / 2**20:.1f} MiB")
        with chromium.Chromium(Path(aside) / "chromium") as browser:
            for attempt in range(3):
                browser.open((site / "index.html").resolve().as_uri())
                browser.wait("performance.getEntriesByName('leakboard-rows').length > 0")
                browser.run("document.querySelector('#plots').scrollIntoView()")
                browser.wait("document.querySelector('.plot svg.main-svg') !== null")
                browser.wait("performance.getEntriesByName('leakboard-figure').length > 0")
                marks = browser.run(MARKS)
                cpu_ms = 1e3 * sum(
                    m["value"] for m in browser.call("Performance.getMetrics")["metrics"] if m["name"] == "TaskDuration"
                )
                rows, figure = marks["leakboard-rows"], marks["leakboard-figure"]
                print(
                    f"open {attempt + 1}: rows after {rows:.0f} ms, figures in the window after {figure:.0f} ms (wall,"
                    f" from the start of navigation); {cpu_ms:.0f} ms of the page's main thread in all"
                )


if __name__ == "__main__":
    main()
