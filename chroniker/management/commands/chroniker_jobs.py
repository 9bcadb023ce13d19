"""Jobs as code: export them, compare a file with the database, apply it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from django.core.management.base import CommandError, CommandParser
from django.utils.timezone import now as utc_now

from chroniker.as_code.desired import DesiredState, read_desired
from chroniker.as_code.discovery import read_declarations
from chroniker.as_code.documents import InvalidDocument, read_document, write_yaml
from chroniker.as_code.export import export
from chroniker.as_code.plan import Options, apply
from chroniker.as_code.report import lines
from chroniker.as_code.schema import schema
from chroniker.files import write_atomically
from chroniker.management.base import ChronikerCommand

ACTIONS = ("export", "plan", "apply", "schema")


class Command(ChronikerCommand):
    help = (
        "Keep jobs, monitors and maintenance windows in a file, or declare them in Python. "
        "export: write a file. plan: print what apply would change. apply: change it, after "
        "everything has been validated. schema: print the JSON Schema for editors."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=ACTIONS)
        parser.add_argument(
            "file",
            nargs="?",
            type=Path,
            metavar="FILE",
            help="A file in YAML or, if its name ends in .json, JSON. plan and apply without it: "
            "only what is declared in Python. export without it: print.",
        )
        parser.add_argument(
            "--prune", action="store_true", help="Delete what the file does not have."
        )
        parser.add_argument(
            "--overwrite",
            action="store_true",
            help="Overwrite what a person has edited in a job that is declared in Python.",
        )
        parser.add_argument(
            "--check", action="store_true", help="plan: exit with 1 if there is anything to change."
        )

    def handle(
        self,
        *args: object,
        action: str,
        file: Path | None,
        prune: bool,
        overwrite: bool,
        check: bool,
        **options: object,
    ) -> None:
        if prune and file is None:
            raise CommandError("--prune needs a FILE, so that it does not delete every job.")
        try:
            if action == "schema":
                self._write(file, json.dumps(schema(), indent=2, ensure_ascii=False) + "\n")
            elif action == "export":
                document = export(utc_now())
                as_json = file is not None and file.suffix == ".json"
                text = json.dumps(document, indent=2) + "\n" if as_json else write_yaml(document)
                self._write(file, text)
            else:
                chosen = Options(prune=prune, overwrite=overwrite, dry_run=action == "plan")
                if self._apply(file, chosen) and check and action == "plan":
                    sys.exit(1)
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from error
        except InvalidDocument as error:
            raise CommandError(
                "Nothing was changed.\n" + "\n".join(error.errors)
                if len(error.errors) > 1
                else f"Nothing was changed. {error}"
            ) from error

    def _apply(self, file: Path | None, options: Options) -> bool:
        """Plan or apply; return whether there was anything to change."""
        state = DesiredState()
        if file is not None:
            read_desired(read_document(file), file.name, state)
        read_declarations(state)
        plan = apply(state, options, utc_now())
        for line in lines(plan, applied=not options.dry_run):
            self.stdout.write(line)
        return bool(plan.pending)

    def _write(self, file: Path | None, text: str) -> None:
        if file is None:
            self.stdout.write(text, ending="")
        elif file.exists() and not file.is_file():  # a pipe of the shell
            file.write_text(text, encoding="utf-8")
        else:
            try:
                write_atomically(file, text.encode())
            except OSError as error:  # of a file beside it
                raise CommandError(f"{file}: {error.strerror}") from error
