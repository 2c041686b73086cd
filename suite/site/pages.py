"""Pages made from templates. What records say is text and nothing else: every value is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from suite.leaderboard_notes import board_note
from suite.render_grids import NONE
from suite.site.catalogue import Entry
from suite.site.files import SiteError
from suite.site.record_page import sections
from suite.site.tables import headline, headline_cell

MISSING = "the site is made by jinja2 and plotly: pip install 'leakboard[site]'"


def plotly_script() -> str:
    """plotly.js, as the installed package brings it.

    Raises:
        SiteError: it is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise SiteError(MISSING) from None
    return str(get_plotlyjs())


@dataclass(frozen=True, slots=True)
class Pages:
    """Templates with what all of them show: the site's title, and by what and when it was made."""

    title: str
    made: str
    _templates: Any

    @staticmethod
    def of(title: str, made: str) -> Pages:
        """Load the templates.

        Raises:
            SiteError: jinja2 is not installed.
        """
        try:
            import jinja2
        except ImportError:
            raise SiteError(MISSING) from None
        loader = jinja2.FunctionLoader(_source)
        environment = jinja2.Environment(
            loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        return Pages(title, made, environment)

    def render(self, template: str, root: str = "", **values: Any) -> bytes:
        """A page; ``root`` leads from it to the site's folder."""
        text = self._templates.get_template(template).render(title=self.title, made=self.made, root=root, **values)
        return str(text).encode("utf-8", "replace")

    def record(self, entry: Entry, value: Mapping[str, Any], scores_name: str = "") -> bytes:
        """The page of one record; ``value``: its JSON as it was read; ``scores_name``: of raw scores beside it."""
        record, (field, figure, estimate) = entry.record, headline(entry.record)
        shown = headline_cell(field, estimate)
        withheld = record.attack.metrics.withheld.get("auc", "") if record.attack else ""
        return self.render(
            "record.html.j2",
            root="../" * entry.address.count("/"),
            hash="#" + urlencode(_filters(entry)),
            record=record,
            night=entry.night,
            figure=figure,
            value=f"withheld ({withheld})" if withheld else "not measured" if shown[1] == NONE else shown[1],
            interval=shown[2] if len(shown) > 2 else "",
            board_note=board_note(record),
            json_name=entry.address.rpartition("/")[2].removesuffix("html") + "json",
            scores_name=scores_name,
            scores_sha=record.scores.sha256 if record.scores else "",
            sections=sections(value),
        )


def _filters(entry: Entry) -> Mapping[str, str]:
    cell, mode = entry.record.cell, str(entry.record.provenance.board.get("mode", ""))
    return {"victim": cell.victim, "dataset": cell.dataset, "profile": cell.profile, "board": cell.board, "mode": mode}


def _source(name: str) -> str:
    return (files("suite.site") / "templates" / name).read_text(encoding="utf-8")
