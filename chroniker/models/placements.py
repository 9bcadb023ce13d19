"""What a deleted host leaves behind."""

from __future__ import annotations

from .state import Host, JobState


def delete_states(sender: object, instance: Host, **kwargs: object) -> None:
    """Delete the states of a deleted host with their counters, but those that own a run."""
    JobState.objects.filter(host=instance.name, lease_token__isnull=True).delete()
    Host.objects.request_review()  # its open incidents are closed by the next tick
