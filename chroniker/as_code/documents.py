"""Files: YAML or JSON, read strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chroniker.exceptions import ChronikerError

JSON = Any
"""A value of a document; whoever reads it checks it."""

VERSION = 1
"""The version of the format."""

Document = Mapping[str, JSON]
"""What a file contains."""
Fields = dict[str, JSON]
"""The same, while it is built."""


class InvalidDocument(ChronikerError):
    """A file or a declaration cannot be used. ``errors`` has a line for each mistake."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


def read_document(path: Path) -> Document:
    """Read a file. Raises InvalidDocument and OSError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise InvalidDocument([f"Line {line} is not UTF-8. Save the file as UTF-8."]) from error
    return parse_json(text) if path.suffix == ".json" else parse_yaml(text)


def parse_json(text: str) -> Document:
    """Parse JSON. Raises InvalidDocument."""

    def unique(pairs: list[tuple[str, JSON]]) -> Fields:
        found: Fields = {}
        for key, value in pairs:
            if key in found:
                raise InvalidDocument([f"{key} is there twice."])
            found[key] = value
        return found

    try:
        return _mapping(json.loads(text, object_pairs_hook=unique))
    except (ValueError, RecursionError) as error:
        raise InvalidDocument([f"The file is not JSON: {error}."]) from error


def parse_yaml(text: str) -> Document:
    """Parse YAML. Raises InvalidDocument."""
    yaml = import_yaml()

    class Loader(yaml.SafeLoader):  # type: ignore[name-defined,misc]
        """Rejects a key that is there twice: one of them would be lost."""

        def construct_mapping(self, node: JSON, deep: bool = False) -> JSON:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for at, key in enumerate(keys):
                if key in keys[:at]:
                    line = node.value[at][0].start_mark.line + 1
                    raise InvalidDocument([f"Line {line}: {key} is there twice."])
            return super().construct_mapping(node, deep=deep)

    try:
        return _mapping(yaml.load(text, Loader=Loader))
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        hint = ' Put quotes around texts that begin with @, * or %: schedule: "@daily".'
        reason = " ".join(str(error).split())
        raise InvalidDocument([f"The file is not YAML: {reason}.{hint}"]) from error


def write_yaml(document: Document) -> str:
    """Return a document as YAML, in its order."""
    yaml = import_yaml()
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return text


def import_yaml() -> Any:
    """Import PyYAML. Raises InvalidDocument if it is missing."""
    try:
        import yaml
    except ImportError as error:
        raise InvalidDocument(
            ['PyYAML is not installed. Install "chroniker[yaml]", or use a file in JSON.']
        ) from error
    return yaml


def _mapping(value: JSON) -> Document:
    if not isinstance(value, dict):
        raise InvalidDocument(["The file must be a mapping with jobs, monitors or maintenance."])
    return value
