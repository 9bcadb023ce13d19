"""What the documentation names exists: pages, files, commands, options, settings, metrics."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand

from chroniker import conf, run_context
from chroniker.enums import BlockedReason, MissedReason, NotificationEvent
from chroniker.progress import FD_VARIABLE
from chroniker_monitors.collector.metrics import LEVELS
from chroniker_monitors.conf import all_settings as monitor_settings
from tests.faults.mutants import MUTANTS
from tests.faults.scenarios import SCENARIOS

from .blocks import PAGES, REPO, prose

pytestmark = pytest.mark.slow

DOCS = REPO / "docs"
CHANGELOG = REPO / "CHANGELOG.md"  # names settings that no longer exist
KINDS = ("tutorial", "how-to", "reference", "explanation", "decisions")
COMMANDS = DOCS / "reference" / "commands.md"
ENVIRONMENT = {
    FD_VARIABLE,
    *(value for name, value in vars(run_context).items() if name.endswith("_VARIABLE")),
}
"""Names like settings that are variables of a job's environment."""
TEST_VARIABLES = re.compile(r"CHRONIKER_(TEST|FAULT|MEMORY)")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
ids = {"ids": lambda page: str(page.relative_to(REPO))}


def anchors(page: Path) -> set[str]:
    """The anchors that the code host derives from a page's headings."""
    titles = re.findall(r"(?m)^#+ (.+)$", prose(page))
    texts = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
    return {text.replace(" ", "-") for text in texts}


@pytest.mark.parametrize("page", PAGES, **ids)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_in_the_index() -> None:
    index = DOCS / "README.md"
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in _LINK.findall(prose(index))}
    assert [str(page) for page in DOCS.rglob("*.md") if page not in {index, *linked}] == []


def test_pages_are_of_one_kind() -> None:
    top = {path.name for path in DOCS.iterdir()}
    assert top == {*KINDS, "README.md", "glossary.md", "img"}


@pytest.mark.parametrize("page", PAGES, **ids)
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`((?:chroniker|chroniker_monitors|tests|scripts|alerts|dashboards|demo|"
                       r"benchmarks|docs)/[\w/.-]*)`", prose(page))  # fmt: skip
    roots = (REPO, REPO / "chroniker", REPO / "chroniker_monitors", REPO / "chroniker/templates")
    overridable = {f"chroniker/mail/{event}.txt" for event in NotificationEvent.values}
    missing = [name for name in named if not any((root / name).exists() for root in roots)]
    assert set(missing) <= overridable


@pytest.mark.parametrize("page", [page for page in PAGES if page != CHANGELOG], **ids)
def test_settings_that_are_named_exist(page: Path) -> None:
    known = {s.name for s in (*conf.all_settings(), *monitor_settings())} | ENVIRONMENT
    named = set(re.findall(r"\bCHRONIKER_[A-Z_]*[A-Z]\b(?![_*])", page.read_text()))
    assert {n for n in named - known if not TEST_VARIABLES.match(n)} == set()


@pytest.mark.parametrize("page", PAGES, **ids)
def test_metrics_that_are_named_exist(page: Path) -> None:
    known = {family.name for families in LEVELS.values() for family in families}
    named = set(re.findall(r"`(chroniker_(?:job|monitor|host|collector)_[a-z_]+)`", prose(page)))
    tables = {"chroniker_job_run", "chroniker_job_stop"}
    endings = re.compile(r"_(bucket|sum|count)$")
    assert {n for n in named if endings.sub("", n) not in known} <= tables


@pytest.mark.parametrize("page", PAGES, **ids)
def test_commands_that_are_named_exist(page: Path) -> None:
    named = set(re.findall(r"`(?:python )?manage\.py (\w+)", page.read_text()))
    assert named <= set(get_commands())


def test_guarantees_name_scenarios_and_mutants_that_exist() -> None:
    table = (DOCS / "explanation" / "guarantees.md").read_text().partition("## The frozen host")[0]
    named = {
        name
        for line in table.splitlines()
        if line.startswith("| **")
        for name in re.findall(r"`(\w+)`", line.split("|")[3])
    }
    assert named <= {*SCENARIOS, *(mutant.name for mutant in MUTANTS)}
    assert len(named) > 20


def test_helpers_that_the_testing_page_names_exist() -> None:
    text = (DOCS / "explanation" / "testing.md").read_text()
    section = text.partition("## Nothing of our own is mocked")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)\(", section)) - {"django_db", "xdist_group"}
    files = (REPO / "tests" / "conftest.py", *(REPO / "tests" / "support").glob("*.py"))
    defined = {name for file in files for name in re.findall(r"(?m)^def (\w+)", file.read_text())}
    assert named <= defined


def test_runbook_explains_every_reason() -> None:
    text = (DOCS / "how-to" / "runbooks.md").read_text()
    section = text.partition("## ChronikerJobBlocked")[2].partition("\n## ")[0]
    assert re.findall(r"(?m)^\| `(\w+)` \|", section) == list(BlockedReason.values)
    section = text.partition("## ChronikerJobMissedRuns")[2].partition("\n## ")[0]
    assert set(MissedReason.values) <= set(re.findall(r"`(\w+)`", section))


@pytest.mark.parametrize("page", PAGES, **ids)
def test_dotted_paths_that_are_named_exist(page: Path) -> None:
    for path in re.findall(
        r"`(chroniker(?:_monitors)?(?:\.\w+){2,}\b)(?<!\.yml)", page.read_text()
    ):
        module, _, name = path.rpartition(".")
        parent = importlib.import_module(module)
        assert hasattr(parent, name) or importlib.util.find_spec(path), path


def test_template_variables_that_are_named_exist() -> None:
    text = (DOCS / "how-to" / "notifications.md").read_text()
    named = re.findall(r"`(\w+)`", text.partition("Templates receive ")[2].partition(". ")[0])
    modules = ("mail_context", "incident_context")
    source = "".join(
        (REPO / "chroniker" / "alerting" / f"{name}.py").read_text() for name in modules
    )
    known = set(re.findall(r"""["'](\w+)["']""", source))
    assert set(named) <= known
    assert len(named) > 20


def own_commands() -> list[str]:
    return sorted(n for n, app in get_commands().items() if str(app).startswith("chroniker"))


@pytest.mark.parametrize("name", own_commands())
def test_reference_names_every_option(name: str) -> None:
    text = COMMANDS.read_text()
    section = re.search(rf"(?ms)^## {name}$(.*?)(?=^## |\Z)", text)
    assert section, f"{COMMANDS.name} has no section {name}"
    command = load_command_class(get_commands()[name], name)
    base = {a for action in _base_actions() for a in action}
    for action in command.create_parser("manage.py", name)._actions:
        options = [o for o in action.option_strings if o not in base]
        assert not options or any(f"`{o}" in section[1] for o in options), options


def _base_actions() -> list[list[str]]:
    parser = BaseCommand().create_parser("manage.py", "base")
    return [action.option_strings for action in parser._actions]
