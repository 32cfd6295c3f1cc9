from __future__ import annotations

import orjson

from api.problems import FIELD, LISTED, problem, shown, too_often
from model.problems import Problem


def test_a_problem_document_has_the_members_of_rfc_9457() -> None:
    answer = problem(
        {"type": "http", "state": {"request_id": "r1"}}, 404, "there is none", headers={"X-A": "1"}
    )
    assert answer.media_type == "application/problem+json"
    assert answer.headers["x-a"] == "1"
    assert orjson.loads(bytes(answer.body)) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "there is none",
        "request_id": "r1",
    }


def test_every_bad_item_is_named_however_many_problems_there_are() -> None:
    problems = [Problem(f"[{item}].field{number}", "wrong") for item in range(1000) for number in range(5)]
    found = shown(problems)
    assert len(found) <= LISTED
    assert {each["field"].partition("]")[0] for each in found} == {f"[{item}" for item in range(1000)}


def test_one_item_with_very_many_problems_is_cut() -> None:
    assert len(shown([Problem(f"field{number}", "wrong") for number in range(5000)])) == LISTED


def test_a_field_s_path_is_cut_since_callers_write_it() -> None:
    assert len(shown([Problem("x" * 100_000, "wrong")])[0]["field"]) == FIELD


def test_a_wait_is_told_in_whole_seconds_never_none() -> None:
    assert too_often(0.01, "").headers == {"Retry-After": "1"}
    assert too_often(2.1, "").headers == {"Retry-After": "3"}
