"""Which jobs a question for states finds, by whichever index."""

from __future__ import annotations

from itertools import chain, combinations

from model.database import connection
from model.jobs import in_states
from model.states import JobState
from model.tables import Job
from tests.support.database import NOW, make_deliveries, make_job, make_tenant, open_test_database


def test_jobs_are_found_by_any_of_their_states(database_url: str) -> None:
    with open_test_database(database_url), connection():
        # Given two tenants with a job in each state, and what the sweep would look after
        for first, tenant in ((1, "acme"), (11, "other")):
            make_tenant(tenant)
            for sequence, state in enumerate(JobState, start=first):
                job = make_job(
                    tenant, sequence=sequence, alert_id=f"a{sequence}", state=state,
                    sweep_at=NOW if state is JobState.PENDING else None,
                )  # fmt: skip
                is_under_way = state is JobState.PROCESSING
                make_deliveries(job, 2, tenant_id=tenant, sweep_at=NOW if is_under_way else None)

        # When they are asked for by any states, then those are found, once each
        mine = Job.select(Job.state).where(Job.tenant_id == "acme").order_by(Job.id)
        for wanted in chain.from_iterable(combinations(JobState, number) for number in range(1, 9)):
            assert [job.state for job in mine.where(in_states("acme", wanted))] == list(wanted)
