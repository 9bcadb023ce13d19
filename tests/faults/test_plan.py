from __future__ import annotations

import pytest

from tests.faults.actions import FaultActions
from tests.faults.deployment import Deployment
from tests.faults.plan import ANY_SETUP, MULTI_HOST, OF_DEPLOYMENT, ONE_MACHINE, generate_plan
from tests.faults.proxy import is_commit


def test_same_seed_gives_the_same_faults() -> None:
    first = generate_plan(7, 60, ["h1", "h2"], 3.0, one_machine=False)
    assert first == generate_plan(7, 60, ["h1", "h2"], 3.0, one_machine=False)
    assert first != generate_plan(8, 60, ["h1", "h2"], 3.0, one_machine=False)
    assert len(first.steps) > 20


def test_deployment_has_faults_of_its_own() -> None:
    def kinds(deployment: Deployment) -> set[str]:
        plan = generate_plan(7, 300, ["h1"], 3.0, one_machine=False, deployment=deployment)
        return {step.kind for step in plan.steps}

    own = {"kill_pooler", "crash_replica"}
    assert kinds(Deployment.PGBOUNCER) & own == {"kill_pooler"}
    assert kinds(Deployment.REPLICA) & own == {"crash_replica"}
    assert not kinds(Deployment.DIRECT) & own


def test_every_kind_of_step_has_an_action() -> None:
    kinds = {*ANY_SETUP, *MULTI_HOST, *ONE_MACHINE}
    kinds |= {kind for own in OF_DEPLOYMENT.values() for kind in own}
    assert not [kind for kind in kinds if not hasattr(FaultActions, kind)]


@pytest.mark.parametrize("one_machine", [True, False])
def test_plan_ends_without_faults(one_machine: bool) -> None:
    plan = generate_plan(7, 60, ["h1", "h2"], 3.0, one_machine=one_machine)
    assert plan.steps == sorted(plan.steps)
    assert all(1.0 <= step.at <= 57.0 for step in plan.steps)


@pytest.mark.parametrize(
    ("vendor", "data", "commit"),
    [
        ("postgresql", b"Q\0\0\0\x0bCOMMIT\0", True),
        ("postgresql", b"P\0\0\0\x10\0COMMIT\0\0\0", True),
        ("postgresql", b"Q\0\0\0\x0bSELECT\0", False),
        ("mysql", b"\x07\0\0\0\x03COMMIT", True),
        ("mysql", b"\x07\0\0\0\x03commit", True),
        ("mysql", b"\x0e\0\0\0\x03SELECT COMMIT", False),
    ],
)
def test_commit_is_recognized_on_the_wire(vendor: str, data: bytes, commit: bool) -> None:
    assert is_commit(vendor, data) is commit
