"""Docstrings as Markdown: the pages of plugins are made of them."""

from __future__ import annotations

import inspect
import re

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
_AT_START = re.compile(r"^(\d+)([.)])|^([-+=:])")
_CODE = re.compile(r"``(.+?)``", re.DOTALL)
_ROLE = re.compile(r":(?:\w+:)?\w+:`~?([^`<]+)(?:\s*<[^`>]*>)?`")
_BULLET = re.compile(r"[-*] +")


def escaped(text: str) -> str:
    """Plain text as Markdown shows it as it is, in a paragraph or a table's cell."""
    return _AT_START.sub(lambda m: f"{m[1]}\\{m[2]}" if m[1] else f"\\{m[3]}", _SPECIAL.sub(r"\\\1", text))


def code(text: str) -> str:
    """A code span that may stand in a table's cell: longer fences where it has backticks, bars escaped."""
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    gap = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{fence}{gap}{text}{gap}{fence}".replace("|", r"\|")


def inline(text: str) -> str:
    """A paragraph of reStructuredText as one line of Markdown: code spans and roles kept, all else as it is."""
    parts = _CODE.split(" ".join(_ROLE.sub(r"``\1``", text).split()))
    return "".join(_code_in_text(part) if i % 2 else _plain(part, first=i == 0) for i, part in enumerate(parts))


def markdown(docstring: str) -> str:
    """A docstring as Markdown: paragraphs and one level of lists, ending in a newline; empty for an empty one.

    Lines are joined, so that none begins with what Markdown takes for a list or a heading. A block that is indented
    deeper than the text around it (an example, a table) stays as it is, as code.
    """
    blocks = re.split(r"\n[ \t]*\n", inspect.cleandoc(docstring).expandtabs())
    made: list[str] = []
    before = ""
    for block in (block for block in blocks if block.strip()):
        shown, kind = _block(block)
        gap = "\n" if kind == before == "item" else "\n\n"
        made.append((gap if made else "") + shown)
        before = kind
    return "".join(made) + "\n" if made else ""


def _block(block: str) -> tuple[str, str]:
    lines = block.split("\n")
    if _BULLET.match(lines[0]):
        items: list[list[str]] = []
        for line in lines:
            if _BULLET.match(line):
                items.append([_BULLET.sub("", line, count=1)])
            else:
                items[-1].append(line)
        return "\n".join(f"- {inline(' '.join(item))}" for item in items), "item"
    if all(line.startswith("  ") for line in lines):
        return "\n".join(["```text", *(line[2:] for line in lines), "```"]), "code"
    return inline(block), "text"


def _plain(text: str, *, first: bool) -> str:
    return escaped(text) if first else _SPECIAL.sub(r"\\\1", text)


def _code_in_text(text: str) -> str:
    return code(text).replace(r"\|", "|")
