"""docs/plugins.md and docs/secure.md: their code is what ``leakboard new`` writes, their commands exist."""

import re
from pathlib import Path

import pytest

from suite.cli import parser
from suite.registry import Kind
from suite.scaffold import package_texts

DOCS = Path(__file__).parents[1] / "docs"
NAMES = {Kind.DEFENSE: "widest", Kind.ATTACK: "odds", Kind.VICTIM: "onelayer", Kind.BOARD: "bench_top"}


def test_the_code_is_that_of_new_packages_which_tests_run():
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "plugins.md").read_text(encoding="utf-8"), re.DOTALL)
    written = {
        text
        for kind, name in NAMES.items()
        for path, text in package_texts(kind, name).items()
        if path.parts[0] == "src"
    }
    assert set(blocks) == written


@pytest.mark.parametrize("page", ["plugins.md", "secure.md"])
def test_every_command_can_be_read(page):
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL))
    lines = [line.split(" #")[0].split()[1:] for line in shell.splitlines() if line.startswith("leakboard ")]
    assert lines
    for words in lines:
        parser().parse_args([word.strip('"') for word in words])
