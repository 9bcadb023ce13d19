"""A run's output in the order in which it was written, with a mark wherever some is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from django.db.models import F, Max, QuerySet, Sum, Value
from django.db.models.functions import Length, Replace

from chroniker.enums import Stream
from chroniker.models import OutputChunk, Run

from .ansi import style_after
from .formats import dropped_output
from .output_segments import Segment, count_newlines, limit_lines, shorten

MAX_SHOWN = 200_000
"""The maximum output on a page or in one response: bytes of the streams, and characters."""
STYLE = "style_"
"""The prefix of a stream in a cursor, for its colours."""
_MAX_CHUNKS = 2000
_MAX_COUNTED = 5_000_000
"""Bytes in which the database counts lines for a page."""
_LAST_CHUNKS, _LAST_CHARACTERS = 8, 20_000
"""What is read for the last lines of a stream."""
_BATCH = 50
"""Chunks fetched at a time for a download, so that its memory use does not depend on the output."""


@dataclass(frozen=True, slots=True)
class OutputPart:
    """Part of a run's output."""

    segments: Sequence[Segment]
    last_id: int
    """The key of its last chunk, or the key it was read after."""
    earlier: bool = False
    """Whether there is stored output before it."""
    more: bool = False
    """Whether there is stored output after it."""
    ends: Mapping[str, int] = field(default_factory=dict)
    """The position in each stream at which it ends, bytes."""
    first_id: int = 0
    """The key of its first chunk; 0 if there is none."""
    newlines: int = 0
    """How many line ends there are in the stored output up to its end."""
    styles: Mapping[str, str] = field(default_factory=dict)
    """The colours of each stream at its end, as parameters of a terminal sequence."""
    numbered: bool = True
    """Whether the numbers of its lines count all stored output, and not only what is shown."""

    @property
    def cursor(self) -> str:
        """The query string that requests what comes next.

        It includes the position in each stream. Newer chunks may replace chunks that were already
        shown; with the positions, those are not reported as missing.
        """
        styles = {f"{STYLE}{stream}": style for stream, style in self.styles.items() if style}
        return urlencode({"after": self.last_id, "line": self.newlines, **self.ends, **styles})


class _Gaps:
    """Tracks the position in each stream, and reports what is missing before the next chunk."""

    def __init__(self, ends: Mapping[str, int]) -> None:
        self._ends = dict(ends)

    @property
    def ends(self) -> dict[str, int]:
        return dict(self._ends)

    def before(self, chunk: OutputChunk) -> str:
        missing = chunk.offset - self._ends.get(chunk.stream, 0)
        self._ends[chunk.stream] = chunk.offset + chunk.size
        return dropped_output(missing, chunk.stream) if missing > 0 else ""

    def after(self, run: Run) -> list[Segment]:
        """What is missing at the end. It is not known before the run has ended."""
        if run.ended_at is None:
            return []
        written = {
            Stream.STDOUT: run.stdout_bytes,
            Stream.STDERR: run.stderr_bytes,
            Stream.LOG: run.log_bytes,
        }
        return [
            Segment(stream, "", dropped_output(total - self._ends.get(stream, 0), stream))
            for stream, total in written.items()
            if total > self._ends.get(stream, 0)
        ]


def read_tail(
    run: Run, limit: int = MAX_SHOWN, before: int | None = None, stored: int | None = None
) -> OutputPart:
    """Read the end of the output, or with ``before`` what precedes that chunk.

    ``stored``: how many bytes are stored all in all, if known.
    """
    first, taken = None, 0
    wanted = _chunks(run) if before is None else _chunks(run).filter(id__lt=before)
    rows = list(wanted.order_by("-id").values_list("id", "size")[: _MAX_CHUNKS + 1])
    for pk, size in rows[:_MAX_CHUNKS]:
        if first is not None and taken + size > limit:
            break
        first, taken = pk, taken + size
    if first is None:
        return OutputPart(_Gaps({}).after(run) if before is None else [], 0)
    # Limited to the keys read above: the live tail reads what is written in the meantime.
    chunks = list(_chunks(run).filter(id__gte=first, id__lte=rows[0][0]).order_by("id"))
    earlier = rows[-1][0] < first
    if stored is None:
        stored = sum(stored_bytes(run).values())
    missing = _read_before(run, first, stored) if earlier else _Before({}, 0)
    gaps, newlines = _Gaps(missing.ends), missing.newlines
    styles: dict[str, str] = {}
    segments = _segments(chunks, gaps, newlines or 0, styles)
    ended = newlines if newlines is None else newlines + count_newlines(segments)
    if before is None:
        segments += gaps.after(run)
    shortened = shorten(segments, limit)
    return OutputPart(
        limit_lines(shortened),
        rows[0][0],
        earlier=earlier or shortened is not segments,
        more=before is not None,
        ends=gaps.ends,
        first_id=first,
        newlines=ended or 0,
        numbered=newlines is not None,
        styles=styles,
    )


def read_after(
    run: Run,
    after: int,
    ends: Mapping[str, int] | None = None,
    limit: int = MAX_SHOWN,
    newlines: int | None = None,
    stored: int | None = None,
    styles: Mapping[str, str] | None = None,
) -> OutputPart:
    """Read what follows the chunk ``after``, at most about ``limit`` bytes.

    ``ends`` is the position in each stream that was shown before, bytes, and ``newlines`` the
    number of line ends. They are computed if they are not given. ``styles`` are the colours of
    each stream at that position.
    """
    sizes = _chunks(run).filter(id__gt=after).order_by("id").values_list("id", "size")
    first, last, taken, more = 0, after, 0, False
    for number, (pk, size) in enumerate(sizes[: _MAX_CHUNKS + 1]):
        if number == _MAX_CHUNKS or (taken and taken + size > limit):
            more = True
            break
        first, last, taken = first or pk, pk, taken + size
    if last == after and run.ended_at is None:
        return OutputPart([], after, ends=ends or {}, newlines=newlines or 0, styles=styles or {})
    chunks = _chunks(run).filter(id__gt=after, id__lte=last).order_by("id")
    if ends is None or newlines is None:
        if stored is None:
            stored = sum(stored_bytes(run).values())
        missing = _read_before(run, after + 1, stored)
        ends = missing.ends if ends is None else ends
        newlines = missing.newlines if newlines is None else newlines
    gaps, styles = _Gaps(ends), dict(styles or {})
    segments = _segments(chunks, gaps, newlines or 0, styles)
    ended = (newlines or 0) + count_newlines(segments)
    if not more:
        segments += gaps.after(run)
    return OutputPart(
        limit_lines(segments), last, earlier=after > 0, more=more, ends=gaps.ends, first_id=first,
        newlines=ended, numbered=newlines is not None, styles=styles,
    )  # fmt: skip


def stored_bytes(run: Run) -> dict[str, int]:
    """How many bytes of each stream are stored."""
    sums = _chunks(run).order_by().values_list("stream").annotate(size=Sum("size"))
    return dict(sums)


def last_lines(run: Run, stream: str, lines: int = 20) -> str:
    """The last lines of a stream."""
    newest = _chunks(run).filter(stream=stream).order_by("-id").values_list("text", flat=True)
    text = "".join(reversed(newest[:_LAST_CHUNKS]))[-_LAST_CHARACTERS:]
    return "\n".join(text.rstrip("\n").split("\n")[-lines:])


def iter_text(run: Run, stream: str = "") -> Iterator[str]:
    """All stored text of one stream or of all. Holds only a few chunks in memory."""
    gaps, last_stream, at_line_start = _Gaps({}), "", True
    for chunk in iter_chunks(run, stream):
        gap = gaps.before(chunk)
        if not at_line_start and (gap or chunk.stream != last_stream):
            yield "\n"
        if gap:
            yield f"{gap}\n"
        yield chunk.text
        last_stream = chunk.stream
        at_line_start = chunk.text.endswith("\n") if chunk.text else at_line_start
    for segment in gaps.after(run):
        if stream in ("", segment.stream):
            yield f"{'' if at_line_start else chr(10)}{segment.gap}\n"
            at_line_start = True


def iter_chunks(run: Run, stream: str = "") -> Iterator[OutputChunk]:
    """All stored chunks, of which only a few are in memory."""
    query = _chunks(run).order_by("id")
    if stream:
        query = query.filter(stream=stream)
    last = 0
    while batch := list(query.filter(id__gt=last)[:_BATCH]):
        yield from batch
        last = batch[-1].pk


def _chunks(run: Run) -> QuerySet[OutputChunk]:
    return OutputChunk.objects.filter(run=run)


@dataclass(frozen=True, slots=True)
class _Before:
    """What is stored before a chunk."""

    ends: dict[str, int]
    """The position in each stream, bytes."""
    newlines: int | None
    """The number of line ends; None if counting them would take too long."""


def _read_before(run: Run, pk: int, stored: int) -> _Before:
    """``stored``: bytes that are stored of the run, all in all."""
    counts = stored <= _MAX_COUNTED
    without = Replace("text", Value("\n"), Value(""))
    lines = Sum(Length("text") - Length(without)) if counts else Value(0)
    rows = (
        _chunks(run)
        .filter(id__lt=pk)
        .order_by()
        .values_list("stream")
        .annotate(end=Max(F("offset") + F("size")), lines=lines)
    )
    ends, newlines = {}, 0
    for stream, end, number in rows:
        ends[stream] = end
        newlines += int(number or 0)
    return _Before(ends, newlines if counts else None)


def _segments(
    chunks: Iterable[OutputChunk], gaps: _Gaps, newlines: int, styles: dict[str, str]
) -> list[Segment]:
    """``newlines``: how many line ends there are before the first chunk.

    ``styles``: the colours of each stream before the first chunk, and afterwards after the last.
    """
    segments: list[Segment] = []
    texts: list[str] = []
    for chunk in chunks:
        gap = gaps.before(chunk)
        line = newlines + 1
        newlines += chunk.text.count("\n")
        if texts and not gap and segments[-1].stream == chunk.stream:
            texts.append(chunk.text)
            continue
        _close(segments, texts, styles)
        style = styles.get(chunk.stream, "")
        segments.append(Segment(chunk.stream, "", gap, line, style))
        texts = [chunk.text]
    _close(segments, texts, styles)
    return segments


def _close(segments: list[Segment], texts: list[str], styles: dict[str, str]) -> None:
    if texts:
        last = segments[-1] = replace(segments[-1], text="".join(texts))
        styles[last.stream] = style_after(last.text, last.style)
