"""docs/reference/probes.md matches the code, and its examples run."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from chroniker_monitors.checking.measurement import measure
from chroniker_monitors.probes import build_probe, fields, probe_kinds, registry
from tests.support.machine import REPO
from tests.support.probe_servers import (
    CertificateAuthority,
    send_nothing,
    serve_http,
    serve_socket,
)

PAGE = REPO / "docs" / "reference" / "probes.md"
TEXT = PAGE.read_text()
ENTRIES = {
    match[1]: match[2] for match in re.finditer(r"^### (\w+)\n(.*?)(?=^##)", TEXT, re.M | re.S)
}


def test_documented_kinds_are_the_registered_kinds() -> None:
    assert set(ENTRIES) == set(registry.SHIPPED)
    for kind in registry.SHIPPED:
        assert f"[`{kind}`](#{kind})" in TEXT


@pytest.mark.parametrize("kind", sorted(registry.SHIPPED))
def test_documented_parameters_and_defaults_match_the_code(kind: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", ENTRIES[kind], re.M)
    documented = {name: default.strip("` ") for name, default in rows}
    found = fields(kind)
    assert list(documented) == [field.name for field in found]
    for field in found:
        assert (documented[field.name] == "required") == field.required, field.name
        if field.type is not str and field.default is not None:
            assert float(documented[field.name]) == field.default
        elif field.default and not callable(field.choices):
            assert documented[field.name] == field.default
        if field.choices is not None and not callable(field.choices):
            for value, _ in field.choices:
                assert f"`{value}`" in ENTRIES[kind], value


@pytest.mark.parametrize("kind", sorted(registry.SHIPPED))
def test_entry_says_when_the_result_is_unknown(kind: str) -> None:
    assert "nknown: " in ENTRIES[kind] or kind == "heartbeat"


def examples(kind: str) -> list[dict[str, Any]]:
    found = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", ENTRIES[kind], re.S)]
    assert {each["kind"] for each in found} == {kind}
    return found


def example(kind: str, **replaced: str) -> tuple[str, dict[str, Any]]:
    """The first example of a kind."""
    found = examples(kind)[0]
    params = {name: replaced.get(name, value) for name, value in found["params"].items()}
    return found["kind"], params


LOCAL = sorted(set(registry.SHIPPED) - {"http", "tls", "tcp", "queue", "heartbeat"})


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", LOCAL)
def test_local_examples_run(kind: str, settings: Any) -> None:
    settings.CHRONIKER_MONITORS_SQL_ALIAS = "default"
    for each in examples(kind):
        found = measure(build_probe(kind, each["params"]), timeout=30)
        assert not found.error, found


def test_network_examples_run(authority: CertificateAuthority) -> None:
    build_probe(*example("http"))
    build_probe(*example("tls"))
    with serve_http(authority.issue(30, "localhost")) as web_server:
        url = web_server.answer("/health", body=b'{"queues": [{"length": 7}]}')
        assert measure(build_probe(*example("http", url=url)), timeout=30).value == 7
        kind, params = example("tls", host="localhost")
        assert not measure(build_probe(kind, params | {"port": web_server.port}), timeout=30).error
    with serve_socket(send_nothing) as port:
        kind, params = example("tcp", host="localhost")
        assert not measure(build_probe(kind, params | {"port": port}), timeout=30).error


def test_queue_and_heartbeat_examples_can_be_built(settings: Any) -> None:
    settings.CELERY_BROKER_URL = "redis://127.0.0.1/0"
    build_probe(*example("queue"))
    build_probe(*example("heartbeat"))


def test_custom_kind_example_runs(
    kinds: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    (tmp_path / "probes_of_the_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    import_module("probes_of_the_page")
    assert "stock" in probe_kinds()
    assert measure(build_probe("stock", {"shelf": "a"}), timeout=30).value == 3
    assert "not been counted" in measure(build_probe("stock", {"shelf": "b"}), timeout=30).error
