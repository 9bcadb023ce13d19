"""Write the lines of a family for many rows at once.

The templates are bytes: filling one takes half as long as filling a string and encoding it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chroniker_monitors.collector.metrics import MetricFamily, Series, format_go_float
from chroniker_monitors.collector.numbers import Column, Exemplar

Cells = tuple[bytes, Sequence[object]]
"""The placeholder for a column in the template, and the column."""


GO_EXPONENT_LIMIT = 1_000_000
"""Go formats smaller numbers as Python does, and larger ones with an exponent."""
_INTEGER_TYPES = {int, bool}


class FamilyWriter:
    """Writes the lines of a family: one piece of text per row.

    With exemplars, three pieces per row: the lines up to the one with the exemplar, the exemplar,
    and the rest, which begins with the end of that line.
    """

    def __init__(self, family: MetricFamily, bounds: Sequence[float]) -> None:
        self.family = family
        self._lines = [_line(family, series) for series in family.series(bounds)]

    def __call__(
        self,
        labels: Mapping[str, Sequence[bytes]],
        cells: Mapping[str, Cells],
        exemplars: Sequence[Exemplar | None] | None = None,
    ) -> Sequence[Sequence[bytes]]:
        """Return the pieces, as columns.

        ``labels``: escaped label values, by name; "common" are the labels of every line.
        ``cells``: the numbers, by name.
        """
        templates: list[bytes] = []
        columns: list[Sequence[object]] = []
        for start, names, number in self._lines:
            form, column = cells[number]
            templates.append(start + form)
            columns += [*(labels[name] for name in names), column]
        if exemplars is not None:
            per_line = len(columns) // len(templates)
            return _split_at_exemplars(
                templates, list(zip(*columns, strict=True)), per_line, exemplars
            )
        if self.family.optional:
            return [_present_lines(templates, columns)]
        template = b"\n".join(templates) + b"\n"
        return [[template % row for row in zip(*columns, strict=True)]]


def _present_lines(
    templates: Sequence[bytes], columns: Sequence[Sequence[object]]
) -> Sequence[bytes]:
    """Write the lines that have a number, which is the last of their cells."""
    per_line = len(columns) // len(templates)
    lines = [
        [
            template % row if row[-1] not in (None, b"") else b""
            for row in zip(*columns[start : start + per_line], strict=True)
        ]
        for template, start in (
            (template + b"\n", number * per_line) for number, template in enumerate(templates)
        )
    ]
    return lines[0] if len(lines) == 1 else [b"".join(row) for row in zip(*lines, strict=True)]


def _split_at_exemplars(
    templates: Sequence[bytes],
    rows: Sequence[tuple[object, ...]],
    per_line: int,
    exemplars: Sequence[Exemplar | None],
) -> Sequence[Sequence[bytes]]:
    """Cut each row after the line with the exemplar, or after the last line if it has none."""
    heads = [b"\n".join(templates[: line + 1]) for line in range(len(templates))]
    tails = [
        b"\n".join([b"", *templates[line + 1 :], b""]) if line + 1 < len(templates) else b"\n"
        for line in range(len(templates))
    ]
    last = len(templates) - 1
    lines = [last if exemplar is None else exemplar.line for exemplar in exemplars]
    cuts = [(line + 1) * per_line for line in lines]
    return [
        [heads[line] % row[:cut] for line, cut, row in zip(lines, cuts, rows, strict=True)],
        [b"" if exemplar is None else format_exemplar(exemplar) for exemplar in exemplars],
        [tails[line] % row[cut:] for line, cut, row in zip(lines, cuts, rows, strict=True)],
    ]


def format_exemplar(exemplar: Exemplar) -> bytes:
    """Format an exemplar as in OpenMetrics, for the end of its line."""
    value = format_number(exemplar.value)
    trace = b',trace_id="%b"' % exemplar.trace_id.encode() if exemplar.trace_id else b""
    return b' # {run_id="%d"%b} %b %a' % (exemplar.run_id, trace, value, exemplar.at)


def format_column(numbers: Column) -> Cells:
    """Prepare a column for a template: small integers stay numbers, others become text."""
    if set(map(type, numbers)) <= _INTEGER_TYPES and _all_below(GO_EXPONENT_LIMIT, numbers):  # type: ignore[arg-type]
        return b"%d.0", numbers
    return b"%b", [b"" if number is None else format_number(number) for number in numbers]


def _all_below(limit: int, numbers: Sequence[int]) -> bool:
    return min(numbers, default=0) >= 0 and max(numbers, default=0) < limit


def format_number(number: float) -> bytes:
    """Format a number as Go does. Most numbers take a fast path through Python's formatting."""
    if 0 <= number < GO_EXPONENT_LIMIT:
        return repr(float(number)).encode()
    if 1e9 <= number < 2**32:
        # Probably a timestamp. Timestamps one microsecond apart are different floats, so these
        # digits are the ones that repr() would find, in half the time.
        microseconds = round(number * 1e6)
        if microseconds / 1e6 == number:
            digits = b"%d" % microseconds
            return (digits[:1] + b"." + digits[1:]).rstrip(b"0.") + b"e+09"
    return format_go_float(number).encode()


def escape_all(texts: Sequence[str]) -> Sequence[bytes]:
    """Escape label values, and encode them."""
    together = "".join(texts)
    if any(character in together for character in '\\\n"'):
        texts = [escape(text) for text in texts]
    return [text.encode() for text in texts]


def escape(text: str) -> str:
    """Escape a label value."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _line(family: MetricFamily, series: Series) -> tuple[bytes, list[str], str]:
    """Return a line's template, the names of the labels that fill it, and its number's name.

    Labels are sorted. "common" may be two labels, host and job_name: no other label sorts between
    them.
    """
    values = {label: (f'{label}="%b"', [label]) for label in family.texts}
    values |= {label: (f'{label}="{escape(value)}"', []) for label, value in series.labels}
    values["job_name"] = ("%b", ["common"])
    inner = [values[label] for label in sorted(values)]
    places = [name for _, names in inner for name in names]
    labels = ",".join(text for text, _ in inner)
    return f"{series.name}{{{labels}}} ".encode(), places, series.number
