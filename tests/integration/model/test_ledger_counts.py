"""The ledger's counts: how a job ends, the same in SQL and in Python, and that they add up."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model import bulk, ledger
from model.database import database
from model.ledger import COUNTERS
from model.states import FINAL_STATES, JobState
from model.states import DeliveryState as S
from model.status import status
from model.tables import Job
from tests.support.database import NOW, make_deliveries, make_job

COUNTS = st.fixed_dictionaries({name: st.integers(0, 2) for name in COUNTERS})


def _row(sequence: int, targets: int, counts: dict[str, int]) -> bulk.Row:
    return {
        "tenant_id": "acme", "alert_id": f"a{sequence}", "deliver_on_event": "OPEN", "sequence": sequence,
        "channel_id": 1, "channel_name": "ops", "channel_type": "webhook", "accepted_at": NOW,
        "expires_at": NOW, "state": JobState.PROCESSING, "targets": targets, **counts,
    }  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(mixes=st.lists(st.tuples(COUNTS, COUNTS, st.integers(0, 1)), min_size=1, max_size=30))
@pytest.mark.usefixtures("acme")
def test_the_state_of_a_job_is_the_same_in_sql_and_in_python(
    mixes: list[tuple[dict[str, int], dict[str, int], int]],
) -> None:
    with database.atomic() as undone:
        # Given jobs of which some deliveries have ended before, and some are left over
        rows = [
            _row(n, sum(before.values()) + sum(now.values()) + left, before)
            for n, (before, now, left) in enumerate(mixes)
        ]
        ids = [int(row[0]) for row in bulk.insert(Job, rows, returning=["id"])]

        # When the next ones end
        ended = ledger.count(
            Counter(
                {
                    (id_, state): now[state.value.lower()]
                    for id_, (_, now, _) in zip(ids, mixes, strict=True)
                    for state in FINAL_STATES
                }
            ),
            now=NOW,
        )

        # Then each job is in the state that Python gives it, and those without a rest have ended
        found = {job.id: job for job in Job.select()}
        for id_, row, (before, now, _) in zip(ids, rows, mixes, strict=True):
            expected = ledger.job_state(row["targets"], Counter(before) + Counter(now))
            assert found[id_].state == expected
            assert found[id_].finished_at == (NOW if expected.is_final else None)
        assert {job.job_id: job.state for job in ended} == {
            id_: JobState(found[id_].state) for id_ in ids if JobState(found[id_].state).is_final
        }
        undone.rollback()


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, JobState.SUPPRESSED),
        ({"suppressed": 3}, JobState.SUPPRESSED),
        ({"delivered": 1, "suppressed": 1, "superseded": 1}, JobState.COMPLETED),
        ({"delivered": 2, "failed": 1}, JobState.PARTIAL),
        ({"delivered": 2, "expired": 1}, JobState.PARTIAL),
        ({"failed": 1, "expired": 1, "suppressed": 1}, JobState.FAILED),
        ({"expired": 1, "superseded": 1}, JobState.EXPIRED),
        ({"superseded": 1, "suppressed": 1}, JobState.SUPERSEDED),
    ],
)
def test_the_most_telling_word_says_how_a_job_ended(counts: dict[str, int], expected: JobState) -> None:
    assert ledger.job_state(sum(counts.values()), Counter(counts)) is expected
    assert ledger.job_state(sum(counts.values()) + 1, Counter(counts)) is JobState.PROCESSING


@pytest.mark.usefixtures("acme")
def test_the_equation_is_checked_and_not_assumed() -> None:
    job = make_job(targets=2, delivered=1)
    make_deliveries(job, 1, state=S.DELIVERED)
    make_deliveries(job, 1, device_id=2)
    expected = {"targets": 2, **dict.fromkeys(COUNTERS, 0), "delivered": 1, "in_progress": 1}

    assert ledger.conservation("acme") == ledger.conservation() == expected
    assert ledger.conservation("nobody")["targets"] == 0
    for change in ({"targets": 3}, {"failed": 1}, {"delivered": 0, "failed": 1}, {"delivered": 2}):
        with database.atomic() as undone:
            Job.update(change).where(Job.id == job).execute()
            with pytest.raises(AssertionError, match="jobs say"):
                ledger.conservation("acme")
            undone.rollback()
    assert status("acme")["deliveries"]["DELIVERED"] == 1
