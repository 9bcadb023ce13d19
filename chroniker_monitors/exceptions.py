"""The exceptions of monitors. Their messages are shown to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chroniker.exceptions import ChronikerError


class ProbeError(ChronikerError):
    """A probe could not measure; the message says what to check."""


class AddressRefused(ProbeError):
    """A probe wants to connect to an address that this site does not allow."""


class UnknownKind(ChronikerError):
    """No installed package registers this kind of probe."""


class SandboxBusy(ChronikerError):
    """This process is already testing the maximum number of monitors."""


class ParamsInvalid(ChronikerError):
    """The parameters of a probe are invalid; ``errors`` maps each parameter to its messages."""

    def __init__(self, errors: Mapping[str, Sequence[str]]) -> None:
        self.errors: dict[str, list[str]] = {name: list(texts) for name, texts in errors.items()}
        super().__init__(
            " ".join(f"{name}: {' '.join(texts)}" for name, texts in self.errors.items())
        )
