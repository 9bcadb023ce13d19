"""``manage.py export_monitoring DIR``."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from django.core.management.base import CommandError, CommandParser

from chroniker.conf import conf
from chroniker.management.base import ChronikerCommand
from chroniker_monitors.export import (
    ExportFolder,
    ExportOptions,
    ExportRefusedError,
    find_placeholder_urls,
    render_files,
)


def _text(pattern: str, what: str) -> Callable[[str], str]:
    """Make the type of an option: text that is safe in PromQL, YAML and JSON."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ArgumentTypeError(f"{text!r} is not a {what}")
        return text

    return check


URL = _text(r"https?://[^\s\"'\\<>{}]+", "URL that begins with http:// or https://")
NAME = _text(r"[^\s\"'\\{}$][^\"'\\\n{}$]*", "plain name without quotes, braces and backslashes")

RULE_LABEL = "release=prometheus"
LABEL = _text(
    r"(?:[a-z0-9.-]+/)?[A-Za-z0-9][\w.-]*=[A-Za-z0-9][\w.-]*", "label of the form LABEL=VALUE"
)


def _site_url() -> str:
    return conf.SITE_URL


class Command(ChronikerCommand):
    """Write rules and dashboards for Prometheus and Grafana."""

    help = (
        "Write the alert rules, the dashboards and their provisioning files to a folder, with the "
        "values of this site. The folder remembers the options, so that after an upgrade DIR is "
        "enough. Edited files are not overwritten."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the arguments."""
        parser.add_argument("folder_path", metavar="DIR", type=Path, help="folder to write to")
        parser.add_argument(
            "--site-url", type=URL, help="URL of the site (default: CHRONIKER_SITE_URL)"
        )
        parser.add_argument("--grafana-url", type=URL, help="URL of Grafana, for links in alerts")
        parser.add_argument(
            "--runbooks-url", type=URL, help="URL of the runbooks, for links in alerts"
        )
        parser.add_argument("--job", type=NAME, help="scrape job of the site (default: chroniker)")
        parser.add_argument(
            "--datasource", type=NAME, help="uid of an existing Prometheus data source"
        )
        parser.add_argument(
            "--folder", type=NAME, help="folder of the dashboards in Grafana (default: Chroniker)"
        )
        parser.add_argument(
            "--dashboards-path",
            help="path of the dashboards on the Grafana host, if it is a different one",
        )
        parser.add_argument(
            "--only", choices=("alerts", "dashboards", "all"), help="parts to write"
        )
        parser.add_argument(
            "--kubernetes",
            nargs="?",
            const=RULE_LABEL,
            type=LABEL,
            metavar="LABEL=VALUE",
            help="also write a PrometheusRule with this label, by which the Prometheus Operator "
            f"finds it (default: {RULE_LABEL})",
        )
        action = parser.add_mutually_exclusive_group()
        action.add_argument(
            "--check",
            action="store_true",
            help="write nothing; list missing, edited and outdated files, and exit with 1 if any",
        )
        action.add_argument("--force", action="store_true", help="overwrite edited files, too")

    def handle(
        self, *args: object, folder_path: Path, check: bool, force: bool, **options: object
    ) -> None:
        """Write the files or compare them."""
        try:
            copy = ExportFolder(folder_path)
            given_options = ExportOptions(
                **{name: str(options[name] or "") for name in ExportOptions.__dataclass_fields__}
            )
            # The path is remembered, so that a copy can be compared in another place.
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
            self.stdout.write(f"{finding.name}: {', '.join(finding.problems)}")
        if findings:
            raise CommandError(
                f"{copy.folder} differs from this release. To update it, run manage.py "
                f"export_monitoring {copy.folder}"
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
                f"The links in alerts still lead to {' and '.join(placeholders)}. "
                "Give --grafana-url and --runbooks-url."
            )
