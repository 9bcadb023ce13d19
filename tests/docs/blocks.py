"""The code blocks of the documentation."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
README = REPO / "README.md"
PAGES = (
    *(REPO / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((REPO / "docs").rglob("*.md")),
)
LANGUAGES = {"python", "sh", "console", "crontab", "yaml", "json", "schedule", "text"}
"""``schedule`` is a schedule of a job; ``text`` is output or a diagram, which nothing checks."""

_FENCE = re.compile(r"^( *)```(\w*)\s*$")
_NOT_RUN = re.compile(r"^<!-- not run: (.+) -->$")


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A fenced block: where it is, and the reason in the comment before it if it is not run."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str = ""

    @property
    def where(self) -> str:
        """Page and line, as an editor opens them."""
        return f"{self.page.relative_to(REPO)}:{self.line}"

    @property
    def file(self) -> str:
        """The file that the first line names in a comment; empty if it names none."""
        match = re.match(r"# ([\w/]+\.py)\n", self.text)
        return match[1] if match else ""


def iter_blocks(page: Path) -> Iterator[CodeBlock]:
    """The blocks of a page in their order."""
    lines = page.read_text().splitlines()
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if not fence:
            number += 1
            continue
        first = number + 1
        number = first
        while lines[number] != f"{fence[1]}```":
            number += 1
        before = [line for line in lines[: first - 1] if line.strip()][-1:]
        reason = _NOT_RUN.match(before[0]) if before else None
        text = textwrap.dedent("\n".join(lines[first:number])) + "\n"
        yield CodeBlock(page, first, fence[2], text, reason[1] if reason else "")
        number += 1


ALL_BLOCKS = [block for page in PAGES for block in iter_blocks(page)]


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text())
