"""Files are read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from chroniker.as_code.documents import InvalidDocument, parse_json, parse_yaml, read_document


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


@pytest.mark.parametrize("name", ["jobs.yml", "jobs.json"])
def test_file_in_another_encoding_is_named(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes("jobs:\n  Grüße: {}\n".encode("latin-1"))
    with pytest.raises(InvalidDocument, match=r"^Line 2 is not UTF-8\. Save the file as UTF-8\.$"):
        read_document(file)


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "jobs.json"
    file.write_text('{"jobs": {}}', encoding="utf-8-sig")
    assert read_document(file) == {"jobs": {}}


def test_deep_json_is_refused() -> None:
    with pytest.raises(InvalidDocument, match="not JSON"):
        parse_json('{"jobs": ' + "[" * 200_000)
