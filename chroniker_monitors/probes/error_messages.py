"""Turn exceptions into sentences for the person who has to act on them."""

from __future__ import annotations

import errno
import os
import re
import sys

from chroniker.exceptions import ChronikerError

from .base import BaseProbe
from .params import secret_values

MAX_MESSAGE = 500
_SHORTEST_SECRET = 6


def explain(error: BaseException) -> str:
    """Return a sentence that says what went wrong."""
    if isinstance(error, ChronikerError):
        return str(error) or (type(error).__doc__ or type(error).__name__).strip()
    if isinstance(error, OSError) and not _is_ssl(error):
        return explain_os(error)
    if isinstance(error, ImportError):
        return f"A module cannot be imported: {error}."
    if isinstance(error, SystemExit):
        return f"The probe called sys.exit (exit code {error.code})."
    text = _first_line(error)
    if _is_database(error):
        return f"Database error: {text}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def explain_os(error: OSError, what: str = "") -> str:
    """Return a sentence for an error of the operating system; ``what``: a file, or host:port."""
    name = what or (os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "")
    about = f": {name}" if name else ""
    if isinstance(error, ConnectionRefusedError):
        return f"Connection refused{about}. Nothing listens there."
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return f"The other side closed the connection{about}."
    if isinstance(error, TimeoutError):
        return f"No response in time{about}."
    if isinstance(error, FileNotFoundError):
        return f"No such file or directory{about}."
    if isinstance(error, PermissionError):
        return f"Permission denied for the user who runs the jobs{about}."
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return f"No route to host{about}."
    return f"{error.strerror or _first_line(error)}{about}."


def clean_message(text: str, probe: BaseProbe | None = None) -> str:
    """Return one line of limited length that every database can store, with secrets masked."""
    if not text:
        return ""
    text = _mask(str(text), probe)
    text = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    text = re.sub(r"[\x00-\x1f\x7f-\x9f]", "", text)
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def _mask(text: str, probe: BaseProbe | None) -> str:
    from chroniker.masking import Masker, site_secrets

    secrets = set(site_secrets())
    if probe is not None:
        for value in secret_values(probe):
            parts = {value, *value.split(), *value.splitlines()}
            secrets |= {part for part in parts if len(part) >= _SHORTEST_SECRET}
    return Masker(secrets).mask_text(text)


def _first_line(error: BaseException) -> str:
    args = error.args
    # MySQL's driver gives (code, text).
    if len(args) == 2 and isinstance(args[0], int) and isinstance(args[1], str):
        return f"{args[1]} ({args[0]})"
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else ""


def _is_database(error: BaseException) -> bool:
    from django.db import Error

    return isinstance(error, Error)


def _is_ssl(error: BaseException) -> bool:
    if "ssl" not in sys.modules:  # not imported just for this: it is large
        return False
    import ssl

    return isinstance(error, ssl.SSLError)
