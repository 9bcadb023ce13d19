"""What a run wrote, in the order in which it was written, with what was not kept marked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.db.models import F, Max

from chroniker.enums import Stream
from chroniker.models import OutputChunk, Run

from .formats import not_kept

SHOWN = 200_000
"""Bytes of the streams, and at most as many characters: what a page or an answer holds."""
_MOST_CHUNKS = 2000
_AT_ONCE = 50
"""Chunks fetched at once for a download, so that its memory does not depend on the output."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive text of one stream. ``gap`` is the line to show before it, or empty."""

    stream: str
    text: str
    gap: str = ""

    def as_json(self) -> dict[str, str]:
        """For the live tail."""
        return {"stream": self.stream, "text": self.text, "gap": self.gap}


@dataclass(frozen=True, slots=True)
class Transcript:
    """Part of a run's output."""

    segments: Sequence[Segment]
    last_id: int
    """Of the last chunk in it, or where it was asked to start after."""
    earlier: bool = False
    """Whether output before it was kept and is not in it."""
    more: bool = False
    """Whether there is more after it by now."""
    ends: Mapping[str, int] = field(default_factory=dict)
    """How far it goes in each stream, bytes."""

    @property
    def cursor(self) -> str:
        """The query by which to ask for what comes next.

        It says how far each stream was seen, because chunks that were in the tail a moment ago
        are deleted when newer ones push them out: those were shown, and are no gap.
        """
        return urlencode({"after": self.last_id, **self.ends})


class _Gaps:
    """Knows how far each stream came, and what lies between that and the next chunk."""

    def __init__(self, ends: Mapping[str, int]) -> None:
        self._ends = dict(ends)

    @property
    def ends(self) -> dict[str, int]:
        return dict(self._ends)

    def before(self, chunk: OutputChunk) -> str:
        missing = chunk.offset - self._ends.get(chunk.stream, 0)
        self._ends[chunk.stream] = chunk.offset + chunk.size
        return not_kept(missing, chunk.stream) if missing > 0 else ""

    def after(self, run: Run) -> list[Segment]:
        """What was lost at the end; nobody can tell before the run has ended."""
        if run.ended_at is None:
            return []
        written = {
            Stream.STDOUT: run.stdout_bytes,
            Stream.STDERR: run.stderr_bytes,
            Stream.LOG: run.log_bytes,
        }
        return [
            Segment(stream, "", not_kept(total - self._ends.get(stream, 0), stream))
            for stream, total in written.items()
            if total > self._ends.get(stream, 0)
        ]


def recent(run: Run, limit: int = SHOWN) -> Transcript:
    """The end of the output."""
    first, taken = None, 0
    newest = _chunks(run).order_by("-id").values_list("id", "size")
    rows = list(newest[: _MOST_CHUNKS + 1])
    for pk, size in rows[:_MOST_CHUNKS]:
        if first is not None and taken + size > limit:
            break
        first, taken = pk, taken + size
    if first is None:
        return Transcript(_Gaps({}).after(run), 0)
    # Fetched by the ids that were seen: what is written meanwhile is for the live tail.
    chunks = list(_chunks(run).filter(id__gte=first, id__lte=rows[0][0]).order_by("id"))
    gaps = _Gaps(_ends_before(run, first))
    segments = _segments(chunks, gaps) + gaps.after(run)
    shortened = _shorten(segments, limit)
    earlier = rows[-1][0] < first or shortened is not segments
    return Transcript(shortened, rows[0][0], earlier=earlier, ends=gaps.ends)


def since(
    run: Run, after: int, ends: Mapping[str, int] | None = None, limit: int = SHOWN
) -> Transcript:
    """What came after the chunk ``after``, at most about ``limit`` bytes of it.

    ``ends`` is how far each stream was seen before.
    """
    sizes = _chunks(run).filter(id__gt=after).order_by("id").values_list("id", "size")
    last, taken, more = after, 0, False
    for number, (pk, size) in enumerate(sizes[: _MOST_CHUNKS + 1]):
        if number == _MOST_CHUNKS or (taken and taken + size > limit):
            more = True
            break
        last, taken = pk, taken + size
    if last == after and run.ended_at is None:
        return Transcript([], after, ends=ends or {})
    chunks = _chunks(run).filter(id__gt=after, id__lte=last).order_by("id")
    gaps = _Gaps(ends or _ends_before(run, after + 1))
    segments = _segments(chunks, gaps)
    if not more:
        segments += gaps.after(run)
    return Transcript(segments, last, more=more, ends=gaps.ends)


def lines(run: Run, stream: str = "") -> Iterator[str]:
    """All that was kept, of one stream or of all, for a download; a few chunks in memory."""
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


def _chunks(run: Run) -> Any:
    return OutputChunk.objects.filter(run=run)


def _all_chunks(run: Run, stream: str) -> Iterator[OutputChunk]:
    query = _chunks(run).order_by("id")
    if stream:
        query = query.filter(stream=stream)
    last = 0
    while batch := list(query.filter(id__gt=last)[:_AT_ONCE]):
        yield from batch
        last = batch[-1].pk


def _ends_before(run: Run, pk: int) -> dict[str, int]:
    """Where each stream stood before the chunk ``pk``."""
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
    """The end of the segments, where escaped bytes made the text longer than the stream."""
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
