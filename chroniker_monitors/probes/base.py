"""The base class of probes: small dataclasses with typed parameters, whose ``run()`` measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar

MAX_GROUPS = 1000
"""The groups that a probe reads; the site's CHRONIKER_MONITORS_MAX_SERIES of them are recorded."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of a probe."""

    value: float
    message: str = ""
    unit: str | None = None
    """Its unit, which may be empty. None: the unit of the probe's class."""
    series: tuple[tuple[object, float], ...] | None = None
    """The groups with their values, if the probe measured groups; ``value`` is then ignored."""
    more_series: int = 0
    """Groups that are not in ``series`` because there are too many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseProbe:
    """The base class of all kinds of probes.

    A subclass is a ``@dataclass(frozen=True, slots=True, kw_only=True)`` with a ``kind``. Its
    parameters are fields defined with :func:`~.params.param`, of type str, int, float or bool.
    """

    kind: ClassVar[str] = ""
    label: ClassVar[str] = ""
    description: ClassVar[str] = ""
    unit: ClassVar[str] = ""
    passive: ClassVar[bool] = False
    """Measured by pings from outside, not by ``run()``."""
    own_process: ClassVar[bool] = False
    """Whether each measurement gets a fresh process. Set it if ``run()`` changes global state that
    nobody can see, such as modules that it patches."""
    permission: ClassVar[str] = ""
    """A permission that defining such a monitor requires, in addition to that for monitors."""
    modules: ClassVar[tuple[str, ...]] = ()
    """Modules that ``run()`` imports and that are worth importing before a fork."""

    @classmethod
    def preload(cls) -> None:
        """Do expensive preparation once, before the fork, instead of in each probe's process."""
        import_modules(cls.modules)

    @classmethod
    def unavailable(cls) -> str:
        """Return why this site has no monitors of this kind; empty if it can have them."""
        return ""

    @classmethod
    def may_reuse_secrets(cls, stored: Mapping[str, object], given: Mapping[str, object]) -> bool:
        """Whether the stored secret parameters may be sent to the target of the given parameters.

        If not, they have to be entered again: a user who may change a monitor need not know its
        secrets, and could otherwise redirect them.
        """
        return True

    def run(self) -> Reading:
        """Measure. Any exception means that the value is unknown; its message is the reason."""
        raise NotImplementedError

    def clean(self) -> None:
        """Raise ParamsInvalid if the parameters, each valid, contradict each other."""


def import_modules(names: Sequence[str]) -> None:
    """Import those of the modules that are installed."""
    for name in names:
        with suppress(ImportError):
            import_module(name)
