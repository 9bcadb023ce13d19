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

NOTE = ".chroniker-export"
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
class Options:
    """What is filled in. Empty: as it was the last time, or as it is shipped."""

    site_url: str = ""
    grafana_url: str = ""
    runbooks_url: str = ""
    job: str = ""
    datasource: str = ""
    folder: str = ""
    dashboards_path: str = ""
    only: str = ""

    def over(self, older: Options) -> Options:
        """These, and the older ones where these are empty."""
        given = {name: value for name, value in asdict(self).items() if value}
        return replace(older, **given)

    @property
    def parts(self) -> tuple[str, ...]:
        """Which of the two folders are meant."""
        return (self.only,) if self.only in PARTS else PARTS


# --- what is written ------------------------------------------------------------------------


def shipped_in() -> Path:
    """The folder that has alerts/ and dashboards/: in the wheel this package, else the checkout."""
    here = Path(__file__).resolve().parent
    return here if (here / "dashboards").is_dir() else here.parent


def rendered(options: Options, source: Path | None = None) -> dict[str, str]:
    """Each file, by its path in the copy, with the site's own values filled in."""
    source = source or shipped_in()
    found = {}
    for part in options.parts:
        for path in _files(source / part):
            name = path.relative_to(source).as_posix()
            if name.endswith("/datasources.yml") and options.datasource:
                continue  # Grafana knows it already
            found[name] = _filled_in(name, path.read_text(encoding="utf-8"), options)
    if not found:
        raise ExportRefusedError(f"There are no rules and dashboards in {source}.")
    return found


def unfilled(files: Mapping[str, str]) -> list[str]:
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


def _filled_in(name: str, text: str, options: Options) -> str:
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
        text = _scalar(text, "folder", options.folder)
        text = _scalar(text, "path", options.dashboards_path)
    return text


def _scalar(text: str, key: str, value: str) -> str:
    """The YAML with another value of this key; a JSON string is one of YAML, too."""
    if not value:
        return text
    quoted = json.dumps(value, ensure_ascii=False)
    return re.sub(rf"(?m)^(\s*{key}: ).*$", lambda found: found[1] + quoted, text)


def _dashboard(text: str, options: Options) -> str:
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


class Copy:
    """The files in a folder of the site."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        note = self._read_note()
        known = {field.name for field in fields(Options)}
        self.options = Options(**{k: str(v) for k, v in note["options"].items() if k in known})
        # What leads out of the folder was never written by us.
        self.written = {n: d for n, d in note["files"].items() if ".." not in Path(n).parts}

    def _read_note(self) -> dict[str, dict[str, str]]:
        try:
            note = json.loads((self.folder / NOTE).read_text(encoding="utf-8"))
            return {"options": dict(note["options"]), "files": dict(note["files"])}
        except FileNotFoundError:
            return {"options": {}, "files": {}}
        except (ValueError, KeyError, TypeError) as error:
            raise ExportRefusedError(
                f"{self.folder / NOTE} cannot be read; delete it, and say --force once."
            ) from error

    def findings(self, files: Mapping[str, str], parts: tuple[str, ...]) -> list[Finding]:
        """What differs from what would be written now."""
        found = [Finding(name, what) for name in files if (what := self._what(name, files[name]))]
        for name in self._left_over(files, parts):
            if self._now(name) is not None:
                found.append(Finding(name, "no longer part of it"))
        return sorted(found, key=lambda finding: finding.name)

    def _what(self, name: str, text: str) -> str:
        now, wanted, written = self._now(name), _digest(text), self.written.get(name)
        if now is None:
            return "missing"
        if now == wanted:
            return ""
        if written is None:
            return "not written by export_monitoring"
        words = {"edited": now != written, "out of date": wanted != written}
        return ", ".join(word for word, true in words.items() if true)

    def write(self, files: Mapping[str, str], options: Options, *, force: bool) -> list[str]:
        """Write what is missing or differs, and delete what is no longer shipped; their names.

        Nothing is written if anything would be lost that somebody else wrote, unless forced.
        Raises ExportRefusedError and OSError.
        """
        changed = [name for name in files if self._now(name) != _digest(files[name])]
        stale = [name for name in self._left_over(files, options.parts) if self._is_ours(name)]
        foreign = [name for name in changed if not self._is_ours(name)]
        if foreign and not force:
            raise ExportRefusedError(
                "These files were edited, or written by somebody else: "
                f"{', '.join(foreign)}. With --force they are overwritten."
            )
        for name in changed:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, files[name].encode())
        for name in stale:
            (self.folder / name).unlink(missing_ok=True)
        kept = {n: d for n, d in self.written.items() if n.partition("/")[0] not in options.parts}
        self.written = kept | {name: _digest(text) for name, text in files.items()}
        self.options = options
        self._write_note()
        return [*changed, *stale]

    def _write_note(self) -> None:
        note = {
            "about": "Written by manage.py export_monitoring, which compares the files with it.",
            "options": asdict(self.options),
            "files": dict(sorted(self.written.items())),
        }
        text = json.dumps(note, indent=2, ensure_ascii=False) + "\n"
        path = self.folder / NOTE
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text.encode())

    def _left_over(self, files: Mapping[str, str], parts: tuple[str, ...]) -> list[str]:
        return [n for n in self.written if n not in files and n.partition("/")[0] in parts]

    def _is_ours(self, name: str) -> bool:
        """Whether there is no such file, or it is as it was written."""
        return self._now(name) in (None, self.written.get(name))

    def _now(self, name: str) -> str | None:
        try:
            return hashlib.sha256((self.folder / name).read_bytes()).hexdigest()
        except FileNotFoundError:
            return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
