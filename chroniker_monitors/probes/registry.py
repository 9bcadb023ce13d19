"""The registry of probe kinds: built-in ones, the site's own, and those of other packages.

A probe runs in a process that lives for milliseconds. So only the module of the requested
built-in kind is imported, and installed packages are searched only for other kinds.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import TypeVar

from chroniker_monitors.exceptions import UnknownKind

from .base import BaseProbe
from .params import ParamField, param_fields, probe_from_params

logger = logging.getLogger(__name__)

P = TypeVar("P", bound=type[BaseProbe])

ENTRY_POINTS = "chroniker.probes"
"""The group of entry points; each names a probe class, or a module that registers some."""

SHIPPED = {  # docs/reference/probes.md describes each kind, with an example
    "command": "commands",
    "cpu": "system",
    "database": "databases",
    "disk": "system",
    "file": "files",
    "health": "health",
    "heartbeat": "heartbeats",
    "http": "http",
    "load": "system",
    "memory": "system",
    "migrations": "databases",
    "process": "processes",
    "queue": "queues",
    "records": "records",
    "sql": "sql",
    "swap": "system",
    "tcp": "sockets",
    "tls": "sockets",
}
"""Built-in kinds, and the module of this package that registers each."""

_kinds: dict[str, type[BaseProbe]] = {}


def register_probe(cls: P) -> P:
    """Register a kind of probe: a decorator, above ``@dataclass``.

    Raises TypeError or ValueError if the class cannot be used.
    """
    if not (isinstance(cls, type) and issubclass(cls, BaseProbe)):
        raise TypeError(f"{cls!r} is not a subclass of BaseProbe.")
    if "__dataclass_params__" not in vars(cls) or not dataclasses.is_dataclass(cls):
        raise TypeError(
            f"{cls.__qualname__} is not a dataclass; put @register_probe above @dataclass"
        )
    if not re.fullmatch("[a-z][a-z0-9_]{0,31}", cls.kind):
        raise ValueError(f"kind {cls.kind!r}: use up to 32 of a-z, 0-9 and _, a letter first")
    known = _kinds.get(cls.kind)
    shipped = SHIPPED.get(cls.kind)
    if shipped is not None and cls.__module__ != f"{__package__}.{shipped}":
        raise ValueError(f"kind {cls.kind!r} is built into Chroniker; choose another name")
    if known is not None and (known.__module__, known.__qualname__) != (
        cls.__module__,
        cls.__qualname__,
    ):
        raise ValueError(
            f"kind {cls.kind!r} is already registered by {known.__module__}.{known.__qualname__}"
        )
    param_fields(cls)  # raises now, not in the admin, if a parameter has another type
    _kinds[cls.kind] = cls
    return cls


@cache
def _load_entry_points() -> None:
    from importlib.metadata import entry_points  # with zipfile and csv; few processes get here

    for entry in entry_points(group=ENTRY_POINTS):
        try:
            loaded = entry.load()
            if isinstance(loaded, type) and loaded not in _kinds.values():
                register_probe(loaded)
        except Exception:
            logger.exception("The probe %s of %s cannot be loaded", entry.name, entry.value)


def probe_kinds() -> dict[str, type[BaseProbe]]:
    """Return all kinds, by name."""
    for module in set(SHIPPED.values()):
        import_module(f"{__package__}.{module}")
    _load_entry_points()
    return dict(sorted(_kinds.items()))


def kind_class(kind: str) -> type[BaseProbe]:
    """Return the class of a kind. Raises UnknownKind."""
    if isinstance(kind, str) and kind not in _kinds:
        if kind in SHIPPED:
            import_module(f"{__package__}.{SHIPPED[kind]}")
        else:
            _load_entry_points()
    try:
        return _kinds[kind]
    except (KeyError, TypeError):
        near = get_close_matches(str(kind), [*SHIPPED, *_kinds], n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise UnknownKind(
            f"There is no kind of monitor {kind!r:.80}. Install the package or app that "
            f"registers it.{meant}"
        ) from None


def build_probe(kind: str, params: Mapping[str, object]) -> BaseProbe:
    """Create a probe from its stored parameters. Raises UnknownKind or ParamsInvalid."""
    return probe_from_params(kind_class(kind), params)


def fields(kind: str) -> list[ParamField]:
    """Return the parameters of a kind. Raises UnknownKind."""
    return list(param_fields(kind_class(kind)))


def preload(kinds: Iterable[str]) -> None:
    """Import what these kinds need, before the fork. Never raises."""
    for kind in kinds:
        try:
            kind_class(kind).preload()
        except UnknownKind:
            pass  # reported by its monitors
        except Exception:
            logger.warning("Preloading failed for %s monitors", kind, exc_info=True)
