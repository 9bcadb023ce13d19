"""What a file or a declaration wants: checked, and with the defaults filled in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from django.core.exceptions import ValidationError

from .documents import VERSION, Document, InvalidDocument
from .kinds import Kind, error_lines, kinds
from .windows import Window, parse_windows

GROUPS, UPSTREAM, MAINTENANCE = "subscriber_groups", "waits_for", "maintenance"
EDGE_FLAGS = {"wait_for_completion": True, "wait_for_success": True, "wait_for_next_run": False}
"""The conditions of a dependency, with their defaults."""

Edge = Document
"""``job`` and the conditions."""


@dataclass(frozen=True, slots=True)
class Desired:
    """A job or a monitor as it should be."""

    kind: Kind
    name: str
    source: str
    values: Document
    """All fields of its kind."""
    groups: tuple[str, ...] = ()
    upstream: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    """The conditions of each job that it waits for, by name."""
    keeps_edits: bool = False
    """Whether a field that a person has edited is left as it is."""

    @property
    def path(self) -> str:
        """Where it is, for an error."""
        return f"{self.kind.key}.{self.name}"


@dataclass(slots=True)
class DesiredState:
    """All that a file and the declarations want."""

    entries: dict[str, Desired] = field(default_factory=dict)
    windows: list[Window] | None = None
    """None: nothing is said about maintenance windows."""
    errors: list[str] = field(default_factory=list)

    def add(self, entry: Desired) -> None:
        """Add an entry. A file, which is added first, wins over a declaration."""
        known = self.entries.get(entry.name)
        if known is None:
            self.entries[entry.name] = entry
        elif known.keeps_edits == entry.keeps_edits:
            self.errors.append(
                f"{entry.path} is also in {known.source} ({known.kind.key}). Names are unique."
            )

    def raise_errors(self) -> None:
        """Raise InvalidDocument if there are any."""
        if self.errors:
            raise InvalidDocument(self.errors)


def read_desired(document: Document, source: str, state: DesiredState) -> None:
    """Add all entries of a document; mistakes become errors of the state."""
    known = {kind.key: kind for kind in kinds()}
    allowed = ["version", *known, MAINTENANCE]
    state.errors += _unknown("", document, allowed)
    if document.get("version", VERSION) != VERSION:
        state.errors.append(f"version: must be {VERSION}.")
    for key, kind in known.items():
        section = {} if document.get(key) is None else document[key]
        if not isinstance(section, dict):
            state.errors.append(f"{key}: must be a mapping of names to definitions.")
            continue
        for name, text in section.items():
            entry = build(kind, name, text, source, state.errors)
            if entry is not None:
                state.add(entry)
    if MAINTENANCE in document:
        state.windows = parse_windows(document[MAINTENANCE], state.errors)


def build(
    kind: Kind,
    name: object,
    text: object,
    source: str,
    errors: list[str],
    *,
    keeps_edits: bool = False,
) -> Desired | None:
    """Check one definition. Mistakes are added to ``errors``."""
    path = f"{kind.key}.{name}"
    before = len(errors)
    if not isinstance(name, str) or not name.strip():
        errors.append(f"{path}: a name must be a text.")
        return None
    if not isinstance(text, dict):
        errors.append(f"{path}: must be a mapping.")
        return None
    errors += _unknown(path, text, [*kind.fields(), GROUPS, UPSTREAM])
    errors += [f"{path}.{field}: is missing." for field in kind.required if field not in text]
    values = kind.defaults()
    try:
        values |= kind.clean(text)
    except ValidationError as error:
        errors += error_lines(path, error)
    groups = _texts(f"{path}.{GROUPS}", text.get(GROUPS), errors)
    upstream = dict(_edges(f"{path}.{UPSTREAM}", text.get(UPSTREAM), errors))
    if len(errors) > before:
        return None
    return Desired(
        kind, name, source, values, tuple(sorted(set(groups))), upstream, keeps_edits=keeps_edits
    )


def _texts(path: str, value: object, errors: list[str]) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        errors.append(f"{path}: must be a list of names.")
        return []
    return list(value)


def _edges(path: str, value: object, errors: list[str]) -> Iterator[tuple[str, Mapping[str, bool]]]:
    if value is None:
        return
    if not isinstance(value, list | tuple):
        errors.append(f"{path}: must be a list of jobs.")
        return
    for item in value:
        edge = {"job": item} if isinstance(item, str) else item
        if not isinstance(edge, dict) or not isinstance(edge.get("job"), str):
            errors.append(f"{path}: each entry is a name, or a mapping with job.")
            continue
        errors += _unknown(path, edge, ["job", *EDGE_FLAGS])
        flags = {name: edge.get(name, default) for name, default in EDGE_FLAGS.items()}
        errors += [
            f"{path}.{name}: must be true or false."
            for name, flag in flags.items()
            if not isinstance(flag, bool)
        ]
        yield edge["job"], flags


def _unknown(path: str, found: Document, allowed: list[str]) -> Iterator[str]:
    for key in found:
        if key in allowed:
            continue
        near = get_close_matches(str(key), allowed, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(allowed)}."
        where = f"{path}.{key}" if path else str(key)
        yield f"{where}: is unknown. {hint}"
