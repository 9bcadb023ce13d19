"""Events about the exceptions of jobs, sent by the process of the job."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, cast

from chroniker.conf import conf

from .client import (
    Mask,
    active_client,
    flush_at_exit,
    is_forked,
    renew_transport,
    secrets_mask,
)

if TYPE_CHECKING:
    from sentry_sdk._types import Event, Hint

    from chroniker.processes.child import CommandSpec

_TAG_LENGTH = 200


def preload(sender: object, **kwargs: object) -> None:
    """Receive the signal before the fork: the import of this module spares it to each job."""


def prepare_process(sender: object, *, spec: CommandSpec, **kwargs: object) -> None:
    """Prepare the SDK in the process of a job: own transport, tags, masked events, a flush."""
    client = active_client()
    if client is None:
        return
    import sentry_sdk

    scope = sentry_sdk.get_isolation_scope()
    if is_forked():
        renew_transport(client)
        scope.clear_breadcrumbs()  # they are about the scheduler, before the fork
    mask = secrets_mask()
    for name, value in (
        ("chroniker.job", spec.job_name),
        ("chroniker.run", str(spec.run_id)),
        ("chroniker.host", conf.HOSTNAME),
        ("chroniker.command", spec.task or spec.command),
    ):
        scope.set_tag(name, _tag(mask(value)))
    scope.set_transaction_name(_tag(mask(spec.job_name)), source="task")

    def mask_secrets(event: Event, hint: Hint) -> Event:
        return cast("Event", mask_event(event, mask))

    scope.add_event_processor(mask_secrets)
    # Events that the job itself captures are sent, too: a fork has none of the exit functions
    # that the scheduler has registered.
    flush_at_exit()


def capture_exception(
    sender: object,
    *,
    spec: CommandSpec,
    error: BaseException,
    traceback: TracebackType | None,
    **kwargs: object,
) -> None:
    """Send the exception that ended the command."""
    client = active_client()
    if client is None:
        return
    import sentry_sdk
    from sentry_sdk.utils import event_from_exception

    event, hint = event_from_exception(
        (type(error), error, traceback),
        client_options=client.options,
        mechanism={"type": "chroniker", "handled": False},
    )
    sentry_sdk.capture_event(event, hint=hint)


def _tag(text: str) -> str:
    """Turn a text into a valid value of a tag."""
    return "".join(c if c.isprintable() else " " for c in text)[:_TAG_LENGTH] or " "


def mask_event(value: object, mask: Mask) -> object:
    """Mask the secrets in all texts of an event, including the keys of its mappings."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {mask_event(key, mask): mask_event(inner, mask) for key, inner in value.items()}
    if isinstance(value, list):
        return [mask_event(inner, mask) for inner in value]
    if isinstance(value, tuple):
        return tuple(mask_event(inner, mask) for inner in value)
    from sentry_sdk._types import AnnotatedValue  # a value with notes about what was removed

    if isinstance(value, AnnotatedValue):
        value.value = mask_event(value.value, mask)
    return value
