"""What the control programs share: ``python -m control.NAME ACTION [JSON]`` prints JSON."""

import json
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta


def main(**actions):
    action, *arguments = sys.argv[1:]
    result = actions[action](**json.loads(arguments[0] if arguments else "{}"))
    print(json.dumps(result))


def moment(due):
    """The time that jobs are due at; without one, in a day."""
    return datetime.fromtimestamp(due, UTC) if due else datetime.now(UTC) + timedelta(days=1)


def setup():
    import django

    django.setup()


def migrate():
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    get_user_model().objects.create_superuser("root", "root@example.com", "root")


def page(path, rounds=7):
    """Server time of a page in milliseconds, and its queries."""
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    client = Client()
    client.force_login(get_user_model().objects.get(username="root"))
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        response = client.get(path)
        times.append(1e3 * (time.perf_counter() - began))
        assert response.status_code == 200, response.status_code
    with CaptureQueriesContext(connection) as queries:
        client.get(path)
    return {
        "ms": statistics.median(times),
        "queries": len(queries),
        "rows": response.content.count(b'name="_selected_action"'),
    }
