"""The dashboards against the TypeScript types of several releases of Grafana."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.boards import BOARDS
from tests.support.machine import REPO, available, find_program

VERSIONS = {"10": "10.4.19", "11": "11.6.16", "12": "12.4.11", "13": "13.2.3"}
TYPESCRIPT = "5.9.3"
PACKAGES = {
    "typescript": TYPESCRIPT,
    **{f"grafana-{major}": f"npm:@grafana/schema@{full}" for major, full in VERSIONS.items()},
}
CACHE = REPO / "var" / "grafana-schema"
OPTIONS = (
    "--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--target", "es2022",
    "--moduleResolution", "bundler",
)  # fmt: skip
PREAMBLE = """
// A type as it is in JSON: an enum is one of its values.
type Plain<T> = T extends string ? `${T}`
  : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
// What Grafana's plugin for Prometheus reads from an annotation, beside what all annotations have.
interface OfPrometheus {
  expr?: string; step?: string; titleFormat?: string; textFormat?: string; tagKeys?: string;
  useValueForTime?: boolean;
}
type Board<D> = D extends { annotations?: { list?: (infer A)[] } }
  ? Plain<Omit<D, 'annotations'> & { annotations?: { list?: (A & OfPrometheus)[] } }> : never;
"""

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("schema")]


@pytest.fixture(scope="module")
def packages() -> Path:
    """The compiler and the types, downloaded once."""
    for program in ("node", "npm"):
        if not available(program):  # not require(): the CI machine has them only by chance
            pytest.skip(f"not on this machine: {program}. The dashboards were not compared.")
    installed = CACHE / "installed.json"  # written last, so that half an installation is repeated
    wanted = json.dumps({"private": True, "dependencies": PACKAGES}, indent=2)
    if not installed.exists() or installed.read_text() != wanted:
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / "package.json").write_text(wanted)
        done = subprocess.run(
            [str(find_program("npm")), "install", "--no-audit", "--no-fund", "--ignore-scripts",
             "--no-package-lock"],
            cwd=CACHE, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"npm cannot download the types of Grafana: {done.stderr[-300:]}")
        installed.write_text(wanted)
    return CACHE


def compile_boards(packages: Path, folder: Path, boards: dict[str, Any]) -> str:
    """What the compiler reports for the dashboards with the types of all versions."""
    lines = [PREAMBLE]
    for major in VERSIONS:
        lines.append(f"import type {{ Dashboard as Dashboard{major} }} from 'grafana-{major}';")
        for name, board in boards.items():
            constant = f"{name.replace('-', '_')}_{major}"
            text = json.dumps(board, indent=1)
            lines.append(f"export const {constant}: Board<Dashboard{major}> = {text};")
    source = packages / f"{folder.name}.ts"  # beside node_modules, where imports are resolved
    source.write_text("\n".join(lines))
    compiler = packages / "node_modules" / "typescript" / "bin" / "tsc"
    try:
        done = subprocess.run(
            [str(find_program("node")), str(compiler), *OPTIONS, str(source)],
            capture_output=True, text=True, timeout=100,
        )  # fmt: skip
    finally:
        source.unlink()
    assert (done.returncode == 0) == (not done.stdout), done.stderr
    return done.stdout


def test_dashboards_have_the_types_of_each_grafana(packages: Path, tmp_path: Path) -> None:
    assert compile_boards(packages, tmp_path, BOARDS) == ""


def test_unknown_properties_are_found(packages: Path, tmp_path: Path) -> None:
    """The check itself: in each version, at the top, in a panel, and a wrong value."""
    board = json.loads(json.dumps(BOARDS["chroniker-hosts"]))
    board["panels"][0]["madeUp"] = True
    wrong = json.loads(json.dumps(BOARDS["chroniker-hosts"]))
    wrong["panels"][0]["fieldConfig"]["defaults"]["thresholds"]["mode"] = "made up"
    top = {"schemaVersion": 39, "madeUpToo": 1}
    found = compile_boards(packages, tmp_path, {"panel": board, "top": top, "value": wrong})
    for name in ("madeUp", "madeUpToo", "made up"):
        assert found.count(f'"{name}"') == len(VERSIONS), name
