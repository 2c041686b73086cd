"""The static site: each of its numbers is its record's, nothing in a record is markup, and a browser agrees."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import chromium
import numpy as np
import pytest
from record_samples import attack_sample
from site_samples import DEFENSES, HOSTILE, write_nights, write_results

from suite.cli import main
from suite.leaderboard import Leaderboard, leaderboard
from suite.metrics import tpr_at_fpr
from suite.record import AttackScores, Record
from suite.records import read_records, read_scores, write_record
from suite.site.build import build
from suite.site.files import safe_name
from suite.site.tables import headline
from suite.site.views import VIEWS


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-results")
    write_results(folder / "records")
    write_nights(folder / "nights")
    return folder


@pytest.fixture(scope="module")
def site(results: Path) -> Path:
    build(results / "records", results / "site", title="A <b>title</b>", history=results / "nights", with_scores=True)
    return results / "site"


@pytest.fixture(scope="module")
def board(results: Path) -> Leaderboard:
    records, _ = read_records(results / "records")
    return leaderboard(records, lambda record: read_scores(results / "records", record))


def data_of(site: Path, name: str) -> Any:
    """What a script would receive: the string undone, then the JSON in it."""
    text = (site / "data" / f"{name}.js").read_text(encoding="ascii")
    start, end = f"leakboard.receive('{name}', JSON.parse('", "'));\n"
    assert text.startswith(start)
    assert text.endswith(end)
    inside = text[len(start) : -len(end)]
    assert "<" not in inside
    undone = inside.replace("\\\\", "\0").replace("\\x3c", "<").replace("\\'", "'").replace("\0", "\\")
    return json.loads(undone)


def test_every_record_stands_with_its_own_figures(site: Path, results: Path) -> None:
    data, (records, _) = data_of(site, "index"), read_records(results / "records")
    assert len(data["records"]) == len(records) == 32
    for record, (table, defense, shows, address, cells) in zip(records, data["records"], strict=True):
        where = data["tables"][table]
        cell, (_, _, estimate) = record.cell, headline(record)
        assert (where["victim"], where["dataset"], where["profile"], where["board"]) == (
            cell.victim, cell.dataset, cell.profile, cell.board,
        )  # fmt: skip
        assert (defense, shows) == (cell.defense, " + ".join(record.threat.shows))
        assert [c[0] for c in cells[:4]] == [cell.measure, record.threat.goal, record.threat.policy, cell.seed]
        assert [cells[5][0], *cells[5][3:]] == ([estimate.value, estimate.low, estimate.high] if estimate else [None])
        source = results / "records" / cell.profile / f"{cell.id}.json"
        assert (site / f"{address}.json").read_bytes() == source.read_bytes()


def test_every_row_is_the_leaderboards(site: Path, board: Leaderboard) -> None:
    data, seen = data_of(site, "index"), 0
    for view, shown in zip(VIEWS, data["views"], strict=True):
        rows = iter(shown["rows"])
        for place, table in enumerate(board.tables):
            for ours in view.frame(table).to_dict("records"):
                number, defense, _, _, places, cells = next(rows)
                assert (number, defense) == (place, ours["defense"])
                assert places
                assert all(data["records"][i][0] == place and data["records"][i][1] == defense for i in places)
                for column, cell in zip(view.columns, cells, strict=True):
                    theirs = ours.get(column.field)
                    if column.words or cell[0] is None:
                        assert column.words or np.isnan(theirs) or column.field == "accuracy_without_tee_frac"
                        continue
                    assert cell[0] == theirs
                    if len(cell) > 3:
                        assert cell[3:] == [ours[f"{column.field}_low"], ours[f"{column.field}_high"]]
                    seen += 1
        assert next(rows, None) is None
    assert seen > 200


def test_a_row_of_one_seed_is_its_record(site: Path, results: Path) -> None:
    data, (records, _) = data_of(site, "index"), read_records(results / "records")
    view = next(view for view in data["views"] if view["name"] == "attacks")
    fields = [column["field"] for column in view["columns"]]
    checked = 0
    for _, _, _, _, places, cells in view["rows"]:
        record = records[places[0]]
        if len(places) == 1 and record.attack:
            row = dict(zip(fields, cells, strict=True))
            kept = record.attack.metrics.auc
            assert kept is not None
            assert [row["auc"][0], *row["auc"][3:]] == [kept.value, kept.low, kept.high]
            assert row["tpr_at_fpr_1e3"] == [None, "-"]  # too few non-members for that rate
            checked += 1
    assert checked == 5


def test_roc_points_are_operating_points_of_the_stored_scores(site: Path, results: Path) -> None:
    data, (records, _) = data_of(site, "index"), read_records(results / "records")
    curves = [curve for i in range(len(data["tables"])) for curve in data_of(site, f"roc-{i}")]
    assert len(curves) == sum(1 for r in records if r.attack and r.scores)
    for curve in curves:
        kept = records[curve["record"]].attack
        assert kept is not None
        estimates = [kept.metrics.auc, kept.metrics.tpr_at_fpr_1e2, kept.metrics.tpr_at_fpr_1e3]
        assert [rate[0] for rate in curve["rates"]] == [e.value if e else None for e in estimates]
        scores = read_scores(results / "records", records[curve["record"]])
        assert isinstance(scores, AttackScores)
        inside, outside = np.sort(scores.scores[scores.is_member]), np.sort(scores.scores[~scores.is_member])
        points = {
            (int((outside >= t).sum()), int((inside >= t).sum())) for t in np.unique(np.r_[scores.scores, -np.inf])
        }
        shown = set(zip(curve["fp"], curve["tp"], strict=True))
        assert shown <= points
        assert min(curve["fp"]) >= 1
        assert (len(outside), len(inside)) in shown
        rate = tpr_at_fpr(scores.scores, scores.is_member, 0.1)
        assert rate is not None
        within = [tp for fp, tp in shown if fp <= 0.1 * len(outside) + 1e-9]
        assert not within or max(within) / len(inside) == pytest.approx(rate.value)


def test_nights_are_plotted_from_their_records(site: Path, results: Path) -> None:
    series = data_of(site, "history")["series"]
    assert {one["field"] for one in series} == {"auc", "latency_ratio"}
    assert len(series) == 2 * len(DEFENSES)
    for one in series:
        assert [point[0] for point in one["points"]] == ["2026-01-01", "2026-01-02", "2026-01-03"]
        for night, value, low, high, address in one["points"]:
            records, _ = read_records(results / "nights" / "emulated" / night)
            record = next(r for r in records if r.cell.id == one["cell"])
            estimate = headline(record)[2]
            assert (value, low, high) == (estimate.value, estimate.low, estimate.high)
            assert json.loads((site / f"{address}.json").read_bytes())["cell"]["id"] == one["cell"]


class _Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list) and not all(isinstance(item, str) for item in value):
        for item in value:
            yield from leaves(item)
    elif not isinstance(value, list):
        yield value


def test_record_pages_show_every_field_digit_by_digit(site: Path) -> None:
    pages = sorted(site.glob("records/*/*.html"))
    assert len(pages) == 32
    for path in pages[::3]:
        text = "\n".join(_Page(path).texts)
        for leaf in leaves(json.loads(path.with_suffix(".json").read_bytes())):
            assert (leaf if isinstance(leaf, str) else json.dumps(leaf)) in text


def test_what_a_record_says_is_never_markup(site: Path) -> None:
    known = {"theme.js", "base.js", "index.js", "board.js", "figures.js", "pareto.js", "lines.js", "main.js"}
    for path in site.rglob("*.html"):
        page = _Page(path)
        for tag, attributes in page.tags:
            assert tag not in ("img", "i", "b", "iframe")
            assert not any(name.startswith("on") for name in attributes)
            if tag == "script":
                assert str(attributes["src"]).rpartition("/")[2] in known
            link = attributes.get("href") or ""
            if tag == "a" and not link.startswith("#"):
                assert (path.parent / unquote(link.partition("#")[0])).resolve().is_file()
    hostile = next(path for path in site.glob("records/quick/*.html") if path.stem.startswith("it_s"))
    assert HOSTILE in "".join(_Page(hostile).texts)


def test_names_of_files_lead_nowhere_else() -> None:
    assert safe_name("alexnet-cifar10-darknetz_k2-shadow-emulated") == "alexnet-cifar10-darknetz_k2-shadow-emulated"
    odd = ["..", "a/b", "a%2fb", "a#b", "a?b", "", "é", ".hidden", "x" * 300, "a b", "a_b'", 'a_b"']
    made = [safe_name(name) for name in odd]
    assert len(set(made)) == len(odd)
    assert all(re.fullmatch(r"[a-z0-9_-][a-z0-9._-]*", name) for name in made)


def test_a_site_replaces_a_site_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(tmp_path / "results", *attack_sample(n=30))
    (tmp_path / "results" / "quick" / "broken.json").write_text("{")
    arguments = ["site", str(tmp_path / "results"), "-o", str(tmp_path / "site")]
    assert main(arguments) == 0
    assert "broken.json" in capsys.readouterr().err
    assert "broken.json" in (tmp_path / "site" / "index.html").read_text()
    (tmp_path / "site" / "stale.html").touch()
    assert main(arguments) == 0
    assert not (tmp_path / "site" / "stale.html").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "site"]
    assert main([*arguments[:3], str(tmp_path / "results")]) == 1
    assert "holds files that are no site" in capsys.readouterr().err
    assert len(list((tmp_path / "results" / "quick").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere"], "no such results folder"),
        (["."], "no records in"),
        (["nowhere", "--history", "nights"], "no such folder of nights"),
        (["nowhere", "--history", "."], "holds no night"),
    ],
)
def test_what_there_is_nothing_of_is_one_line(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["site", *arguments, "-o", "site"]) == 1
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert main(["site", str(results / "records"), "-o", str(tmp_path / "site")]) == 1
    assert "leakboard[site]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Chromium]:
    if chromium.find() is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with chromium.Chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def opened(browser: chromium.Chromium, site: Path, hash_: str = "", width: int = 1280) -> None:
    browser.open(f"{(site / 'index.html').as_uri()}{hash_}", width)
    browser.wait("performance.getEntriesByName('leakboard-rows').length > 0")


def column(browser: chromium.Chromium, number: int) -> list[str]:
    found: list[str] = browser.run(
        f"[...document.querySelectorAll('#board tbody tr')].map((row) => [...row.children[{number}].childNodes]"
        ".filter((node) => node.className !== 'interval').map((node) => node.textContent).join(''))"
    )
    return found


def test_the_page_draws_all_without_a_complaint_or_the_network(browser: chromium.Chromium, site: Path) -> None:
    opened(browser, site, "#board=emulated&victim=alexnet")
    assert browser.run("document.querySelector('h1').textContent") == "A <b>title</b>"
    browser.wait("document.querySelectorAll('figure').length === 9")
    for i in range(9):
        browser.run(f"document.querySelectorAll('.plot')[{i}].scrollIntoView()")
        browser.wait(f"document.querySelectorAll('.plot')[{i}].querySelector('svg.main-svg') !== null")
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.wait("document.querySelectorAll('details a').length > 30")
    links = browser.run("[...document.querySelectorAll('main a')].map((link) => link.getAttribute('href'))")
    assert all((site / unquote(link.partition("#")[0])).is_file() for link in links)
    assert browser.complaints == []
    assert browser.requests
    assert all(address.startswith(("file://", "data:", "about:")) for address in browser.requests)


def test_headers_sort_by_click_and_by_key(browser: chromium.Chromium, site: Path) -> None:
    opened(browser, site, "#board=emulated&victim=alexnet&view=attacks")
    assert column(browser, 0)[0] == "vanilla"
    browser.click('#board th[data-field="auc"] button')
    falling = [float(text) for text in column(browser, 3)]
    assert falling == sorted(falling, reverse=True)
    assert browser.run("document.querySelector('#board th[data-field=\"auc\"]').ariaSort") == "descending"
    assert "sort=auc" in browser.run("location.hash")
    browser.key("Enter", 13)  # the focus stays on the header
    rising = [float(text) for text in column(browser, 3)]
    assert rising == falling[::-1]
    opened(browser, site, browser.run("location.hash"))
    assert [float(text) for text in column(browser, 3)] == rising


def test_boards_share_no_table_and_filters_keep_what_they_say(browser: chromium.Chromium, site: Path) -> None:
    opened(browser, site, "#board=qemu&view=records")
    assert column(browser, 1) == [m for _ in DEFENSES for m in ("latency", "shadow")]
    choices = browser.run("[...document.querySelector('select[name=board]').options].map((one) => one.text)")
    assert len(choices) == 3  # the hostile record's board is in a mode of its own
    opened(browser, site, "#board=emulated&view=attacks&policy=top1&victim=alexnet")
    assert set(column(browser, 0)) == {"full_tee", "darknetz_k2"}
    opened(browser, site, "#board=emulated&view=attacks&text=loss&victim=alexnet")
    assert set(column(browser, 2)) == {"loss_threshold"}


def test_hostile_texts_are_shown_and_do_nothing(browser: chromium.Chromium, site: Path) -> None:
    browser.open((site / "index.html").as_uri())
    browser.wait("performance.getEntriesByName('leakboard-rows').length > 0")
    browser.run(
        "(() => { const board = document.querySelector('select[name=board]'); board.value ="
        " [...board.options].find((one) => one.text.includes('script')).value;"
        " board.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    assert HOSTILE in browser.run("document.querySelector('#board tbody th').textContent")
    browser.run("document.getElementById('figures').scrollIntoView()")
    browser.wait("document.querySelector('.plot svg.main-svg') !== null")
    assert HOSTILE[:20] in browser.run("document.querySelector('.plot').textContent")
    address = browser.run("document.querySelector('#board tbody td.links a').href")
    assert browser.run("window.pwned") is None
    browser.open(address)
    assert HOSTILE in browser.run("document.body.innerText")
    assert browser.run("window.pwned") is None
    assert browser.complaints == []


def test_nothing_is_wider_than_a_phone(browser: chromium.Chromium, site: Path, results: Path) -> None:
    opened(browser, site, "#board=emulated", width=390)
    browser.wait("document.querySelectorAll('figure').length > 2")
    browser.wait(
        "document.querySelector('.plot').scrollIntoView() || document.querySelector('.plot svg.main-svg') !== null"
    )
    pages = ["index.html", "published.html", "records.html", "records/quick/" + sorted_record(results) + ".html"]
    for page in pages:
        if page != "index.html":
            browser.open((site / page).as_uri(), 390)
        assert browser.run("document.documentElement.scrollWidth") <= 390, page
        assert browser.run("innerWidth") == 390, page


def sorted_record(results: Path) -> str:
    records: list[Record] = read_records(results / "records")[0]
    return next(record.cell.id for record in records if record.extraction)


def test_the_switch_changes_between_light_and_dark(browser: chromium.Chromium, site: Path) -> None:
    browser.open((site / "records.html").as_uri())
    seen = [browser.run("getComputedStyle(document.body).backgroundColor")]
    for _ in range(2):
        browser.click("#theme")
        seen.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert seen == ["rgb(255, 255, 255)", "rgb(255, 255, 255)", "rgb(20, 24, 29)"]
    browser.click("#theme")
