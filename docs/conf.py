"""How Sphinx builds these pages: ``make docs``. Before it reads them, it writes one for each plugin."""

import os
import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

DOCS = Path(__file__).resolve().parent
README = DOCS.parent / "README.md"
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
    """Make ``start`` the README, and links of every page lead where they lead in the repository.

    A Markdown file that is no page here (an example's README) can be downloaded, as any other file.
    """
    if docname.startswith("catalogue/"):
        return
    at = DOCS
    if docname == "start":
        at = README.parent
        app.env.note_dependency(str(README))
        source[0] = README.read_text(encoding="utf-8")

    def lead(match: re.Match[str]) -> str:
        target, heading = (at / match[1]).resolve(), match[2] or ""
        if not target.exists():
            return match[0]  # code that looks like a link; a broken link is a warning
        if target == README:
            return f"](start.md{heading})"
        if target.is_dir() and (target / "README.md").is_file():
            target /= "README.md"
        if target.suffix == ".md" and target.parent != DOCS:
            return f"](path:{os.path.relpath(target, DOCS)})"
        return f"]({os.path.relpath(target, DOCS)}{heading})"

    source[0] = re.sub(r"\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)", lead, source[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_catalogue)
    app.connect("source-read", show_readme)
