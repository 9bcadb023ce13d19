"""Export rules and dashboards to a folder of the site, and compare the folder with a release.

A manifest in the folder (``.chroniker-export``) records what was written and with which options.
So a file that a person edited, or that existed before, is only overwritten with ``--force``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path

from chroniker.files import READABLE, write_atomically

MANIFEST = ".chroniker-export"
"""It has no suffix, so that Prometheus and Grafana do not load it."""
PARTS = ("alerts", "dashboards")
RULES = "alerts/chroniker.rules.yml"
PROMETHEUS_RULE = "alerts/kubernetes/prometheusrule.yaml"
JOB = "chroniker"
"""The scrape job in the shipped files."""
DATASOURCE = "prometheus"
"""The uid of the data source in Grafana's alerts."""
GRAFANA_URL = "https://grafana.example"
RUNBOOKS_URL = "https://docs.example/runbooks.md"
"""Placeholders in the shipped rules."""


class ExportRefusedError(Exception):
    """The export is not possible; the message says what to do."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The values of the site. Empty: as in the last export, or as shipped."""

    site_url: str = ""
    grafana_url: str = ""
    runbooks_url: str = ""
    job: str = ""
    datasource: str = ""
    folder: str = ""
    dashboards_path: str = ""
    only: str = ""
    kubernetes: str = ""
    """``LABEL=VALUE`` by which the Prometheus Operator finds rules; empty: no PrometheusRule."""

    def with_defaults_from(self, older: ExportOptions) -> ExportOptions:
        """Fill empty options from ``older``."""
        given = {name: value for name, value in asdict(self).items() if value}
        return replace(older, **given)

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders to export."""
        return (self.only,) if self.only in PARTS else PARTS


# --- the content ----------------------------------------------------------------------------


def source_folder() -> Path:
    """Return the folder with alerts/ and dashboards/: the installed package or the checkout."""
    here = Path(__file__).resolve().parent
    return here if (here / "dashboards").is_dir() else here.parent


def render_files(options: ExportOptions, source: Path | None = None) -> dict[str, str]:
    """Render each file with the values of the site, by its path in the folder."""
    source = source or source_folder()
    found = {}
    for part in options.parts:
        for path in _files(source / part):
            name = path.relative_to(source).as_posix()
            if name.endswith("/datasources.yml") and options.datasource:
                continue  # it exists in Grafana already
            found[name] = _fill_in(name, path.read_text(encoding="utf-8"), options)
    if options.kubernetes and RULES in found:
        found[PROMETHEUS_RULE] = _as_prometheus_rule(found[RULES], options.kubernetes)
    if not found:
        raise ExportRefusedError(f"{source} contains no rules and dashboards.")
    return found


def _as_prometheus_rule(rules: str, label: str) -> str:
    """Wrap rules into a resource of the Prometheus Operator. Their comments stay."""
    key, _, value = label.partition("=")
    head = (
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n"
        f"  name: chroniker\n  labels:\n    {json.dumps(key)}: {json.dumps(value)}\nspec:\n"
    )
    return head + "".join(f"  {line}" if line.strip() else line for line in rules.splitlines(True))


def find_placeholder_urls(files: Mapping[str, str]) -> list[str]:
    """Find the placeholders that are left in the files."""
    return [
        address
        for address in (GRAFANA_URL, RUNBOOKS_URL)
        if any(address in text for text in files.values())
    ]


def _files(folder: Path) -> Iterator[Path]:
    """Find the rules, their configuration and the dashboards, without tests and sources."""
    for pattern in ("*.yml", "*.json", "provisioning/*.yml", "grafana/*.yml"):
        yield from sorted(folder.glob(pattern))


def _fill_in(name: str, text: str, options: ExportOptions) -> str:
    if name.endswith(".json"):
        return _dashboard(text, options)
    addresses = {GRAFANA_URL: options.grafana_url, RUNBOOKS_URL: options.runbooks_url}
    for shipped, wanted in addresses.items():
        if wanted:
            text = text.replace(shipped, wanted.rstrip("/"))
    if options.job:
        text = re.sub(rf'(\bjob\s*=~?\s*"){JOB}"', lambda found: found[1] + options.job + '"', text)
        text = re.sub(
            rf"(\bjob_name:\s+){JOB}\b", lambda found: found[1] + json.dumps(options.job), text
        )
    if name.endswith("provisioning/dashboards.yml"):
        text = _set_yaml_value(text, "folder", options.folder)
        text = _set_yaml_value(text, "path", options.dashboards_path)
    if name.endswith("grafana/chroniker-alerts.yml"):
        text = _set_yaml_value(text, "folder", options.folder)
        if options.datasource:
            uid = json.dumps(options.datasource)
            text = re.sub(
                rf"(?m)(datasourceUid: ){DATASOURCE}$", lambda found: found[1] + uid, text
            )
    return text


def _set_yaml_value(text: str, key: str, value: str) -> str:
    """Set the value of a key in YAML. A JSON string is valid YAML."""
    if not value:
        return text
    quoted = json.dumps(value, ensure_ascii=False)
    return re.sub(rf"(?m)^(\s*{key}: ).*$", lambda found: found[1] + quoted, text)


def _dashboard(text: str, options: ExportOptions) -> str:
    """Preset the scrape job and the data source, and link to the admin of the site."""
    board = json.loads(text)
    chosen = {"job": options.job, "datasource": options.datasource}
    for variable in board["templating"]["list"]:
        if value := chosen.get(variable["name"]):
            variable["current"] = {"text": value, "value": value}
    if options.site_url:
        board["links"].append(_link_to_admin(options.site_url))
    return json.dumps(board, indent=2, ensure_ascii=False) + "\n"


def _link_to_admin(site_url: str) -> dict[str, object]:
    return {
        "title": "Admin",
        "type": "link",
        "icon": "external link",
        "tooltip": "The jobs in the site's admin",
        "url": site_url.rstrip("/") + _admin_path(),
        "tags": [],
        "asDropdown": False,
        "targetBlank": True,
        "includeVars": False,
        "keepTime": False,
    }


def _admin_path() -> str:
    """Return the path of the list of jobs, or of the start page if the site has no admin."""
    from django.urls import NoReverseMatch, reverse

    try:
        return reverse("admin:chroniker_job_changelist")
    except NoReverseMatch:
        return "/"


# --- the folder -----------------------------------------------------------------------------


class Problem(StrEnum):
    """How a file differs from the release."""

    MISSING = "missing"
    EDITED = "edited"
    OUTDATED = "outdated"
    FOREIGN = "not written by export_monitoring"
    OBSOLETE = "no longer part of the release"


@dataclass(frozen=True, slots=True)
class Finding:
    """A file of the folder that differs from the release."""

    name: str
    problems: tuple[Problem, ...]


class ExportFolder:
    """The exported files in a folder of the site."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = self._read_manifest()
        option_names = {field.name for field in fields(ExportOptions)}
        self.options = ExportOptions(
            **{k: str(v) for k, v in manifest["options"].items() if k in option_names}
        )
        # Ignore paths that lead out of the folder; the export never writes such a path.
        self.written = {n: d for n, d in manifest["files"].items() if ".." not in Path(n).parts}

    def _read_manifest(self) -> dict[str, dict[str, str]]:
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
            return {"options": dict(manifest["options"]), "files": dict(manifest["files"])}
        except FileNotFoundError:
            return {"options": {}, "files": {}}
        except (ValueError, KeyError, TypeError) as error:
            raise ExportRefusedError(
                f"{self.folder / MANIFEST} cannot be read. Delete it and run again with --force."
            ) from error

    def findings(self, files: Mapping[str, str], parts: tuple[str, ...]) -> list[Finding]:
        """Compare the folder with what would be written now."""
        found = [
            Finding(name, problems)
            for name, text in files.items()
            if (problems := self._compare(name, text))
        ]
        for name in self._obsolete_files(files, parts):
            if self._current_digest(name) is not None:
                found.append(Finding(name, (Problem.OBSOLETE,)))
        return sorted(found, key=lambda finding: finding.name)

    def _compare(self, name: str, text: str) -> tuple[Problem, ...]:
        current, wanted, written = self._current_digest(name), _digest(text), self.written.get(name)
        if current is None:
            return (Problem.MISSING,)
        if current == wanted:
            return ()
        if written is None:
            return (Problem.FOREIGN,)
        problems = {Problem.EDITED: current != written, Problem.OUTDATED: wanted != written}
        return tuple(problem for problem, applies in problems.items() if applies)

    def write(self, files: Mapping[str, str], options: ExportOptions, *, force: bool) -> list[str]:
        """Write new and changed files, delete obsolete ones, and return the names of both.

        If that would overwrite an edited or foreign file, nothing is written, unless ``force``.
        Raises ExportRefusedError and OSError.
        """
        changed = [name for name in files if self._current_digest(name) != _digest(files[name])]
        obsolete = [
            name for name in self._obsolete_files(files, options.parts) if self._is_unmodified(name)
        ]
        modified_files = [name for name in changed if not self._is_unmodified(name)]
        if modified_files and not force:
            raise ExportRefusedError(
                "These files were edited or not written by export_monitoring: "
                f"{', '.join(modified_files)}. Use --force to overwrite them."
            )
        for name in changed:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, files[name].encode(), mode=READABLE)
        for name in obsolete:
            (self.folder / name).unlink(missing_ok=True)
        kept = {n: d for n, d in self.written.items() if n.partition("/")[0] not in options.parts}
        self.written = kept | {name: _digest(text) for name, text in files.items()}
        self.options = options
        self._write_manifest()
        return [*changed, *obsolete]

    def _write_manifest(self) -> None:
        manifest = {
            "about": "Written by manage.py export_monitoring, which compares the files with it.",
            "options": asdict(self.options),
            "files": dict(sorted(self.written.items())),
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        path = self.folder / MANIFEST
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text.encode(), mode=READABLE)

    def _obsolete_files(self, files: Mapping[str, str], parts: tuple[str, ...]) -> list[str]:
        return [n for n in self.written if n not in files and n.partition("/")[0] in parts]

    def _is_unmodified(self, name: str) -> bool:
        """Whether the file does not exist or is as it was written."""
        return self._current_digest(name) in (None, self.written.get(name))

    def _current_digest(self, name: str) -> str | None:
        try:
            return hashlib.sha256((self.folder / name).read_bytes()).hexdigest()
        except FileNotFoundError:
            return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
