"""Pages of plugins: docstrings word for word, records with the leaderboard's figures, links that lead somewhere."""

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from record_samples import attack_sample, extraction_sample, latency_sample

from suite import Defense, defense, records
from suite.cli import main
from suite.docstrings import code, escaped, markdown
from suite.plugin_pages import page
from suite.plugin_records import recorded
from suite.registry import REGISTRY, Kind, discover
from suite.render_grids import leak_grid

discover()
PARSE = MarkdownIt("commonmark").enable("table")
lines = (
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1).map(str.split).map(" ".join).filter(bool)
)


def shown(text):
    """What a reader sees of Markdown that should be one paragraph."""
    tokens = PARSE.parse(text)
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"], text
    assert {child.type for child in tokens[1].children} <= {"text", "text_special"}, text
    return "".join(child.content for child in tokens[1].children)


@settings(max_examples=200, deadline=None)
@given(lines)
def test_any_text_is_shown_as_it_is(text):
    assert shown(escaped(text)) == text


@settings(max_examples=100, deadline=None)
@given(lines)
def test_any_code_stays_in_its_cell(text):
    tokens = PARSE.parse(f"| a | b |\n|---|---|\n| {code(text)} | end |\n")
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 4
    assert [(child.type, child.content) for child in cells[2].children] == [("code_inline", text)]


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("One.\n\n    ``k`` of a_b*c.\n    1. no list\n    ", "One.\n\n`k` of a\\_b\\*c. 1. no list\n"),
        ("One:\n\n    - first\n      goes on\n    - second\n\n    End.", "One:\n\n- first goes on\n- second\n\nEnd.\n"),
        ("One:\n\n    - first\n\n    - second ``x``.", "One:\n\n- first\n- second `x`.\n"),
        ("See :class:`~a.b.Thing` and :func:`run`.", "See `a.b.Thing` and `run`.\n"),
        ("1. begins", "1\\. begins\n"),
        ("", ""),
    ],
)
def test_docstrings(docstring, expected):
    assert markdown(docstring) == expected


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "published"
    samples = [attack_sample(), attack_sample("full_tee"), latency_sample(), extraction_sample()]
    samples.append(attack_sample(attack="loss_threshold", shift=0.2))
    for record, scores in samples:
        records.write_record(folder, record, scores)
    return folder


def links(text, path):
    return [(path.parent / link).resolve() for link in re.findall(r"\]\(([^)]+)\)", text)]


def test_a_defense_has_its_row_of_the_leaderboard_and_links_to_the_records_behind_it(results, tmp_path):
    path = tmp_path / "pages/defenses/darknetz.md"
    found = recorded(results)
    text = page(REGISTRY.get(Kind.DEFENSE, "darknetz"), found, path)
    table = found.tables[0][0]
    mine = dataclasses.replace(table, defenses=table.defenses[table.defenses.defense == "darknetz_k2"])
    (row,) = leak_grid(mine).rows
    for cell in row[:-1]:
        assert cell.value in text
        assert cell.interval in text
    behind = {link.name for link in links(text, path) if link.suffix == ".json"}
    assert behind == {f"alexnet-cifar10-darknetz_k2-{measure}-emulated.json" for measure in ("shadow", "latency")}
    assert all(link.is_file() for link in links(text, path))
    assert "full_tee_probs" not in text


@pytest.mark.parametrize(
    ("kind", "name", "mine"),
    [(Kind.ATTACK, "shadow", 2), (Kind.ATTACK, "hybrid", 1), (Kind.VICTIM, "alexnet", 3), (Kind.ATTACK, "rmia", 0)],
)
def test_other_plugins_link_to_theirs(results, tmp_path, kind, name, mine):
    path = tmp_path / f"{name}.md"
    text = page(REGISTRY.get(kind, name), recorded(results), path)
    assert len([link for link in links(text, path) if link.suffix == ".json" and link.is_file()]) == mine
    assert ("There is no published record of it." in text) is (mine == 0)


def test_a_damaged_record_is_named_and_the_pages_are_written(results, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("suite.plugin_pages._index", lambda: "# Plugins\n")
    monkeypatch.setattr("suite.plugin_pages.page", lambda plugin, found, path: f"# {plugin.name}\n")
    (results / "quick/odd.json").write_text("{}")
    folder = tmp_path / "pages"
    (folder / "attacks").mkdir(parents=True)
    (folder / "attacks/gone.md").write_text("# of a plugin that is gone\n")
    assert main(["docs", "plugins", "-o", str(folder), "--results", str(results)]) == 1
    assert "odd.json" in capsys.readouterr().err
    assert (folder / "defenses/darknetz.md").is_file()
    assert not (folder / "attacks/gone.md").exists()


def test_a_file_in_the_folder_s_place_is_refused(tmp_path, capsys):
    (tmp_path / "there").write_text("")
    assert main(["docs", "plugins", "-o", str(tmp_path / "there")]) == 1
    assert "name a folder" in capsys.readouterr().err


def test_a_plugin_from_elsewhere_that_cannot_be_laid_out(scratch_registry, tmp_path):
    @defense("from_elsewhere", variants=())
    class FromElsewhere(Defense):
        """Nobody 2026, <script> & |pipes|."""

        k: int

        def deploy(self, victim):
            raise ValueError("k is 1 to 2 | or so")

    text = page(REGISTRY.get(Kind.DEFENSE, "from_elsewhere"), recorded(tmp_path / "none"), tmp_path / "a.md")
    assert r"\<script\> \& \|pipes\|" in text
    assert "must be given" in text
    assert "nothing to lay out" in text
