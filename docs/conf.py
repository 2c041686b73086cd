"""How Sphinx builds these pages: ``make docs``. Before it reads them, it writes one for each plugin."""

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))  # the plugins of this tree, wherever Sphinx was started

project = "Leakboard"
copyright = "the Leakboard authors"
version = release = version_of("leakboard")

extensions = ["myst_parser"]
include_patterns = ["*.md", "catalogue/**"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "Leakboard"
html_show_sourcelink = False


def write_catalogue(app: Sphinx) -> None:
    """Write the pages of the plugins into ``catalogue``; a record that cannot be used is a warning."""
    from suite.commands import load_plugins
    from suite.docs_commands import PUBLISHED_RESULTS
    from suite.plugin_pages import write_pages

    load_plugins([])
    for problem in write_pages(DOCS / "catalogue", DOCS.parent / PUBLISHED_RESULTS):
        logging.getLogger(__name__).warning(problem)


def show_readme(app: Sphinx, docname: str, source: list[str]) -> None:
    """Make ``start`` the README, with links as they lead from here."""
    if docname == "start":
        text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
        app.env.note_dependency("../README.md")
        source[0] = re.sub(r"\]\((?![a-z]+:|#)", "](../", text).replace("](../docs/", "](")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_catalogue)
    app.connect("source-read", show_readme)
