"""stdout and stderr in a job's process: what is written is in the pipe before the call returns.

Whatever a job has written is kept, even if it is killed right after it, so nothing waits in its
memory. ``print()`` writes its values, the separators and the end of the line one by one, each with
a system call. Here it joins them and writes once.
"""

from __future__ import annotations

import builtins
import functools
import io
import os
import select
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_ATOMIC_CHARACTERS = select.PIPE_BUF // 4
"""At most PIPE_BUF bytes, which are written as a whole: pipe(7)."""

_print = builtins.print
_write_text = io.TextIOWrapper.write


class Console(io.TextIOWrapper):
    """A text stream without a buffer."""

    def __init__(self, fd: int) -> None:
        super().__init__(
            io.FileIO(fd, "w", closefd=False),
            encoding="utf-8",
            errors="backslashreplace",
            write_through=True,
        )

    def write(self, text: str, /) -> int:
        """Write all of a text. A signal may end a system call that writes more than PIPE_BUF."""
        if type(text) is not str or len(text) <= _ATOMIC_CHARACTERS:
            return _write_text(self, text)
        if self.encoding == "utf-8":
            view = memoryview(text.encode(errors=self.errors or "strict"))
            while view:
                view = view[os.write(self.fileno(), view) :]
        else:  # the job has chosen it, and it may have a state
            for start in range(0, len(text), _ATOMIC_CHARACTERS):
                _write_text(self, text[start : start + _ATOMIC_CHARACTERS])
        return len(text)


@functools.wraps(_print)
def print_at_once(
    *values: object,
    sep: str | None = " ",
    end: str | None = "\n",
    file: SupportsWrite[str] | None = None,
    flush: bool = False,
) -> None:
    """print(), which writes to a console with one system call."""
    console = sys.stdout if file is None else file
    if type(console) is not Console or type(sep) is not str or type(end) is not str:
        _print(*values, sep=sep, end=end, file=file, flush=flush)  # type: ignore[arg-type]
        return
    # Nearly always it is one value.
    text = f"{values[0]!s}{end}" if len(values) == 1 else sep.join(map(str, values)) + end
    if len(text) <= _ATOMIC_CHARACTERS:
        _write_text(console, text)
    else:
        console.write(text)


def replace_consoles() -> None:
    """Make stdout and stderr of this process consoles, and let ``print()`` know them."""
    sys.stdout = sys.__stdout__ = Console(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = Console(2)  # type: ignore[misc]
    builtins.print = print_at_once
