"""Slack: what arrives is read back by Slack's own models, and rebuilt by blockkit, which checks each limit anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from slack_sdk.models.blocks import Block

from senders.outcomes import Receipt
from senders.slack import SlackConfig, SlackSender
from tests.conformance.alerts import ALERTS, EVENTS
from tests.unit.senders.push_support import trust
from tests.unit.senders.support import client, loopback_settings, notification, receiving

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


async def message(event: str, alert: str) -> Any:
    """A message, from the wire."""
    async with receiving() as receiver, client(ssl_context=trust()) as http:
        config = SlackConfig.model_validate({"webhook_url": receiver.url})
        sent = notification(config, event, alert=ALERTS[alert])
        assert isinstance(await SlackSender(loopback_settings(), http).send(sent), Receipt)
        return receiver.requests[0].json


@pytest.fixture(scope="module")
def blockkit(library: Callable[[str, str], ModuleType]) -> ModuleType:
    return library("blockkit", "blockkit")


def rebuilt(blockkit: ModuleType, sent: dict[str, Any]) -> dict[str, Any]:
    """The same message as blockkit builds it.

    Raises:
        Exception: blockkit's own, where a limit is not kept.
    """

    def text(value: dict[str, Any]) -> Any:
        made = blockkit.Text(value["text"]).type(value["type"])
        made = made.emoji(value["emoji"]) if "emoji" in value else made
        return made.verbatim(value["verbatim"]) if "verbatim" in value else made

    def block(value: dict[str, Any]) -> Any:
        if value["type"] == "header":
            return blockkit.Header(text(value["text"]))
        if value["type"] == "context":
            return blockkit.Context([text(each) for each in value["elements"]])
        made = blockkit.Section()
        if "text" in value:
            made = made.text(text(value["text"]))
        if "fields" in value:
            made = made.fields(*map(text, value["fields"]))
        if "accessory" in value:
            image = value["accessory"]
            made = made.accessory(blockkit.ImageEl(image_url=image["image_url"], alt_text=image["alt_text"]))
        return made

    built: dict[str, Any] = blockkit.Message(sent["text"], [block(each) for each in sent["blocks"]]).build()
    return built


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("alert", ALERTS)
async def test_slacks_own_models_read_every_block_back(alert: str, event: str) -> None:
    sent = await message(event, alert)
    read = Block.parse_all(sent["blocks"])
    assert len(read) == len(sent["blocks"]) <= 50
    for each in read:
        each.validate_json()
    assert [each.to_dict() for each in read] == sent["blocks"]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("alert", ALERTS)
async def test_blockkit_builds_the_same(blockkit: ModuleType, alert: str, event: str) -> None:
    sent = await message(event, alert)
    assert rebuilt(blockkit, sent) == sent


@pytest.mark.parametrize("length", [0, 3001])
def test_blockkit_notices_a_text_that_is_too_long_or_empty(blockkit: ModuleType, length: int) -> None:
    section = {"type": "section", "text": {"type": "mrkdwn", "text": "x" * length}}
    with pytest.raises(Exception, match=r"(?i)length|between|at least|characters"):
        rebuilt(blockkit, {"text": "x", "blocks": [section]})
