"""Files are read strictly."""

from __future__ import annotations

import pytest

from chroniker.as_code.documents import InvalidDocument, parse_json, parse_yaml


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("jobs: {a: {}, a: {}}", "a is there twice"),
        ("jobs:\n  a:\n    schedule: @daily\n", "Put quotes"),
        ("- a\n- b\n", "must be a mapping"),
        ("", "must be a mapping"),
        ("jobs: [", "not YAML"),
        ("!!python/object/apply:os.system [id]", "not YAML"),
        ("? {a: 1}\n: b\n", "not YAML"),
    ],
)
def test_mistakes_in_yaml_are_named(text: str, reason: str) -> None:
    with pytest.raises(InvalidDocument, match=reason):
        parse_yaml(text)


@pytest.mark.parametrize(
    ("text", "reason"), [('{"jobs": {}, "jobs": {}}', "twice"), ("[]", "mapping"), ("{", "JSON")]
)
def test_mistakes_in_json_are_named(text: str, reason: str) -> None:
    with pytest.raises(InvalidDocument, match=reason):
        parse_json(text)
