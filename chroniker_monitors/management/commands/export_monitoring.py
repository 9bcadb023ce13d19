"""``manage.py export_monitoring DIR``."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from chroniker.conf import conf
from chroniker_monitors.export import (
    ExportFolder,
    ExportOptions,
    ExportRefusedError,
    find_placeholder_urls,
    render_files,
)


def _text(pattern: str, what: str) -> Callable[[str], str]:
    """An option's type: text that does no harm inside of PromQL, YAML and JSON."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ArgumentTypeError(f"{text!r} is no {what}")
        return text

    return check


URL = _text(r"https?://[^\s\"'\\<>{}]+", "URL that begins with http:// or https://")
NAME = _text(r"[^\s\"'\\{}$][^\"'\\\n{}$]*", "plain name: no quotes, braces, backslashes")


def _site_url() -> str:
    return conf.SITE_URL


class Command(BaseCommand):
    """Write rules and dashboards for Prometheus and Grafana."""

    help = (
        "Write the alert rules, the dashboards and their provisioning files into a folder, with "
        "the site's own values filled in. The options are remembered there, so that after an "
        "upgrade the folder alone will do. A file that somebody edited is not overwritten."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to, and what is filled in."""
        parser.add_argument("folder_path", metavar="DIR", type=Path, help="where to write them")
        parser.add_argument(
            "--site-url", type=URL, help="of the site; by default CHRONIKER_SITE_URL"
        )
        parser.add_argument("--grafana-url", type=URL, help="of Grafana, for the links in alerts")
        parser.add_argument(
            "--runbooks-url", type=URL, help="of docs/how-to/runbooks.md, for the links in alerts"
        )
        parser.add_argument("--job", type=NAME, help="the scrape job of the site (chroniker)")
        parser.add_argument(
            "--datasource", type=NAME, help="uid of Grafana's Prometheus, if it has one"
        )
        parser.add_argument("--folder", type=NAME, help="of the dashboards in Grafana (Chroniker)")
        parser.add_argument(
            "--dashboards-path",
            help="where Grafana finds the dashboards, if not where they are written",
        )
        parser.add_argument("--only", choices=("alerts", "dashboards", "all"))
        action = parser.add_mutually_exclusive_group()
        action.add_argument(
            "--check",
            action="store_true",
            help="write nothing; say which files are missing, edited or out of date, and exit 1",
        )
        action.add_argument(
            "--force", action="store_true", help="overwrite what somebody edited, too"
        )

    def handle(
        self, *args: Any, folder_path: Path, check: bool, force: bool, **options: Any
    ) -> None:
        """Write or compare them."""
        try:
            copy = ExportFolder(folder_path)
            given_options = ExportOptions(
                **{name: options[name] or "" for name in ExportOptions.__dataclass_fields__}
            )
            # Who compares a copy in another place wants the path of the place that it is for.
            path = ExportOptions(dashboards_path=str((folder_path / "dashboards").resolve()))
            stored_options = given_options.with_defaults_from(copy.options.with_defaults_from(path))
            files = render_files(
                stored_options.with_defaults_from(ExportOptions(site_url=_site_url()))
            )
            if check:
                self._check(copy, files, stored_options)
            else:
                self._write(copy, files, stored_options, force=force)
        except (ExportRefusedError, OSError) as error:
            raise CommandError(str(error)) from error

    def _check(self, copy: ExportFolder, files: dict[str, str], options: ExportOptions) -> None:
        findings = copy.findings(files, options.parts)
        for finding in findings:
            self.stdout.write(f"{finding.name}: {finding.what}")
        if findings:
            raise CommandError(
                f"{copy.folder} is not what this release writes: manage.py export_monitoring "
                f"{copy.folder}"
            )
        self.stdout.write(f"{copy.folder} is up to date.")

    def _write(
        self, copy: ExportFolder, files: dict[str, str], options: ExportOptions, *, force: bool
    ) -> None:
        changed = copy.write(files, options, force=force)
        for name in changed:
            self.stdout.write(name)
        self.stdout.write(
            f"{len(changed)} of {len(files)} files written to {copy.folder}."
            if changed
            else f"{copy.folder} is up to date."
        )
        if placeholders := find_placeholder_urls(files):
            self.stdout.write(
                f"The links of alerts lead to {' and '.join(placeholders)}, which are nobody's: say "
                "--grafana-url and --runbooks-url."
            )
