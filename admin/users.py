"""Users' devices and preferences: registered, refreshed, listed, removed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.types import JsonValue  # pydantic evaluates annotations

from admin import tenants
from model.alert import Identifier, Text
from model.database import connection, transaction, utcnow
from model.preferences import Camera, Preference
from model.problems import InvalidInput, Problem, path, problems_of
from model.states import Platform
from model.tables import Device, PreferenceRow
from senders.devices import check_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.settings import Network

#: The members of a browser's PushSubscription that anybody needs (W3C Push API, `toJSON`). Others are
#: dropped.
_SUBSCRIPTION = ("endpoint", "expirationTime", "keys")
_KEYS = ("p256dh", "auth")

_Label = Annotated[Text, Field(max_length=255)]


class _Given(BaseModel):
    """A device as people and apps write it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    platform: Platform
    token: Text = ""
    subscription: dict[str, JsonValue] | None = None
    app_id: _Label = ""
    name: _Label = ""

    @field_validator("token")
    @classmethod
    def _bounded(cls, value: str) -> str:
        if len(value) > 4096:  # noqa: PLR2004  # FCM's longest; check_device has the exact rules
            raise ValueError("must be at most 4096 characters")
        return value


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A checked device.

    Attributes:
        name: what the user calls it; None where nothing was said, and a known device keeps its name.
        address_hash: hexadecimal SHA-256 of the token or endpoint.
    """

    platform: str
    app_id: str
    name: str | None
    address_hash: str
    token: str = field(repr=False)
    subscription: dict[str, Any] | None = field(repr=False)

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it this device and no other, within a tenant."""
        return (self.platform, self.app_id, self.address_hash)

    @property
    def label(self) -> str:
        """How lists call it: never by its address, which is a secret."""
        return f"{self.platform} {self.name or self.address_hash[:8]}"


def check_device_given(data: Any, allowed_networks: Sequence[Network], *, prefix: str = "") -> DeviceSpec:
    """Check a device as it was given.

    Args:
        data: the device, decoded.
        allowed_networks: TOCSIN_ALLOWED_NETWORKS; a push service may be there.
        prefix: its place in the whole input, such as "users[0].devices[1]".

    Raises:
        InvalidInput: names each field and the rule that it breaks, never a value.
    """
    if not isinstance(data, dict):
        raise InvalidInput(
            [Problem(prefix, "a device must be an object with platform and token or subscription")]
        )
    try:
        given = _Given.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(problems_of(error, prefix=prefix, known=_Given.model_fields)) from None
    # Hexadecimal digits have no case: one iPhone is one device, however its app writes them.
    token = given.token.lower() if given.platform is Platform.IOS else given.token
    try:
        check_device(given.platform, token, given.subscription or {}, allowed_networks)
    except ValueError as error:
        name, _, rule = str(error).partition(": ")
        raise InvalidInput([Problem(path([name], prefix), rule)]) from None
    subscription = None
    address = token
    if given.subscription is not None and given.platform is Platform.WEB:
        subscription = {
            name: given.subscription[name] for name in _SUBSCRIPTION if name in given.subscription
        }
        keys = subscription["keys"]
        subscription["keys"] = {name: keys[name] for name in _KEYS} if isinstance(keys, dict) else {}
        address = str(subscription["endpoint"])
    return DeviceSpec(
        platform=given.platform.value,
        app_id=given.app_id,
        name=given.name if "name" in given.model_fields_set else None,
        address_hash=hashlib.sha256(address.encode()).hexdigest(),
        token=token,
        subscription=subscription,
    )


def check_user_id(user_id: Any, *, field: str = "user_id") -> str:
    """Accept a user's id.

    Raises:
        InvalidInput: it is no string of 1 to 255 characters.
    """
    try:
        return _User.model_validate({"user_id": user_id}).user_id
    except ValidationError:
        raise InvalidInput([Problem(field, "must be a string of 1 to 255 characters")]) from None


class _User(BaseModel):
    user_id: Identifier


def register_device(
    tenant_id: str, user_id: str, data: Any, *, allowed_networks: Sequence[Network] = ()
) -> Device:
    """Register a device, or refresh it: a known one is enabled again and becomes this user's.

    A phone that changes hands keeps its token; what is sent to it must not be the former owner's.

    Raises:
        InvalidInput: names each field and the rule that it breaks.
        LookupError: there is no such tenant.
    """
    user_id = check_user_id(user_id)
    spec = check_device_given(data, allowed_networks)
    with transaction():
        tenants.lock(tenant_id)
        return Device.get_by_id(save_device(tenant_id, user_id, spec))


def save_device(tenant_id: str, user_id: str, spec: DeviceSpec) -> int:
    """Write a registration; the device's id. Within a transaction of the caller's."""
    now = utcnow()
    row = {
        Device.tenant: tenant_id,
        Device.user_id: user_id,
        Device.platform: spec.platform,
        Device.app_id: spec.app_id,
        Device.name: spec.name or "",
        Device.token: spec.token,
        Device.subscription: spec.subscription,
        Device.address_hash: spec.address_hash,
        Device.registered_at: now,
    }
    kept = [Device.user_id, Device.token, Device.subscription, Device.registered_at]
    query = (
        Device.insert(row)
        .on_conflict(
            conflict_target=[Device.tenant, Device.platform, Device.app_id, Device.address_hash],
            preserve=kept if spec.name is None else [*kept, Device.name],
            update={Device.disabled_at: None, Device.disabled_reason: None},
        )
        .returning(Device.id)
        .tuples()
    )
    return int(next(iter(query.execute()))[0])


def list_devices(tenant_id: str, user_id: str) -> list[dict[str, Any]]:
    """A user's devices, as `device_document` shows them."""
    with connection():
        query = (
            Device.select()
            .where((Device.tenant == tenant_id) & (Device.user_id == user_id))
            .order_by(Device.id)
        )
        return [device_document(device) for device in query]


def delete_device(tenant_id: str, user_id: str, device_id: int) -> None:
    """Delete a device. Deliveries to it that are under way end FAILED, device_deleted.

    Raises:
        LookupError: this user of this tenant has no such device.
    """
    mine = (Device.tenant == tenant_id) & (Device.user_id == user_id) & (Device.id == device_id)
    with transaction():
        if not Device.delete().where(mine).execute():
            raise LookupError(f"there is no device {device_id} of user {user_id!r} in tenant {tenant_id!r}")


def device_document(device: Device) -> dict[str, Any]:
    """A device as the API and the CLI show it: without its address, all that it takes to send there."""
    return {
        "id": device.id,
        "user_id": device.user_id,
        "platform": device.platform,
        "app_id": device.app_id,
        "name": device.name,
        "registered_at": device.registered_at.isoformat(),
        "disabled_at": device.disabled_at.isoformat() if device.disabled_at else None,
        "disabled_reason": device.disabled_reason,
    }


def check_preferences(data: Any, *, prefix: str = "") -> dict[str, Any]:
    """Check preferences as they were given; as they are stored: what was said, and no default.

    Raises:
        InvalidInput: names each field and the rule that it breaks.
    """
    if not isinstance(data, dict):
        raise InvalidInput([Problem(prefix, "preferences must be an object")])
    try:
        preference = Preference.model_validate(data)
    except ValidationError as error:
        known = [*Preference.model_fields, *Camera.model_fields]
        raise InvalidInput(problems_of(error, prefix=prefix, known=known)) from None
    return preference.model_dump(mode="json", exclude_unset=True)


class UnreadablePreferencesError(Exception):
    """What is stored are no preferences, or none of this version's: the chain takes them for none.

    Attributes:
        problems: what is wrong with them.
    """

    def __init__(self, user_id: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(
            f"the stored preferences of user {user_id!r} cannot be read: until they are replaced as a whole they "
            "count as none, and the user gets everything at any time"
        )


def get_preferences(tenant_id: str, user_id: str) -> dict[str, Any]:
    """A user's preferences, whole, with the defaults of what was not said.

    Raises:
        UnreadablePreferencesError: they cannot be read. Replacing them mends it.
    """
    with connection():
        row = PreferenceRow.get_or_none(
            (PreferenceRow.tenant == tenant_id) & (PreferenceRow.user_id == user_id)
        )
    stored = row.preferences if row else {}
    try:
        return Preference.model_validate(stored).model_dump(mode="json")
    except ValidationError as error:
        is_object = isinstance(stored, dict)
        problems = problems_of(error) if is_object else [Problem("", "preferences must be an object")]
        raise UnreadablePreferencesError(user_id, problems) from None


def put_preferences(tenant_id: str, user_id: str, data: Any) -> dict[str, Any]:
    """Replace a user's preferences; they decide from the next fan-out on.

    Raises:
        InvalidInput: names each field and the rule that it breaks.
        LookupError: there is no such tenant.
    """
    user_id = check_user_id(user_id)
    preferences = check_preferences(data)
    with transaction():
        tenants.lock(tenant_id)
        save_preferences(tenant_id, user_id, preferences)
    return get_preferences(tenant_id, user_id)


def save_preferences(tenant_id: str, user_id: str, preferences: dict[str, Any]) -> None:
    """Write checked preferences. Within a transaction of the caller's."""
    PreferenceRow.insert(
        tenant=tenant_id, user_id=user_id, preferences=preferences, updated_at=utcnow()
    ).on_conflict(
        conflict_target=[PreferenceRow.tenant, PreferenceRow.user_id],
        preserve=[PreferenceRow.preferences, PreferenceRow.updated_at],
    ).execute()
