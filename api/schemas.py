"""The shapes of answers and bodies, for OpenAPI. What checks bodies is `admin` and `model`; a test compares the two."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from model.alert import MAX_SEVERITY, AlertEvent
from model.preferences import Camera, Preference
from model.states import DeliveryState, EventType, JobState, Platform, Reason

Text = Annotated[str, Field(max_length=255)]
Name = Annotated[str, Field(min_length=1, max_length=255)]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FieldProblem(_Answer):
    """One thing wrong with the input."""

    field: str = Field(description="The path to it, such as [3].severity; empty for the whole.")
    rule: str = Field(description="What it must be.")


class Problem(BaseModel):
    """An error, after RFC 9457."""

    model_config = ConfigDict(extra="allow")

    type: Literal["about:blank"]
    title: str
    status: int
    detail: str
    request_id: str | None
    errors: list[FieldProblem] = []


class Accepted(_Answer):
    """What became of the alerts of a call; they are committed."""

    accepted: int
    duplicates: int


class AlertFields(_Answer):
    """An alert, as it was accepted."""

    alert_id: int | str
    event_type: EventType
    alert_type: str | None = None
    severity: int | None = None
    device_id: str | None = None
    site_id: str | None = None
    message: str | None = None
    details: dict[str, Any] | None = None
    triggered_at: AwareDatetime | None = None


class AlertShown(AlertFields):
    """One event of an alert."""

    accepted_at: AwareDatetime
    matched_at: AwareDatetime | None = Field(description="When the rules were asked.")
    job_count: int
    error: str | None


class Totals(_Answer):
    """targets = delivered + failed + suppressed + superseded + expired + in_progress, at any time."""

    targets: int
    delivered: int
    failed: int
    suppressed: int
    superseded: int
    expired: int
    in_progress: int


class TargetResult(_Answer):
    """What became of one target: a device, or the channel itself."""

    delivery_id: int
    device_id: int | None
    user_id: str | None
    platform: str
    status: Literal["success", "failure", "skipped", "in_progress"]
    state: DeliveryState
    reason: Reason | None
    code: str | None
    provider_id: str | None
    attempts: int
    retry_count: int
    latency_ms: float | None
    next_attempt_at: AwareDatetime | None


class DispatchResult(_Answer):
    """What became of all targets of a job."""

    user_id: str | None
    total_devices: int
    success_count: int
    failure_count: int
    skipped_count: int
    results: list[TargetResult] = Field(
        description="A thousand at most, those that failed or expired first.", max_length=1000
    )
    results_left_out: int = Field(description="The others' number; GET /v1/jobs/{job_id}/deliveries has all.")
    duration_ms: float | None
    all_succeeded: bool


class NotifyResult(DispatchResult):
    """The same, of a notification, with its job."""

    job_id: int


class JobRef(_Answer):
    """A job that goes on."""

    job_id: int


class Job(_Answer):
    """An alert event x a channel."""

    job_id: int
    alert_id: int | str
    event_type: EventType
    channel: str
    channel_id: int
    channel_type: str
    rule: str | None
    state: JobState
    reason: str | None
    totals: Totals
    accepted_at: AwareDatetime
    finished_at: AwareDatetime | None
    expires_at: AwareDatetime


class WholeJob(Job):
    """A job with its alert and its result."""

    alert: dict[str, Any]
    result: DispatchResult


class AlertListed(AlertShown):
    """One event of an alert, with its jobs."""

    jobs: list[Job] = Field(
        description="The first hundred of them; job_count is their number.", max_length=100
    )


class AlertHistory(AlertFields):
    """An alert as its newest event has it; all of its events, and the jobs that they caused, oldest first."""

    events: list[AlertShown]
    jobs: list[Job]


class LogEntry(_Answer):
    """One attempt at one delivery."""

    id: int
    job_id: int
    delivery_id: int
    channel_id: int
    sender: str
    attempt: int
    outcome: str
    code: str | None
    provider_id: str | None
    latency_ms: float | None
    detail: str | None
    at: AwareDatetime


class Channel(_Answer):
    """A destination. Where its config holds a secret there is a mask."""

    id: int
    name: str
    channel_type: str
    config: dict[str, Any]
    is_enabled: bool
    health: str
    health_detail: str | None
    health_at: AwareDatetime | None
    created_at: AwareDatetime
    updated_at: AwareDatetime


class ChannelPatch(_Answer):
    """The fields to change. `config` is one field, replaced whole; a mask keeps the secret it stands for."""

    name: Name = "ops"
    channel_type: str = "webhook"
    config: dict[str, Any] = {}
    is_enabled: bool = True


class RulePatch(_Answer):
    """The fields of a rule to change. A filter that is null or empty matches all."""

    name: Name = "all"
    channel: str | int | None = Field(None, description="Name or id; or give channel_id.")
    channel_id: int | None = None
    min_severity: int | None = Field(None, ge=0, le=MAX_SEVERITY)
    alert_type: Text | None = None
    device_tag_key: Text | None = None
    device_tag_val: Text | None = Field(None, description="Null or empty: whatever the tag's value.")
    site_ids: list[Text] | None = []
    device_prefixes: list[Text] | None = []
    deliver_on: list[EventType] = Field([EventType.OPEN], min_length=1)
    throttle_minutes: int | None = Field(None, ge=0, le=525_600)
    priority: int = Field(100, description="Lower is asked first.", ge=-(2**31), lt=2**31)
    is_enabled: bool = True


class RuleInput(RulePatch):
    """A rule. Filters are joined by AND, members of a list by OR."""

    name: Name


class Rule(_Answer):
    """When a channel hears of an alert."""

    id: int
    channel_id: int
    channel: str
    name: str
    min_severity: int | None
    alert_type: str | None
    device_tag_key: str | None
    device_tag_val: str | None
    site_ids: list[str]
    device_prefixes: list[str]
    deliver_on: list[EventType]
    throttle_minutes: int | None
    priority: int
    is_enabled: bool
    created_at: AwareDatetime
    updated_at: AwareDatetime


class DeviceInput(_Answer):
    """A phone (token) or a browser (subscription: its PushSubscription as JSON)."""

    platform: Platform
    token: str = Field("", max_length=4096)
    subscription: dict[str, Any] | None = None
    app_id: Text = ""
    name: Text = ""


class Device(_Answer):
    """A device, without its address."""

    id: int
    user_id: str
    platform: Platform
    app_id: str
    name: str
    registered_at: AwareDatetime
    disabled_at: AwareDatetime | None
    disabled_reason: str | None


class Devices(_Answer):
    """All devices of a user."""

    items: list[Device]
    next: None


class NotificationInput(_Answer):
    """An alert without an id of its own."""

    notification_id: Name | None = Field(
        None, description="Makes the call repeatable: the same id, the same job."
    )
    message: str | None = Field(None, max_length=64 * 1024)
    alert_type: Text | None = None
    severity: int | None = Field(None, ge=0, le=MAX_SEVERITY)
    device_id: Text | None = None
    site_id: Text | None = None
    details: dict[str, Any] | None = Field(
        None, description="`title`, `camera_id`, `is_critical`, anything else."
    )
    triggered_at: AwareDatetime | None = None


class ProviderResponse(_Answer):
    """What the provider said."""

    code: str | None
    detail: str | None
    provider_id: str | None


class DeviceTest(_Answer):
    """A test sent to one device of a push channel."""

    device_id: int
    user_id: str
    platform: str
    outcome: str
    latency_ms: float
    provider_response: ProviderResponse


class ChannelTest(_Answer):
    """A test that arrived. One that did not is a problem of status 502 with the same members."""

    status: Literal["ok"]
    channel: str
    channel_id: int
    channel_type: str
    outcome: Literal["ok"]
    latency_ms: float
    provider_response: ProviderResponse
    devices: list[DeviceTest] = []


class ExplainedRule(_Answer):
    """A rule, and the first reason why it does not match."""

    rule: str
    channel: str
    matched: bool
    reason: str | None


class ExplainedTarget(_Answer):
    """Who would be reached, or why not. A channel that is no push channel is one target without user and device."""

    rule: str
    channel: str
    channel_type: str
    user_id: str | None
    device: int | None
    device_name: str | None
    platform: str | None
    verdict: Literal["deliver", "defer", "suppress"]
    reason: str | None
    until: AwareDatetime | None


class Explanation(_Answer):
    """What would become of an alert."""

    rules: list[ExplainedRule]
    targets: list[ExplainedTarget] = Field(description="A thousand at most.", max_length=1000)
    targets_left_out: int = Field(description="How many others there are; give `user_id` to ask for some.")
    already_accepted: bool


class ReplayInput(_Answer):
    """Which failed and expired deliveries; at least one of these."""

    channel: str | int | None = None
    reason: Reason | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


class Replayed(_Answer):
    """What goes out again, how many were skipped for which reason, and whether others could go with another call."""

    deliveries: int
    jobs: int
    skipped: dict[str, int]
    more: bool


class Readiness(_Answer):
    """A line a part: `ok`, or what is wrong with it."""

    ready: bool
    parts: dict[str, str]


class Liveness(_Answer):
    """This process answers."""

    status: Literal["ok"]


#: Lists that page: the name of the component, and what an item is.
PAGES: dict[str, type[BaseModel]] = {
    "AlertPage": AlertListed,
    "ChannelPage": Channel,
    "DeliveryPage": TargetResult,
    "JobPage": Job,
    "LogPage": LogEntry,
    "RulePage": Rule,
}

MODELS: tuple[type[BaseModel], ...] = (
    Accepted, AlertEvent, AlertHistory, AlertListed, AlertShown, Camera, Channel, ChannelPatch, ChannelTest, Device,
    DeviceInput, Devices, DispatchResult, Explanation, Job, JobRef, Liveness, LogEntry, NotificationInput, NotifyResult,
    Preference, Problem, Readiness, Replayed, ReplayInput, Rule, RuleInput, RulePatch, WholeJob,
)  # fmt: skip
