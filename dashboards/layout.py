"""Draw the layout of a dashboard from its grid, as an SVG."""

from __future__ import annotations

from typing import NotRequired, TypedDict
from xml.sax.saxutils import escape

COLUMN, LINE, MARGIN, HEADER = 40, 20, 3, 36
"""Pixels: one of 24 columns, one line of the grid, around a panel, above all panels."""
FILLS = {
    "stat": "#d6ead8",
    "table": "#dbe6f4",
    "timeseries": "#fdf3d8",
    "state-timeline": "#eadff2",
    "bargauge": "#fbe3d6",
    "alertlist": "#f6d9dd",
}
KINDS = {
    "timeseries": "chart",
    "bargauge": "bars",
    "state-timeline": "timeline",
    "stat": "",
    "alertlist": "alerts",
}


class GridPos(TypedDict):
    """Position and size of a panel in the grid."""

    x: int
    y: int
    w: int
    h: int


class PanelJSON(TypedDict):
    """The properties of a panel that are drawn."""

    type: str
    title: str
    gridPos: GridPos
    repeat: NotRequired[str]


class BoardJSON(TypedDict):
    """The properties of a dashboard that are drawn."""

    uid: str
    title: str
    panels: list[PanelJSON]


def draw_layout(board: BoardJSON) -> str:
    """Return the SVG."""
    panels = board["panels"]
    height = HEADER + max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels) * LINE + MARGIN
    width = 24 * COLUMN
    drawn = "\n".join(_panel(panel) for panel in panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" fill="#24292f">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n'
        f'<text x="{2 * MARGIN}" y="24" font-size="18">{escape(board["title"])}</text>\n'
        f"{drawn}\n</svg>\n"
    )


def _panel(panel: PanelJSON) -> str:
    grid = panel["gridPos"]
    left, top = grid["x"] * COLUMN, HEADER + grid["y"] * LINE
    if panel["type"] == "row":
        return (
            f'<text x="{left + 6}" y="{top + 15}" font-size="13">▾ {escape(panel["title"])}</text>'
        )
    width, height = grid["w"] * COLUMN - 2 * MARGIN, grid["h"] * LINE - 2 * MARGIN
    kind = KINDS.get(panel["type"], panel["type"])
    lines = _wrapped(panel["title"], width // 7)
    if panel.get("repeat"):
        kind += f", one for each {panel['repeat']}"
    parts = [
        f'<rect x="{left + MARGIN}" y="{top + MARGIN}" width="{width}" height="{height}" rx="3" '
        f'fill="{FILLS[panel["type"]]}" stroke="#8c959f"/>',
        *(
            f'<text x="{left + 10}" y="{top + 20 + 15 * number}" font-size="12">'
            f"{escape(line)}</text>"
            for number, line in enumerate(lines)
        ),
    ]
    if kind:
        parts.append(
            f'<text x="{left + 10}" y="{top + height - 6}" font-size="11" fill="#57606a">'
            f"{escape(kind)}</text>"
        )
    return "\n".join(parts)


def _wrapped(text: str, letters: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > letters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
