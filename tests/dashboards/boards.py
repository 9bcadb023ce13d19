"""The committed dashboards, read for tests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from chroniker_monitors.collector.metrics import LEVELS
from tests.support.machine import REPO

FOLDER = REPO / "dashboards"
Board = dict[str, Any]


def boards() -> dict[str, Board]:
    """All dashboards by uid."""
    found = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
    return {board["uid"]: board for board in found}


BOARDS = boards()
every_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())


def panels(board: Board) -> list[dict[str, Any]]:
    """The panels that ask Prometheus: neither rows nor the list of alerts."""
    return [panel for panel in board["panels"] if panel["type"] not in ("row", "alertlist")]


def alert_lists(board: Board) -> list[dict[str, Any]]:
    """The panels that list alerts."""
    return [panel for panel in board["panels"] if panel["type"] == "alertlist"]


class Query(NamedTuple):
    """An expression and its location."""

    where: str
    expr: str
    instant: bool = False


def queries(board: Board) -> Iterator[Query]:
    """Everything that the dashboard asks Prometheus: panels, annotations, variables."""
    uid = board["uid"]
    for panel in panels(board):
        for target in panel["targets"]:
            yield Query(
                f"{uid}/{panel['title']}/{target['refId']}", target["expr"], target["instant"]
            )
    for annotation in board["annotations"]["list"]:
        yield Query(f"{uid}/annotation {annotation['name']}", annotation["expr"])
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert found, variable
            metric, label = found.groups()
            expr = f"count by ({label}) ({metric})"
            yield Query(f"{uid}/variable {variable['name']}", expr, True)


def contract() -> dict[str, set[str]]:
    """The names of all series with their possible labels."""
    found: dict[str, set[str]] = {}
    for level, families in LEVELS.items():
        for family in families:
            suffixes = ("_bucket", "_count", "_sum") if family.type == "histogram" else ("",)
            for suffix in suffixes:
                found[family.name + suffix] = set(family.labels(level))
    return found
