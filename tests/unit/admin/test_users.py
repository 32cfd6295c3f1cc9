"""Devices and preferences."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from admin import users
from model.database import utcnow
from model.problems import InvalidInput
from model.tables import Device

TOKEN = "0F" * 32
PHONE: dict[str, Any] = {"platform": "ios", "token": TOKEN, "name": "Alice's phone"}


@pytest.mark.usefixtures("db")
def test_a_phone_that_changes_hands_becomes_its_new_users_and_is_enabled_again() -> None:
    # Given a device that its push service declared dead
    first = users.register_device("acme", "alice", PHONE)
    Device.update(disabled_at=utcnow(), disabled_reason="410 Unregistered").execute()
    # When it registers again, for somebody else and without a name
    again = users.register_device("acme", "bob", {"platform": "ios", "token": TOKEN.lower()})
    # Then it is the same device, bob's, enabled, known under its name, registered later
    assert (again.id, again.user_id, again.name) == (first.id, "bob", "Alice's phone")
    assert again.disabled_at is None
    assert again.disabled_reason is None
    assert again.registered_at > first.registered_at
    assert again.address_hash == hashlib.sha256(TOKEN.lower().encode()).hexdigest()
    assert users.list_devices("acme", "alice") == []
    assert TOKEN.lower() not in str(users.list_devices("acme", "bob"))


@pytest.mark.usefixtures("db")
def test_another_tenant_or_app_has_a_device_of_its_own() -> None:
    ids = {
        users.register_device("acme", "alice", PHONE).id,
        users.register_device("other", "alice", PHONE).id,
        users.register_device("acme", "alice", PHONE | {"app_id": "second"}).id,
    }
    assert len(ids) == 3


@pytest.mark.usefixtures("db")
def test_a_device_is_deleted_by_its_own_tenant_and_user_only() -> None:
    device = users.register_device("acme", "alice", PHONE)
    for tenant, user in (("other", "alice"), ("acme", "bob")):
        with pytest.raises(
            LookupError, match=f"there is no device {device.id} of user '{user}' in tenant '{tenant}'"
        ):
            users.delete_device(tenant, user, device.id)
    users.delete_device("acme", "alice", device.id)
    assert Device.select().count() == 0


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (PHONE | {"token": "ab/../cd"}, "token"),
        ({"platform": "android", "token": "a b" * 10}, "token"),
        ({"platform": "palm", "token": "x"}, "platform"),
        ({"platform": "ios"}, "token"),
        ({"platform": "web", "subscription": {"endpoint": "http://10.0.0.1/"}}, "subscription.endpoint"),
        (PHONE | {"tokn": "x"}, "tokn"),
    ],
)
def test_a_wrong_device_is_refused_by_field_and_its_value_not_quoted(
    data: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        users.check_device_given(data, (), prefix="devices[0]")
    assert [problem.field for problem in refused.value.problems] == [f"devices[0].{field}"]
    assert "ab/../cd" not in str(refused.value)


@pytest.mark.usefixtures("db")
def test_preferences_are_kept_as_given_and_read_whole() -> None:
    given = {
        "quiet_hours_enabled": True,
        "quiet_hours_timezone": "Europe/Berlin",
        "cameras": {"c1": {"enabled": False}},
    }
    users.put_preferences("acme", "alice", {"quiet_hours_enabled": False})
    assert users.put_preferences("acme", "alice", given) == users.get_preferences("acme", "alice")
    assert users.get_preferences("acme", "alice")["quiet_hours_start"] == "22:00"
    assert users.get_preferences("acme", "alice")["cameras"]["c1"]["enabled"] is False
    assert users.get_preferences("other", "alice")["quiet_hours_enabled"] is False


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (
            {"quiet_hours_timezone": "Europe/Atlantis"},
            "quiet_hours_timezone: must be an IANA time zone such as",
        ),
        ({"quiet_hours_strat": "22:00"}, "quiet_hours_strat: no such field; did you mean quiet_hours_start?"),
        ({"cameras": {"c1": {"enabld": True}}}, "cameras.c1.enabld: no such field; did you mean enabled?"),
    ],
)
def test_wrong_preferences_are_named(data: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        users.check_preferences(data)
    assert str(refused.value).startswith(told)
