"""Parameters: what a kind accepts, what it rejects, and the messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from chroniker_monitors.exceptions import ParamsInvalid
from chroniker_monitors.probes import BaseProbe, Reading, fields, param, probe_kinds
from chroniker_monitors.probes.params import param_fields, probe_from_params

_colours = ["red", "green"]


def colours() -> list[tuple[str, str]]:
    return [(colour, colour.title()) for colour in _colours]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleProbe(BaseProbe):
    kind: ClassVar[str] = "sample"

    text: str = param(label="Text")
    lines: str = param("", label="Lines", multiline=True)
    number: int = param(5, label="Number", minimum=1, maximum=10)
    ratio: float | None = param(None, label="Ratio")
    colour: str = param("", label="Colour", choices=colours)
    flag: bool = param(False, label="Flag")
    phrase: str = param("", label="Phrase", secret=True)

    def clean(self) -> None:
        if self.text == "no":
            raise ParamsInvalid({"text": ["Not that one."]})

    def run(self) -> Reading:
        return Reading(1)


def test_given_parameters_are_used_and_others_have_defaults() -> None:
    probe = probe_from_params(
        ExampleProbe, {"text": " a ", "ratio": 2, "colour": "red", "lines": "a\r\nb"}
    )
    assert isinstance(probe, ExampleProbe)
    assert (probe.text, probe.lines, probe.number, probe.ratio) == ("a", "a\nb", 5, 2.0)
    assert isinstance(probe.ratio, float)
    assert probe.flag is False
    assert probe_from_params(ExampleProbe, {"text": "a", "ratio": None, "number": 3.0}).number == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("params", "name", "part"),
    [
        ({}, "text", "required"),
        ({"text": "  "}, "text", "required"),
        ({"text": None}, "text", "text, not None"),
        ({"text": 5}, "text", "must be text"),
        ({"text": "a\nb"}, "text", "Control characters"),
        ({"text": "a\0"}, "text", "Control characters"),
        ({"text": "a", "lines": "a\0b"}, "lines", "Control characters"),
        ({"text": "a" * 20_001}, "text", "longer"),
        ({"text": "a", "number": 0}, "number", "at least 1"),
        ({"text": "a", "number": 11}, "number", "at most 10"),
        ({"text": "a", "number": 1.5}, "number", "whole number"),
        ({"text": "a", "number": "3"}, "number", "number, not '3'"),
        ({"text": "a", "number": True}, "number", "number, not True"),
        ({"text": "a", "number": None}, "number", "number, not None"),
        ({"text": "a", "ratio": float("nan")}, "ratio", "number"),
        ({"text": "a", "ratio": float("inf")}, "ratio", "number"),
        ({"text": "a", "colour": "blue"}, "colour", "not one of: red, green"),
        ({"text": "a", "flag": 1}, "flag", "true or false"),
        ({"text": "a", "flga": True}, "flga", "no such parameter"),
        ({"text": "a", "_connector": "OR"}, "_connector", "no such parameter"),
        ({"text": "a", "a\x1b[0m": "OR"}, "a\\x1b[0m", "no such parameter"),
        ({"text": "no"}, "text", "Not that one."),
        ([], "params", "JSON object"),
        ("text", "params", "JSON object"),
    ],
)
def test_invalid_parameter_is_rejected_with_a_reason(params: Any, name: str, part: str) -> None:
    with pytest.raises(ParamsInvalid) as caught:
        probe_from_params(ExampleProbe, params)
    assert list(caught.value.errors) == [name]
    assert part in caught.value.errors[name][0]
    assert part in str(caught.value)


def test_all_invalid_parameters_are_reported_together() -> None:
    with pytest.raises(ParamsInvalid) as caught:
        probe_from_params(ExampleProbe, {"number": 99, "flag": "yes", "other": 1})
    assert set(caught.value.errors) == {"text", "number", "flag", "other"}


def test_fields_have_everything_a_form_needs() -> None:
    found = {field.name: field for field in param_fields(ExampleProbe)}
    assert list(found) == ["text", "lines", "number", "ratio", "colour", "flag", "phrase"]
    assert found["text"].required and found["text"].default is None
    assert found["number"].type is int and found["number"].default == 5
    assert (found["number"].minimum, found["number"].maximum) == (1, 10)
    assert found["ratio"].type is float and not found["ratio"].required
    assert found["flag"].type is bool
    assert found["lines"].multiline and found["phrase"].secret
    assert found["text"].options() == []


def test_choices_are_computed_on_each_access(monkeypatch: pytest.MonkeyPatch) -> None:
    (colour,) = (field for field in param_fields(ExampleProbe) if field.name == "colour")
    assert colour.options() == [("red", "Red"), ("green", "Green")]
    monkeypatch.setattr(f"{__name__}._colours", ["blue"])
    assert colour.options() == [("blue", "Blue")]
    assert probe_from_params(ExampleProbe, {"text": "a", "colour": "blue"})


def test_secret_is_not_shown_with_the_probe() -> None:
    assert "hunter22" not in repr(
        probe_from_params(ExampleProbe, {"text": "a", "phrase": "hunter22"})
    )


@pytest.mark.parametrize("kind", sorted(probe_kinds()))
def test_every_kind_describes_itself_and_its_parameters(kind: str) -> None:
    cls = probe_kinds()[kind]
    assert cls.kind == kind
    assert cls.label and cls.description.endswith(".")
    for field in fields(kind):
        assert field.label
        field.options()
        if not field.required and field.choices and field.default:
            assert field.default in [value for value, _ in field.options()] or field.name in (
                "broker",
            )
