"""A run's output in the order in which it was written, with a mark wherever some is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from django.db.models import F, Max, QuerySet

from chroniker.enums import Stream
from chroniker.models import OutputChunk, Run

from .formats import dropped_output

MAX_SHOWN = 200_000
"""The maximum output on a page or in one response: bytes of the streams, and characters."""
_MAX_CHUNKS = 2000
_BATCH = 50
"""Chunks fetched at a time for a download, so that its memory use does not depend on the output."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive text of one stream. ``gap`` is the line shown before it, or empty."""

    stream: str
    text: str
    gap: str = ""

    def as_json(self) -> dict[str, str]:
        """As the live tail receives it."""
        return {"stream": self.stream, "text": self.text, "gap": self.gap}


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

    @property
    def cursor(self) -> str:
        """The query string that requests what comes next.

        It includes the position in each stream. Newer chunks may replace chunks that were already
        shown; with the positions, those are not reported as missing.
        """
        return urlencode({"after": self.last_id, **self.ends})


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


def read_tail(run: Run, limit: int = MAX_SHOWN) -> OutputPart:
    """Read the end of the output."""
    first, taken = None, 0
    newest = _chunks(run).order_by("-id").values_list("id", "size")
    rows = list(newest[: _MAX_CHUNKS + 1])
    for pk, size in rows[:_MAX_CHUNKS]:
        if first is not None and taken + size > limit:
            break
        first, taken = pk, taken + size
    if first is None:
        return OutputPart(_Gaps({}).after(run), 0)
    # Limited to the keys read above: the live tail reads what is written in the meantime.
    chunks = list(_chunks(run).filter(id__gte=first, id__lte=rows[0][0]).order_by("id"))
    gaps = _Gaps(_ends_before(run, first))
    segments = _segments(chunks, gaps) + gaps.after(run)
    shortened = _shorten(segments, limit)
    earlier = rows[-1][0] < first or shortened is not segments
    return OutputPart(shortened, rows[0][0], earlier=earlier, ends=gaps.ends)


def read_after(
    run: Run, after: int, ends: Mapping[str, int] | None = None, limit: int = MAX_SHOWN
) -> OutputPart:
    """Read what follows the chunk ``after``, at most about ``limit`` bytes.

    ``ends`` is the position in each stream that was shown before, bytes.
    """
    sizes = _chunks(run).filter(id__gt=after).order_by("id").values_list("id", "size")
    last, taken, more = after, 0, False
    for number, (pk, size) in enumerate(sizes[: _MAX_CHUNKS + 1]):
        if number == _MAX_CHUNKS or (taken and taken + size > limit):
            more = True
            break
        last, taken = pk, taken + size
    if last == after and run.ended_at is None:
        return OutputPart([], after, ends=ends or {})
    chunks = _chunks(run).filter(id__gt=after, id__lte=last).order_by("id")
    gaps = _Gaps(ends or _ends_before(run, after + 1))
    segments = _segments(chunks, gaps)
    if not more:
        segments += gaps.after(run)
    return OutputPart(segments, last, more=more, ends=gaps.ends)


def iter_text(run: Run, stream: str = "") -> Iterator[str]:
    """All stored text of one stream or of all. Holds only a few chunks in memory."""
    gaps, last_stream, at_line_start = _Gaps({}), "", True
    for chunk in _all_chunks(run, stream):
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


def _chunks(run: Run) -> QuerySet[OutputChunk]:
    return OutputChunk.objects.filter(run=run)


def _all_chunks(run: Run, stream: str) -> Iterator[OutputChunk]:
    query = _chunks(run).order_by("id")
    if stream:
        query = query.filter(stream=stream)
    last = 0
    while batch := list(query.filter(id__gt=last)[:_BATCH]):
        yield from batch
        last = batch[-1].pk


def _ends_before(run: Run, pk: int) -> dict[str, int]:
    """The position in each stream before the chunk ``pk``, bytes."""
    ends = (
        _chunks(run)
        .filter(id__lt=pk)
        .order_by()
        .values_list("stream")
        .annotate(end=Max(F("offset") + F("size")))
    )
    return dict(ends)


def _segments(chunks: Iterable[OutputChunk], gaps: _Gaps) -> list[Segment]:
    segments: list[Segment] = []
    texts: list[str] = []
    for chunk in chunks:
        gap = gaps.before(chunk)
        if texts and not gap and segments[-1].stream == chunk.stream:
            texts.append(chunk.text)
            continue
        _close(segments, texts)
        segments.append(Segment(chunk.stream, "", gap))
        texts = [chunk.text]
    _close(segments, texts)
    return segments


def _close(segments: list[Segment], texts: list[str]) -> None:
    if texts:
        last = segments[-1]
        segments[-1] = Segment(last.stream, "".join(texts), last.gap)


def _shorten(segments: list[Segment], limit: int) -> list[Segment]:
    """Cut the segments to ``limit`` characters: escaped bytes make text longer than its stream."""
    left = limit
    kept: list[Segment] = []
    for segment in reversed(segments):
        if len(segment.text) > left:
            if left:
                kept.append(Segment(segment.stream, segment.text[-left:]))
            return kept[::-1]
        kept.append(segment)
        left -= len(segment.text)
    return segments
