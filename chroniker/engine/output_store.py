"""Output and progress of runs in the database."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import F

from chroniker.models import JobState, OutputChunk
from chroniker.processes.output import OutputBatch, OutputPiece

_STATEMENT_CHARACTERS = 2_000_000
"""How much text goes into one INSERT: MariaDB closes the connection on a larger packet."""
_LARGE_CHARACTERS = 8192


def store_output(run: int, batch: OutputBatch, now: datetime) -> None:
    """Add pieces of output, and delete those that no longer belong to the tail."""
    for pieces in _statements(batch.pieces):
        OutputChunk.objects.bulk_create(
            OutputChunk(
                run_id=run,
                stream=piece.stream,
                offset=piece.offset,
                size=piece.size,
                text=piece.text,
                written_at=now,
            )
            for piece in pieces
        )
    for stream, (first, last) in batch.expired.items():
        OutputChunk.objects.filter(
            run=run, stream=stream, offset__gte=first, offset__lte=last - F("size")
        ).delete()


def append_output(state: int, token: str, run: int, batch: OutputBatch, now: datetime) -> bool:
    """Store output of a running run; False, and no change, if the token does not own it."""
    mine = JobState.objects.filter(pk=state, lease_token=token)
    if not mine.update(
        progress_at=F("progress_at")
    ):  # a write, so that the row is locked until the commit
        return False
    store_output(run, batch, now)
    return True


def _statements(pieces: Iterable[OutputPiece]) -> Iterable[list[OutputPiece]]:
    batch: list[OutputPiece] = []
    size = 0
    for piece in pieces:
        if len(piece.text) > _LARGE_CHARACTERS:
            # Alone: several rows go to PostgreSQL as arrays, where each character is read twice.
            yield from ([batch] if batch else [])
            yield [piece]
            batch, size = [], 0
            continue
        if batch and size + len(piece.text) > _STATEMENT_CHARACTERS:
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += len(piece.text)
    if batch:
        yield batch


def store_progress(state: int, token: str, parts: tuple[int, int], now: datetime) -> bool:
    """Store the progress of a run; False if the token no longer owns it."""
    total, done = parts
    changed = JobState.objects.filter(pk=state, lease_token=token).update(
        parts_total=total or None, parts_done=done, progress_at=now
    )
    return bool(changed)
