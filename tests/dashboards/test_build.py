"""The committed files are what the builder writes."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from tests.dashboards.boards import alert_lists, boards, panels
from tests.support.machine import REPO

IMAGES = REPO / "docs" / "img"


def test_committed_files_are_up_to_date() -> None:
    """WRITE=1 rebuilds them."""
    options = [] if os.environ.get("WRITE") else ["--check"]
    done = subprocess.run(
        [sys.executable, "-m", "dashboards.build", *options],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("board", boards().values(), ids=boards().keys())
def test_picture_shows_every_panel(board: dict[str, object]) -> None:
    name = str(board["uid"]).replace("chroniker", "dashboard")
    picture = ET.parse(IMAGES / f"{name}.svg")
    texts = " ".join(element.text or "" for element in picture.iter() if element.tag[-4:] == "text")
    drawn = [*panels(board), *alert_lists(board)]
    for panel in drawn:
        assert panel["title"] in texts
    rects = [element for element in picture.iter() if element.tag[-4:] == "rect"]
    assert len(rects) == len(drawn) + 1


def test_document_shows_every_picture_and_names_every_panel() -> None:
    text = (REPO / "docs" / "reference" / "dashboards.md").read_text()
    for uid, board in boards().items():
        assert f"(../img/{uid.replace('chroniker', 'dashboard')}.svg)" in text
        titles = [*panels(board), *alert_lists(board)]
        assert [p["title"] for p in titles if f"**{p['title']}**" not in text] == []
