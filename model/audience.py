"""Who hears of a push job: its users' devices, each with the verdict of the user's preferences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peewee import JOIN
from pydantic import ValidationError

from config.logging import get_logger
from model.database import among, tuples
from model.preferences import DELIVER, Preference, Verdict
from model.states import Reason
from model.tables import Delivery, Device, PreferenceRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from model.tables import Job

log = get_logger(__name__)

DEVICE_DISABLED = Verdict("suppress", Reason.DEVICE_DISABLED)


@dataclass(frozen=True, slots=True)
class Target:
    """A target of a job.

    Attributes:
        sender: the platform of a device, or the channel type where the channel itself is the target.
        name: what the user calls the device.
    """

    device_id: int
    user_id: str | None
    sender: str
    verdict: Verdict = DELIVER
    name: str = ""


@dataclass(frozen=True, slots=True)
class _User:
    preference: Preference
    devices: list[tuple[int, str, bool, str]]


def addressed() -> Any:
    """The condition that a device is what a delivery is for, and still its user's.

    A phone that changes hands keeps its row: what waits for its former owner is not for the new one.
    """
    return (
        (Device.id == Delivery.device_id)
        & (Device.tenant == Delivery.tenant_id)
        & (Device.user_id == Delivery.user_id)
    )


def users_of(config: Mapping[str, Any], user_id: str | None) -> list[str] | None:
    """The users that a push channel's config names, or the one of a job without a rule; None for all."""
    if user_id is not None:
        return [user_id]
    if config.get("all_users"):
        return None
    # Channels may have been saved with a NUL in a name, with which PostgreSQL would refuse to look for all of them.
    return [user for user in config.get("user_ids") or () if "\0" not in user]


def audience(
    jobs: Sequence[Job], configs: Mapping[int, Mapping[str, Any]], *, now: datetime
) -> dict[int, list[Target]]:
    """The targets of push jobs, by job id.

    Args:
        jobs: of any tenants.
        configs: the channels' configs by channel id. A channel that is gone has no users.
        now: the moment for which the preferences decide.
    """
    users_by_job = {job.id: users_of(configs.get(job.channel_id, {}), job.user_id) for job in jobs}
    found: dict[int, list[Target]] = {}
    for tenant_id in sorted({job.tenant_id for job in jobs}):
        mine = [job for job in jobs if job.tenant_id == tenant_id]
        wanted: set[str] | None = set()
        for job in mine:
            users = users_by_job[job.id]
            wanted = None if users is None or wanted is None else wanted | set(users)
        directory = _directory(tenant_id, wanted)
        for job in mine:
            found[job.id] = targets(
                directory, users_by_job[job.id], job.payload, is_critical=job.is_critical, at=now
            )
    return found


def targets_for(
    tenant_id: str,
    users: Iterable[str] | None,
    alert: Mapping[str, Any],
    *,
    is_critical: bool,
    at: datetime,
    limit: int,
) -> list[Target]:
    """The same for one alert that no job speaks of: what `explain` asks. The first so many, by user and device."""
    wanted = None if users is None else list(users)
    directory = _directory(tenant_id, None if wanted is None else set(wanted), limit=limit)
    return targets(directory, wanted, alert, is_critical=is_critical, at=at)


def count_targets(tenant_id: str, users: Iterable[str] | None) -> int:
    """How many devices users have; all of them, if None."""
    query = Device.select().where(Device.tenant == tenant_id)
    return int((query if users is None else query.where(among(Device.user_id, set(users)))).count())


def preferences_of(tenant_id: str, users: Iterable[str]) -> dict[str, Preference]:
    """The preferences of some users, from one query; who has none wants everything."""
    wanted = sorted(users)
    query = PreferenceRow.select(PreferenceRow.user_id, PreferenceRow.preferences).where(
        (PreferenceRow.tenant == tenant_id) & among(PreferenceRow.user_id, wanted)
    )
    stored = dict(tuples(query)) if wanted else {}
    return {user_id: _preference(tenant_id, user_id, stored.get(user_id)) for user_id in wanted}


def targets(
    directory: Mapping[str, _User],
    users: Sequence[str] | None,
    alert: Mapping[str, Any],
    *,
    is_critical: bool,
    at: datetime,
) -> list[Target]:
    """Each device of the users with its verdict. Each user is decided on once."""
    found = []
    for user_id in sorted(directory) if users is None else dict.fromkeys(users):
        user = directory.get(user_id)
        if user is None:
            continue
        verdict = user.preference.verdict(alert, is_critical=is_critical, at=at)
        found += [
            Target(device_id, user_id, platform, DEVICE_DISABLED if is_disabled else verdict, name)
            for device_id, platform, is_disabled, name in user.devices
        ]
    return found


def _directory(tenant_id: str, users: set[str] | None, *, limit: int | None = None) -> dict[str, _User]:
    """Users with devices, with their preferences; with a limit those of the first so many devices, by user.

    One query, however many users: a device that changed hands between two of them would be found twice, or not at all.
    """
    query = (
        Device.select(
            Device.user_id,
            Device.id,
            Device.platform,
            Device.disabled_at,
            Device.name,
            PreferenceRow.preferences,
        )
        .join(
            PreferenceRow,
            JOIN.LEFT_OUTER,
            on=(PreferenceRow.tenant == Device.tenant) & (PreferenceRow.user_id == Device.user_id),
        )
        .where(Device.tenant == tenant_id)
        .order_by(Device.id)
    )
    if users is not None:
        query = query.where(among(Device.user_id, users))
    if limit is not None:
        query = query.order_by(Device.user_id, Device.id).limit(limit)
    directory: dict[str, _User] = {}
    for user_id, device_id, platform, disabled_at, name, preferences in tuples(query):
        user = directory.get(user_id)
        if user is None:
            user = directory[user_id] = _User(_preference(tenant_id, user_id, preferences), [])
        user.devices.append((device_id, platform, disabled_at is not None, name))
    return directory


def _preference(tenant_id: str, user_id: str, stored: Any) -> Preference:
    """A user's preferences; those that cannot be read, of a hand's or a later version's making, are none.

    One user's must not keep everybody's alarms, and an alarm too many is better than none.
    """
    try:
        return Preference.model_validate({} if stored is None else stored)
    except ValidationError as error:
        wrong = sorted({".".join(map(str, item["loc"])) for item in error.errors(include_input=False)})
        log.warning("preferences_unreadable", tenant=tenant_id, user=user_id, wrong=", ".join(wrong))
        return Preference()
