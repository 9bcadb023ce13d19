"""A dump of django-chroniker: what ``manage.py dumpdata chroniker`` has written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TextIO

from chroniker.exceptions import ChronikerError

Fields = Mapping[str, object]


class InvalidDump(ChronikerError):
    """The file is not a dump of django-chroniker."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the dump. ``key`` is its primary key or, without one, its natural key."""

    key: str
    fields: Fields

    def text(self, name: str) -> str:
        """A text; empty if it is null or missing."""
        value = self.fields.get(name)
        return "" if value is None else str(value)

    def flag(self, name: str, *, default: bool) -> bool:
        """A Boolean."""
        value = self.fields.get(name, default)
        return default if value is None else bool(value)

    def number(self, name: str) -> int:
        """A number; 0 if it is null, missing or something else."""
        value = self.fields.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0

    def moment(self, name: str) -> datetime | None:
        """A time; naive if the site had ``USE_TZ = False``. Raises InvalidDump."""
        value = self.text(name)
        if not value:
            return None
        try:
            return datetime.fromisoformat(value)
        except ValueError as error:
            raise InvalidDump(f"{name} of {self.key} is {value!r}, which is not a time.") from error

    def reference(self, name: str) -> str:
        """The key of another row."""
        return reference(self.fields.get(name))


@dataclass(slots=True)
class Dump:
    """The rows of a dump, in its order."""

    jobs: list[Row] = field(default_factory=list)
    dependencies: list[Row] = field(default_factory=list)
    logs: list[Row] = field(default_factory=list)
    user_names: dict[str, str] = field(default_factory=dict)
    """User names by primary key, if the dump contains users."""


def reference(value: object) -> str:
    """Return the key of a row that another one names: a primary key or a natural key."""
    if isinstance(value, list):
        return "nk:" + json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)


def read_dump(file: TextIO) -> Dump:
    """Read the JSON of ``dumpdata``. Raises InvalidDump."""
    try:
        rows = json.load(file)
    except ValueError as error:
        raise InvalidDump(f"The file is not JSON: {error}. Write it with dumpdata.") from error
    if not isinstance(rows, list):
        raise InvalidDump("The file is not a list of rows. Write it with dumpdata.")
    dump = Dump()
    kinds = {
        "chroniker.job": dump.jobs,
        "chroniker.jobdependency": dump.dependencies,
        "chroniker.log": dump.logs,
    }
    for row in rows:
        model = row.get("model") if isinstance(row, dict) else None
        fields = row.get("fields") if isinstance(row, dict) else None
        if not isinstance(model, str) or not isinstance(fields, dict):
            raise InvalidDump("A row has no model or no fields. Write the file with dumpdata.")
        if model in kinds:
            key = row.get("pk")
            natural = reference([fields.get("name")])
            kinds[model].append(Row(natural if key is None else str(key), fields))
        elif "username" in fields:
            dump.user_names[str(row.get("pk"))] = str(fields["username"])
    if not dump.jobs:
        raise InvalidDump(
            "The file contains no chroniker.job. Write it with "
            "`python manage.py dumpdata chroniker`."
        )
    if "frequency" not in dump.jobs[0].fields:
        raise InvalidDump(
            "The jobs have no frequency: this is not a dump of django-chroniker. A dump of "
            "Chroniker itself is loaded with loaddata."
        )
    return dump
