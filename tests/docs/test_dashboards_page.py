"""The page about the dashboards has every panel with its description, as they are built."""

from __future__ import annotations

import json
import os

import pytest

from .blocks import REPO

pytestmark = pytest.mark.slow

PAGE = REPO / "docs" / "reference" / "dashboards.md"
MARK = "<!-- panels: written by tests/docs/test_dashboards_page.py, run with WRITE=1 -->"


def test_page_is_in_step_with_the_dashboards() -> None:
    head = PAGE.read_text().partition(MARK)[0]
    names = ("fleet", "job", "monitors", "hosts")
    text = f"{head}{MARK}\n\n" + "\n".join(section(name) for name in names)
    if os.environ.get("WRITE"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text


def section(name: str) -> str:
    board = json.loads((REPO / "dashboards" / f"chroniker-{name}.json").read_text())
    rows = [f"| **{title}** | {description} |" for title, description in panels(board["panels"])]
    return "\n".join(
        [
            f"## {name.capitalize()}",
            "",
            f"![Layout of the dashboard](../img/dashboard-{name}.svg)",
            "",
            "| panel | what it shows |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def panels(found: list[dict[str, object]]) -> list[tuple[str, str]]:
    """Title and description of each panel, those in sections included."""
    result: list[tuple[str, str]] = []
    for panel in found:
        if panel["type"] == "row":
            inner = panel.get("panels")
            result += panels(inner) if isinstance(inner, list) else []
        else:
            text = " ".join(str(panel.get("description", "")).split()).replace("|", "\\|")
            result.append((str(panel["title"]), text))
    return result
