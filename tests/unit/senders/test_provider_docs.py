"""The providers' pages: each sender has one, its example can be saved, and it names every field of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from config import Settings
from senders.base import ChannelConfig
from senders.devices import check_device
from senders.registry import ALIASES, CHANNEL_TYPES, SENDERS

PAGES = Path(__file__).resolve().parents[3] / "docs/providers"
TEXTS = {page.stem: page.read_text(encoding="utf-8") for page in sorted(PAGES.glob("*.md"))}


def documents(text: str) -> list[dict[str, Any]]:
    """The YAML of a page, as `apply` reads it."""
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]


def test_every_sender_has_a_page() -> None:
    assert set(TEXTS) == set(SENDERS)


@pytest.mark.parametrize("page", TEXTS)
def test_the_examples_of_a_page_can_be_saved(page: str) -> None:
    channels = [channel for document in documents(TEXTS[page]) for channel in document.get("channels", [])]
    assert channels
    for channel in channels:
        assert set(channel) == {"name", "channel_type", "config"}
        kind = ALIASES.get(channel["channel_type"], channel["channel_type"])
        CHANNEL_TYPES[kind].model_validate(channel["config"])
    for document in documents(TEXTS[page]):
        for user in document.get("users", []):
            for device in user["devices"]:
                check_device(device["platform"], device.get("token", ""), device.get("subscription", {}))


@pytest.mark.parametrize("page", TEXTS)
def test_a_page_names_every_field_of_its_config(page: str) -> None:
    config = SENDERS[page].Config
    fields = set(config.model_fields) - set(ChannelConfig.model_fields)
    own = getattr(config.model_fields.get(page), "annotation", None)
    for nested in getattr(own, "__args__", ()):
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            fields |= set(nested.model_fields)
    missing = {field for field in fields if f"`{field}`" not in TEXTS[page]}
    assert not missing


@pytest.mark.parametrize("page", TEXTS)
def test_a_page_names_only_settings_that_exist(page: str) -> None:
    known = {f"TOCSIN_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"TOCSIN_[A-Z_]*[A-Z]", TEXTS[page])) <= known


@pytest.mark.parametrize("page", TEXTS)
def test_no_app_and_no_page_is_told_to_call_us_which_takes_a_key_that_must_not_be_there(page: str) -> None:
    for snippet in re.findall(r"```js\n(.*?)```", TEXTS[page], re.DOTALL):
        assert "/v1/" not in snippet
        assert "Authorization" not in snippet
    if "POST /v1/users/{user_id}/devices" in TEXTS[page]:
        assert "a key of role admin" in TEXTS[page]
