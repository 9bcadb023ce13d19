"""Rules and dashboards as files of a site's own, and what has become of those files since.

A note beside the files (``.chroniker-export``) says what was written and with which options. So a
file that somebody edited, or that was there before, is never overwritten unasked, and a copy can
be compared with what this release would write.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from .exposition.textfile import write_atomically

MANIFEST = ".chroniker-export"
"""Without a suffix, so that neither Prometheus nor Grafana takes it for one of theirs."""
PARTS = ("alerts", "dashboards")
JOB = "chroniker"
"""The scrape job in the files as they are shipped."""
GRAFANA_URL = "https://grafana.example"
RUNBOOKS_URL = "https://docs.example/runbooks.md"
"""Addresses in the rules as they are shipped."""


class ExportRefusedError(Exception):
    """What stands in the way, and what to do about it."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What is filled in. Empty: as it was the last time, or as it is shipped."""

    site_url: str = ""
    grafana_url: str = ""
    runbooks_url: str = ""
    job: str = ""
    datasource: str = ""
    folder: str = ""
    dashboards_path: str = ""
    only: str = ""

    def with_defaults_from(self, older: ExportOptions) -> ExportOptions:
        """These, and the older ones where these are empty."""
        given = {name: value for name, value in asdict(self).items() if value}
        return replace(older, **given)

    @property
    def parts(self) -> tuple[str, ...]:
        """Which of the two folders are meant."""
        return (self.only,) if self.only in PARTS else PARTS


# --- what is written ------------------------------------------------------------------------


def source_folder() -> Path:
    """The folder that has alerts/ and dashboards/: in the wheel this package, else the checkout."""
    here = Path(__file__).resolve().parent
    return here if (here / "dashboards").is_dir() else here.parent


def render_files(options: ExportOptions, source: Path | None = None) -> dict[str, str]:
    """Each file, by its path in the copy, with the site's own values filled in."""
    source = source or source_folder()
    found = {}
    for part in options.parts:
        for path in _files(source / part):
            name = path.relative_to(source).as_posix()
            if name.endswith("/datasources.yml") and options.datasource:
                continue  # Grafana knows it already
            found[name] = _fill_in(name, path.read_text(encoding="utf-8"), options)
    if not found:
        raise ExportRefusedError(f"There are no rules and dashboards in {source}.")
    return found


def find_placeholder_urls(files: Mapping[str, str]) -> list[str]:
    """Addresses of nobody that are left in the files."""
    return [
        address
        for address in (GRAFANA_URL, RUNBOOKS_URL)
        if any(address in text for text in files.values())
    ]


def _files(folder: Path) -> Iterator[Path]:
    """Rules, their configuration, dashboards; not their tests and not what they are built from."""
    for pattern in ("*.yml", "*.json", "provisioning/*.yml"):
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
    return text


def _set_yaml_value(text: str, key: str, value: str) -> str:
    """The YAML with another value of this key; a JSON string is one of YAML, too."""
    if not value:
        return text
    quoted = json.dumps(value, ensure_ascii=False)
    return re.sub(rf"(?m)^(\s*{key}: ).*$", lambda found: found[1] + quoted, text)


def _dashboard(text: str, options: ExportOptions) -> str:
    """With the site and its Prometheus chosen when it is opened, and a link to the site's admin."""
    board = json.loads(text)
    chosen = {"job": options.job, "datasource": options.datasource}
    for variable in board["templating"]["list"]:
        if value := chosen.get(variable["name"]):
            variable["current"] = {"text": value, "value": value}
    if options.site_url:
        board["links"].append(_link_to_admin(options.site_url))
    return json.dumps(board, indent=2, ensure_ascii=False) + "\n"


def _link_to_admin(site_url: str) -> dict[str, Any]:
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
    """Where the site has the list of jobs; its start page where it has no admin."""
    from django.urls import NoReverseMatch, reverse

    try:
        return reverse("admin:chroniker_job_changelist")
    except NoReverseMatch:
        return "/"


# --- a site's copy --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a file of the copy."""

    name: str
    what: str


class ExportFolder:
    """The files in a folder of the site."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = self._read_manifest()
        option_names = {field.name for field in fields(ExportOptions)}
        self.options = ExportOptions(
            **{k: str(v) for k, v in manifest["options"].items() if k in option_names}
        )
        # What leads out of the folder was never written by us.
        self.written = {n: d for n, d in manifest["files"].items() if ".." not in Path(n).parts}

    def _read_manifest(self) -> dict[str, dict[str, str]]:
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
            return {"options": dict(manifest["options"]), "files": dict(manifest["files"])}
        except FileNotFoundError:
            return {"options": {}, "files": {}}
        except (ValueError, KeyError, TypeError) as error:
            raise ExportRefusedError(
                f"{self.folder / MANIFEST} cannot be read; delete it, and say --force once."
            ) from error

    def findings(self, files: Mapping[str, str], parts: tuple[str, ...]) -> list[Finding]:
        """What differs from what would be written now."""
        found = [
            Finding(name, what) for name in files if (what := self._compare(name, files[name]))
        ]
        for name in self._obsolete_files(files, parts):
            if self._current_digest(name) is not None:
                found.append(Finding(name, "no longer part of it"))
        return sorted(found, key=lambda finding: finding.name)

    def _compare(self, name: str, text: str) -> str:
        now, wanted, written = self._current_digest(name), _digest(text), self.written.get(name)
        if now is None:
            return "missing"
        if now == wanted:
            return ""
        if written is None:
            return "not written by export_monitoring"
        words = {"edited": now != written, "out of date": wanted != written}
        return ", ".join(word for word, true in words.items() if true)

    def write(self, files: Mapping[str, str], options: ExportOptions, *, force: bool) -> list[str]:
        """Write what is missing or differs, and delete what is no longer shipped; their names.

        Nothing is written if anything would be lost that somebody else wrote, unless forced.
        Raises ExportRefusedError and OSError.
        """
        changed = [name for name in files if self._current_digest(name) != _digest(files[name])]
        obsolete = [
            name for name in self._obsolete_files(files, options.parts) if self._is_unmodified(name)
        ]
        modified_files = [name for name in changed if not self._is_unmodified(name)]
        if modified_files and not force:
            raise ExportRefusedError(
                "These files were edited, or written by somebody else: "
                f"{', '.join(modified_files)}. With --force they are overwritten."
            )
        for name in changed:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, files[name].encode())
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
            write_atomically(path, text.encode())

    def _obsolete_files(self, files: Mapping[str, str], parts: tuple[str, ...]) -> list[str]:
        return [n for n in self.written if n not in files and n.partition("/")[0] in parts]

    def _is_unmodified(self, name: str) -> bool:
        """Whether there is no such file, or it is as it was written."""
        return self._current_digest(name) in (None, self.written.get(name))

    def _current_digest(self, name: str) -> str | None:
        try:
            return hashlib.sha256((self.folder / name).read_bytes()).hexdigest()
        except FileNotFoundError:
            return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
