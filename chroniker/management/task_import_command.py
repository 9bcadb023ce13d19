"""What the commands that import tasks from the tables of other apps have in common."""

from __future__ import annotations

import argparse

from django.core.management.base import CommandParser
from django.db import connections

from chroniker.imports.tasks import TaskMap
from chroniker.management.import_command import ImportCommand


def mapping(text: str) -> tuple[str, str]:
    """Parse ``TASK=NAME``."""
    task, _, name = text.partition("=")
    if not task or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form TASK=NAME")
    return task, name


def database(text: str) -> str:
    """Check an alias of DATABASES."""
    if text not in connections:
        raise argparse.ArgumentTypeError(f"there is no database {text!r} in DATABASES")
    return text


class TaskImportCommand(ImportCommand):
    """A command that reads tasks, which management commands or other tasks replace."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options of all imports of tasks."""
        super().add_arguments(parser)
        parser.add_argument(
            "--map",
            action="append",
            type=mapping,
            default=[],
            metavar="TASK=NAME",
            help="The management command, or the dotted path of the task of django.tasks, that "
            "does the work of a task. Can be repeated.",
        )
        parser.add_argument(
            "--database",
            type=database,
            default="default",
            metavar="ALIAS",
            help="The database that has the tables.",
        )

    def task_map(self, pairs: list[tuple[str, str]]) -> TaskMap:
        """Return what replaces each task."""
        return TaskMap(dict(pairs))
