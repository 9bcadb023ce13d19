"""Every error that the monitors raise on purpose, with a message for the person who reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chroniker.exceptions import ChronikerError


class ProbeError(ChronikerError):
    """A probe could not measure; the message says what to look at."""


class AddressRefused(ProbeError):
    """A monitor names an address that this site does not let monitors reach."""


class UnknownKind(ChronikerError):
    """A monitor is of a kind that nothing installed here registers."""


class SandboxBusy(ChronikerError):
    """As many monitors are being tried as a site's process tries at once."""


class ParamsInvalid(ChronikerError):
    """Parameters that a kind of probe cannot use: ``errors`` has the messages by parameter."""

    def __init__(self, errors: Mapping[str, Sequence[str]]) -> None:
        self.errors: dict[str, list[str]] = {name: list(said) for name, said in errors.items()}
        super().__init__(
            " ".join(f"{name}: {' '.join(said)}" for name, said in self.errors.items())
        )
