"""The OpenAPI document: complete, true to what the app does, and readable without the internet."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from api import examples
from api.reference import prose
from api.schemas import ChannelPatch, RuleInput
from model.rules import RuleSpec
from senders.registry import CHANNEL_TYPES

if TYPE_CHECKING:
    from tests.integration.api.conftest import Api

#: For each call and mode.
EXAMPLES = 10


@pytest.fixture
def document(sqlite_api: Api) -> dict[str, Any]:
    found: dict[str, Any] = sqlite_api.client.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]


def test_every_call_is_described(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["tags"], name
        if "/v1/" in name:
            assert operation["security"] == [{"HTTPBearer": []}], name
            assert "Role: " in operation["description"], name
            assert {"401", "403", "422", "429", "500", "503"} <= set(operation["responses"]), name
        for status, answer in operation["responses"].items():
            for shape in answer.get("content", {}).values():
                assert shape["schema"] != {}, (name, status)


def test_every_reference_is_there_and_no_shape_is_left_over(document: dict[str, Any]) -> None:
    named = set(re.findall(r'"#/components/schemas/(\w+)"', repr(document).replace("'", '"')))
    assert named == set(document["components"]["schemas"])


def test_every_example_is_what_its_schema_says(document: dict[str, Any]) -> None:
    number = 0
    for name, operation in operations(document):
        for shape in operation.get("requestBody", {}).get("content", {}).values():
            for title, example in shape["examples"].items():
                number += 1
                schema = shape["schema"] | {"components": document["components"]}
                errors = [
                    error.message for error in Draft202012Validator(schema).iter_errors(example["value"])
                ]
                assert not errors, (name, title, errors)
    assert number >= 15


def test_every_channel_type_is_described(document: dict[str, Any]) -> None:
    types = document["components"]["schemas"]["ChannelInput"]["oneOf"]
    assert {each["properties"]["channel_type"]["enum"][0] for each in types} == set(CHANNEL_TYPES)


def test_shapes_have_the_fields_that_are_checked() -> None:
    assert set(RuleInput.model_fields) == set(RuleSpec.model_fields) | {"channel", "channel_id"}
    assert set(ChannelPatch.model_fields) == set(examples.WEBHOOK) | {"is_enabled"}


def test_the_reference_page_shows_every_call_and_loads_nothing(
    sqlite_api: Api, document: dict[str, Any]
) -> None:
    answer = sqlite_api.client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for name, operation in operations(document):
        assert f'id="{operation["operationId"]}"' in answer.text, name
    for title in document["components"]["schemas"]:
        assert f'id="shape-{title}"' in answer.text
    assert not re.search(r"<(script|link|img|iframe)|@import|url\(", answer.text)


def test_the_reference_page_says_code_and_bold_as_such(sqlite_api: Api, document: dict[str, Any]) -> None:
    text = sqlite_api.client.get("/docs").text
    assert "<strong>Keys.</strong> <code>Authorization: Bearer KEY</code>. A key fixes" in text
    assert "<code>tocsin key create</code> makes a key" in text
    assert not re.search(r"`|\*\*", text)
    assert "`tocsin key" in document["info"]["description"]
    assert prose("a `<b>` and **<i>**\nb\n\nc ` & *") == (
        "a <code>&lt;b&gt;</code> and <strong>&lt;i&gt;</strong> b\n\nc ` &amp; *"
    )


def test_certificates_that_are_not_ascii_are_refused(sqlite_api: Api) -> None:
    config = {"host": "mqtt.example.org", "topic": "alerts", "ca": "é"}
    body = {"name": "broker", "channel_type": "mqtt", "config": config}
    assert sqlite_api.call("POST", "/v1/channels", json=body).status_code == 422


def no_error_of_ours(
    _context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """502 is what a channel test answers when the far side refused: documented, and no error of ours."""
    if response.status_code >= 500 and (response.status_code != 502 or not case.path.endswith("/test")):
        raise AssertionError(f"{case.method} {case.path}: {response.status_code}")


CHECKS = [
    no_error_of_ours,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", GenerationMode)
def test_no_call_errs_or_answers_what_is_not_documented(sqlite_api: Api, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{sqlite_api.client.base_url}/openapi.json")
    key = {"Authorization": f"Bearer {sqlite_api.keys['acme', 'admin']}"}
    statuses: Counter[int] = Counter()
    probed = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not (
            operation.query or operation.path_parameters or operation.body
        ):
            continue  # nothing of it can be wrong

        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def probe(case: schemathesis.Case[Any]) -> None:
            if "wait" in case.query:
                case.query["wait"] = 0  # nobody delivers here: it would be waited for in full
            answer = case.call_and_validate(headers=key, checks=CHECKS)
            statuses[answer.status_code] += 1

        probe()
        probed += 1
    assert probed > 20
    # It was not all turned away at the door, though some of what is wrong are wrong keys.
    assert statuses[401] < sum(statuses.values()) / 2, statuses
    assert {200, 404, 422} <= set(statuses), statuses
