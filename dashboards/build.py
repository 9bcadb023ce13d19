"""``python -m dashboards.build [--check]``: write the JSON that Grafana reads, and its pictures.

The files are committed, so that a site needs no SDK; a test says when they are out of step.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from . import fleet, hosts, job, layout, monitors

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parent / "docs" / "img"
BOARDS = (fleet, job, monitors, hosts)


def files() -> dict[Path, str]:
    """Each file and what has to be in it."""
    found: dict[Path, str] = {}
    for module in BOARDS:
        board = _tidy(json.loads(json.dumps(module.build(), cls=JSONEncoder)))
        text = json.dumps(board, indent=2, ensure_ascii=False) + "\n"
        found[HERE / f"{board['uid']}.json"] = text
        name = board["uid"].replace("chroniker", "dashboard")
        found[IMAGES / f"{name}.svg"] = layout.draw_layout(board)
    return found


def _tidy(part: Any) -> Any:
    """Without what the SDK puts everywhere: links and annotations belong on top, not in a menu."""
    if isinstance(part, dict):
        return {
            name: _tidy(value)
            for name, value in part.items()
            if name != "placement" or value != "inControlsMenu"
        }
    return [_tidy(item) for item in part] if isinstance(part, list) else part


def outdated_files() -> list[Path]:
    """Files that are missing or differ."""
    return [path for path, text in files().items() if not path.exists() or path.read_text() != text]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m dashboards.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if out of step")
    if parser.parse_args(argv).check:
        for path in (late := outdated_files()):
            print(f"{path} is out of step: python -m dashboards.build", file=sys.stderr)
        return bool(late)
    IMAGES.mkdir(exist_ok=True)
    for path, text in files().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
