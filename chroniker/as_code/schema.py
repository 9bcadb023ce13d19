"""The JSON Schema of a file, for editors."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from .desired import EDGE_FLAGS, GROUPS, MAINTENANCE, UPSTREAM
from .documents import VERSION, Fields
from .kinds import AnyField, Kind, default_of, kinds

Schema = Fields
_NAMES: Schema = {"type": "array", "items": {"type": "string"}}


def schema() -> Schema:
    """Return the schema of the fields that this version has."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Jobs of Chroniker",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "version": {"const": VERSION},
            **{kind.key: _section(kind) for kind in kinds()},
            MAINTENANCE: {"type": "array", "items": _window()},
        },
    }


def _section(kind: Kind) -> Schema:
    return {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "additionalProperties": False,
            "required": list(kind.required),
            "properties": {
                **{name: _field(field) for name, field in kind.fields().items()},
                GROUPS: {**_NAMES, "description": "Names of groups. They must exist."},
                UPSTREAM: {"type": "array", "items": _edge()},
            },
        },
    }


def _edge() -> Schema:
    flags = {name: {"type": "boolean", "default": default} for name, default in EDGE_FLAGS.items()}
    return {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "additionalProperties": False,
                "required": ["job"],
                "properties": {"job": {"type": "string"}, **flags},
            },
        ]
    }


def _window() -> Schema:
    moment = {"type": "string", "description": "A time such as 2026-12-24T18:00+01:00."}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["starts_at", "ends_at"],
        "properties": {
            "reason": {"type": "string"},
            "starts_at": moment,
            "ends_at": moment,
            "pause": {"type": "boolean", "default": False},
            "jobs": {**_NAMES, "minItems": 1},
        },
    }


def _field(field: AnyField) -> Schema:
    found: Schema = {}
    if help_text := str(field.help_text):
        found["description"] = help_text
    if isinstance(field, models.JSONField):
        return {**found, "type": "array" if field.default is list else "object"}
    kind = "string"
    if isinstance(field, models.BooleanField):
        kind = "boolean"
    elif isinstance(field, models.IntegerField):
        kind = "integer"
    elif isinstance(field, models.FloatField):
        kind = "number"
    found["type"] = [kind, "null"] if field.null else kind
    if field.choices:
        found["enum"] = [value for value, _ in field.flatchoices] + ([None] if field.null else [])
    if kind == "string" and field.max_length:
        found["maxLength"] = field.max_length
    for validator in field.validators:
        limit = getattr(validator, "limit_value", None)
        if callable(limit) or isinstance(limit, bool) or not isinstance(limit, int | float):
            continue
        if isinstance(validator, MinValueValidator):
            found["minimum"] = max(limit, found.get("minimum", limit))
        elif isinstance(validator, MaxValueValidator):
            found["maximum"] = min(limit, found.get("maximum", limit))
    if field.name not in ("timezone",):  # it is the time zone of the site
        found["default"] = default_of(field)
    return found
