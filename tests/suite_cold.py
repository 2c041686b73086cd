"""A pytest plugin: the first run of the suite on an empty cache, which several test files start from."""

import json

import pytest
from suite_runs import CELLS, PLUGINS, once, run


@pytest.fixture(scope="session")
def cold(tmp_path_factory):
    """A folder with ``cache``, ``results``, ``tiny.py`` (the plugins) and ``said.json`` (status, out, err)."""

    def make(folder):
        (folder / "tiny.py").write_text(PLUGINS)
        done = run(*CELLS, "--plugin", folder / "tiny.py", cache=folder / "cache", results=folder / "results")
        said = {"status": done.returncode, "out": done.stdout, "err": done.stderr}
        (folder / "said.json").write_text(json.dumps(said))

    return once(tmp_path_factory, "suite-cold", make)
