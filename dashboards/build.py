"""``python -m dashboards.build [--check]``: write the dashboards' JSON, pictures, and alerts.

The files are committed, so that a site does not need the SDK. A test checks that they are up to
date.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TypeAlias, cast

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from . import fleet, grafana_alerts, hosts, job, layout, monitors

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | float | bool | None"

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parent / "docs" / "img"
BOARDS = (fleet, job, monitors, hosts)


def files() -> dict[Path, str]:
    """Return the files to write, with their content."""
    found = {grafana_alerts.TARGET: grafana_alerts.render()}
    for module in BOARDS:
        tidy = _tidy(json.loads(json.dumps(module.build(), cls=JSONEncoder)))
        board = cast(layout.BoardJSON, tidy)
        text = json.dumps(board, indent=2, ensure_ascii=False) + "\n"
        found[HERE / f"{board['uid']}.json"] = text
        name = board["uid"].replace("chroniker", "dashboard")
        found[IMAGES / f"{name}.svg"] = layout.draw_layout(board)
    return found


_UNKNOWN = {"auto", "auto_min", "auto_count", "allowCustomValue", "definition"}
"""What the SDK writes for each variable, and no type of Grafana's schema has."""


def _tidy(part: JSON) -> JSON:
    """Drop what Grafana does not know, and the SDK's default placement.

    Links and annotations belong at the top, not in a menu.
    """
    if isinstance(part, dict):
        is_variable = "skipUrlSync" in part
        return {
            name: _tidy(value)
            for name, value in part.items()
            if (name != "placement" or value != "inControlsMenu")
            and not (is_variable and name in _UNKNOWN)
        }
    return [_tidy(item) for item in part] if isinstance(part, list) else part


def outdated_files() -> list[Path]:
    """Return the files that are missing or differ."""
    return [path for path, text in files().items() if not path.exists() or path.read_text() != text]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m dashboards.build", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a file is outdated"
    )
    if parser.parse_args(argv).check:
        for path in (outdated := outdated_files()):
            print(f"{path} is outdated. Run: python -m dashboards.build", file=sys.stderr)
        return bool(outdated)
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
