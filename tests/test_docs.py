"""What the pages say is so: links lead somewhere, commands parse, tables name what the code has, Sphinx builds them."""

import argparse
import ast
import dataclasses
import re
import shlex
import subprocess
import sys
import typing
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from record_samples import attack_sample, extraction_sample, latency_sample

from suite import records as r
from suite.boards import BOARDS, SSH
from suite.cli import parser
from suite.deploying import deploy, untrained_victim
from suite.exposure_frames import LAYER_COLUMNS
from suite.leaderboard import ATTACK_COLUMNS, DEFENSE_COLUMNS, leaderboard
from suite.leaderboard_extraction import EXTRACTION_COLUMNS
from suite.matrix import LATENCY
from suite.model import View
from suite.plugin_pages import SAMPLE
from suite.profiles import PROFILES
from suite.registry import REGISTRY, Kind, PluginError, discover
from suite.render_extraction import extraction_grid
from suite.render_grids import attack_grid, cost_grid, leak_grid
from suite.spec import default_specs, every_spec, parse, parse_list
from victims.data import NAMES as DATASETS

discover()
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
BUILT_IN = (*BOARDS, SSH, "pi3bplus")  # the last one is a name of figures, for predictions
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@cache
def tokens(page):
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


@cache
def anchors(page):
    """Of the headings, as GitHub and MyST make them."""
    found = []
    for heading, inline in zip(tokens(page), tokens(page)[1:], strict=False):
        if heading.type == "heading_open":
            text = "".join(child.content for child in inline.children)
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            repeated = sum(re.sub(r"-\d+$", "", other) == slug for other in found)
            found.append(f"{slug}-{repeated}" if repeated else slug)
    return found


def blocks(page, *languages):
    return [t.content for t in tokens(page) if t.type == "fence" and t.info.split()[:1] in [[one] for one in languages]]


# ---- links


@each_page
def test_links_lead_somewhere(page):
    inlines = [child for token in tokens(page) for child in token.children or ()]
    links = [
        str(child.attrGet("href") or child.attrGet("src")) for child in inlines if child.type in ("link_open", "image")
    ]
    for link in links:
        url = urlsplit(link)
        if url.scheme:
            assert url.scheme == "https", link
            assert re.fullmatch(r"[\w.-]+\.\w+", url.netloc), link
            continue
        target = (page.parent / unquote(url.path)).resolve() if url.path else page
        assert target.is_relative_to(ROOT), f"{link} leads out of the project"
        assert target.is_file() or (target / "README.md").is_file(), f"{link}: no such file, nor a folder with a README"
        if url.fragment:
            assert url.fragment in anchors(target), f"{link}: {target.name} has no such heading"


# ---- commands


def commands(page):
    """Every simple command of the page's shell blocks, as words; comments, redirections and assignments left out."""
    for block in blocks(page, "sh", "bash", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
            lexer.whitespace_split, lexer.commenters = True, "#"
            words = []
            for word in [*lexer, ";"]:
                if word in (";", "|", "||", "&&", "&"):
                    yield words
                    words = []
                else:
                    words.append(word)


def without_assignments(words):
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    return words[: next((i for i, word in enumerate(words) if word in (">", ">>", "<")), len(words))]


def names_of_its_own(page):
    """Plugins that the page writes, has ``leakboard new`` write, or loads from a file of that name."""
    text = page.read_text(encoding="utf-8")
    return (
        set(re.findall(r"--plugin (\w+)\.py", text))
        | set(re.findall(r"@(?:defense|attack|victim)\(\s*\"(\w+)\"", text))
        | set(re.findall(r"leakboard new (?:defense|attack|victim|board) (\w+)", text))
    )


def check_names(options, own):
    """Plugins, data sets and profiles that a command asks for exist."""
    for kind in Kind:
        for asked in (getattr(options, kind.plural, None), getattr(options, kind, None)):
            for text in re.split(r",(?![^\[]*\])", asked) if isinstance(asked, str) else ():
                name = text.partition("[")[0].strip()
                if name not in own and not text.isupper() and not (kind is Kind.BOARD and text.startswith(BUILT_IN)):
                    parse_list(kind, text)
    datasets = getattr(options, "datasets", None) or getattr(options, "dataset", None)
    for name in datasets.split(",") if isinstance(datasets, str) else ():
        assert name in DATASETS
    assert getattr(options, "profile", None) in (None, *PROFILES)


def check_keyword(expression, own):
    """Every word of ``-k`` is part of some cell's name."""
    known = [spec.slug for kind in Kind for spec in every_spec(kind)] + [*DATASETS, LATENCY, "emulated", "qemu", *own]
    for word in set(re.findall(r"[\w-]+", expression)) - {"and", "or", "not"}:
        assert any(word.strip("-") in name for name in known), f"-k {expression!r}: nothing is called {word}"


@each_page
def test_commands_parse(page, request, capsys):
    own = names_of_its_own(page)
    for words in map(without_assignments, commands(page)):
        line = shlex.join(words)
        try:
            if words[:1] == ["leakboard"]:
                options = parser().parse_args(words[1:])
                check_names(options, own)
            elif words[:1] == ["pytest"]:
                options = request.config._parser.parse(words[1:])
                paths = [Path(path.partition("::")[0]) for path in options.file_or_dir]
                assert all((ROOT / path).exists() or str(path) in own for path in paths), f"{line}: no such file"
                if Path("suite") in paths:
                    check_names(options, own)
                    check_keyword(options.keyword, own)
            elif words[:1] in (["python"], ["python3"]) and words[1].endswith(".py"):
                assert (ROOT / words[1]).is_file(), line
            elif words[:1] == ["make"]:
                targets = [word for word in words[1:] if "=" not in word]
                assert set(targets) <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)), line
        except (SystemExit, pytest.UsageError, PluginError) as error:
            pytest.fail(f"{line}: {capsys.readouterr().err or error}")


@each_page
def test_commands_in_sentences_exist(page):
    (subs,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    spans = [child.content for token in tokens(page) for child in token.children or () if child.type == "code_inline"]
    asked = {match[1] for span in spans if (match := re.match(r"leakboard ([a-z]+)", span))}
    assert asked <= set(subs.choices)


@each_page
def test_python_compiles(page):
    for block in blocks(page, "python", "py"):
        ast.parse(block, filename=page.name)


# ---- tables


def first_cells(text):
    """The first cell of every row of the Markdown tables in ``text``, without the headers."""
    return re.findall(r"^\| (.+?) \|", re.sub(r"^\|.*\|\n\|[-| :]+\|\n", "", text, flags=re.MULTILINE), re.MULTILINE)


def quoted(cells):
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def section(page, heading):
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.split(r"^##? ", text.split(f"## {heading}\n")[1], flags=re.MULTILINE)[0]


def test_records_page_has_no_field_that_is_gone():
    def fields(kind):
        for name, hint in typing.get_type_hints(kind).items() if dataclasses.is_dataclass(kind) else ():
            yield name
            for inner in (
                hint,
                *typing.get_args(hint),
                *(a for b in typing.get_args(hint) for a in typing.get_args(b)),
            ):
                yield from fields(inner)

    text = (DOCS / "records.md").read_text(encoding="utf-8")
    found = {match[1]: match[2] for match in re.finditer(r"^## `(\w+)`(.*?)(?=^## |\Z)", text, re.S | re.M)}
    for name, hint in typing.get_type_hints(r.Record).items():
        known = {field for kind in (hint, *typing.get_args(hint)) for field in fields(kind)}
        if name == "scores":
            arrays = (r.AttackScores, r.LatencySamples, r.StolenAnswers, r.ExposureSamples)
            known |= {field.name for kind in arrays for field in dataclasses.fields(kind)}
        assert quoted(first_cells(found[name])) <= known, name


def plain(columns):
    return {c for c in columns if not c.endswith(("_low", "_high", "_models_sd", "_samples_se"))}


@pytest.mark.parametrize(
    ("begin", "columns"),
    [
        ("`leaderboard.csv`", DEFENSE_COLUMNS),
        ("`leaderboard_attacks.csv`", ATTACK_COLUMNS),
        ("`leaderboard_extraction.csv`", EXTRACTION_COLUMNS),
        ("`leaderboard_layers.csv`", LAYER_COLUMNS),
    ],
)
def test_every_column_of_a_file_is_explained(begin, columns):
    part = section("tables.md", "Columns of the files").split(begin)[1].split("`leaderboard_")[0]
    assert quoted(first_cells(part)) == plain(columns)


def test_every_column_of_a_table_is_explained():
    samples = [attack_sample(), attack_sample("full_tee"), latency_sample(), extraction_sample()]
    kept = {record.cell.id: scores for record, scores in samples}
    (table,) = leaderboard([record for record, _ in samples], lambda record: kept[record.cell.id]).tables
    explained = {name for cell in first_cells((DOCS / "tables.md").read_text()) for name in (cell, *cell.split(", "))}
    for grid in (leak_grid(table), cost_grid(table)):
        assert {header.replace("\n", " ") for header in grid.headers} <= explained
    shown = {re.sub(r"\n[\d,]+$", "", header).replace("\n", " ") for header in extraction_grid(table).headers}
    assert shown - {"defense, attack"} <= explained
    assert {header.split("\n")[1] for header in attack_grid(table).headers[1:]} == {"AUC", "bal. acc."}


def test_profiles_are_as_the_limits_say():
    rows = re.findall(
        r"^\| `(\w+)` \| (.*) \|$", section("limits.md", "Profiles: what is small, and what smallness does"), re.M
    )
    said = {name: [cell.strip(" `") for cell in cells.split("|")] for name, cells in rows}
    for name, profile in PROFILES.items():
        sizes = profile.sizes
        numbers = (sizes.members, sizes.auxiliary, sizes.test, profile.epochs, profile.shadows, profile.references)
        budgets = ", ".join(f"{budget:,}" for budget in profile.budgets)
        assert said[name] == [*profile.datasets, *(f"{number:,}" for number in numbers), budgets]


def test_what_each_defense_shows_is_what_it_shows():
    rows = re.findall(
        r"^\| `(\w+)` \| `(\w+)` \| (.*) \|$", section("threat_model.md", "What each defense shows"), re.M
    )
    said = {name: (policy, cells.split(" | ")) for name, policy, cells in rows}
    specs = [*default_specs(Kind.DEFENSE), *parse(Kind.DEFENSE, "darknetz[k=2,finetune=true]")]
    ours = [spec for spec in specs if Path(spec.plugin.file).is_relative_to(ROOT / "defenses")]
    assert set(said) == {spec.slug for spec in ours}
    for spec in ours:
        found = deploy(spec, untrained_victim(*SAMPLE))
        sees = [view in found.shows for view in (View.WEIGHTS, View.BOUNDARY, View.GRADIENTS)]
        assert said[spec.slug] == (str(found.policy), ["yes" if one else "no" for one in (*sees, found.disguised)])


def test_every_view_is_explained():
    assert quoted(first_cells(section("threat_model.md", "What can be seen"))) == {str(view) for view in View}


# ---- the site


def test_sphinx_builds_the_pages_without_a_warning(tmp_path):
    command = ["-m", "sphinx", "-W", "-n", "-q", "-b", "html", "-d", tmp_path / "trees", DOCS, tmp_path / "html"]
    done = subprocess.run([sys.executable, *map(str, command)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in DOCS.glob("*.md"):
        assert (tmp_path / "html" / f"{page.stem}.html").is_file()
    for plugin in (plugin for kind in Kind for plugin in REGISTRY.all(kind)):
        made = (tmp_path / "html/catalogue" / plugin.kind.plural / f"{plugin.name}.html").read_text(encoding="utf-8")
        assert "Published records" in made
    index = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    assert "catalogue/defenses/darknetz.html" in index
    assert "Add a defense in 20 lines" in (tmp_path / "html" / "start.html").read_text(encoding="utf-8")
