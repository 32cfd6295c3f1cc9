from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import hypothesis
import pytest
from apprise.plugins import N_MGR, url_to_dict
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from senders.apprise import (
    FORBIDDEN,
    MAX_BODY,
    SCHEMES,
    AppriseConfig,
    AppriseSender,
    _asset,
    _library,
    _texts,
)
from senders.notes import Notes
from senders.outcomes import Misconfigured, Receipt, Transient
from tests.unit.senders.support import (
    closed_port,
    loopback_settings,
    notification,
    outcome,
    raw_server,
    receiving,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def unchecked(url: str) -> AppriseConfig:
    """A config that goes to this machine, which no tenant's may: `json` takes its host from the URL."""
    return AppriseConfig.model_construct(url=SecretStr(url.replace("http://", "json://")), max_retries=1)


@pytest.fixture
async def sender() -> AsyncIterator[AppriseSender]:
    _library()  # here, since it may take most of the deadline on a busy machine
    sending = AppriseSender(loopback_settings(send_deadline=3), None)  # type: ignore[arg-type]  # makes no request of ours
    yield sending
    await sending.aclose()


@pytest.mark.parametrize(
    ("event", "severity", "kind"),
    [("OPEN", 1, "info"), ("OPEN", 2, "warning"), ("OPEN", 3, "failure"), ("ESCALATED", 4, "failure"),
     ("CLOSED", 4, "success")],
)  # fmt: skip
async def test_a_service_is_notified(sender: AppriseSender, event: str, severity: int, kind: str) -> None:
    async with receiving() as receiver:
        result = await outcome(sender, notification(unchecked(receiver.url), event, severity=severity))
    assert result == Receipt("sent")
    body = receiver.requests[0].json
    assert body["title"].endswith("smoke detected at cam-3, berlin")
    assert body["message"] == "Smoke in the hall"
    assert body["type"] == kind


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_a_failure_is_tried_again_and_says_what_apprise_said(
    sender: AppriseSender, status: int
) -> None:
    async with receiving(status=status) as receiver:
        url = (
            receiver.url.replace("://", "://canary-user:canary-pass@")
            + "/canary-path?:canary=canary-argument"
        )
        result = await outcome(sender, notification(unchecked(url)))
    assert isinstance(result, Transient)
    assert result.code == "failure"
    assert f"error={status}" in result.detail
    assert "canary" not in f"{result!r}{result}"


async def test_nobody_listens(sender: AppriseSender) -> None:
    result = await outcome(sender, notification(unchecked(f"http://127.0.0.1:{closed_port()}/")))
    assert isinstance(result, Transient)


async def test_a_service_that_never_answers_is_given_up() -> None:
    sending = AppriseSender(loopback_settings(send_deadline=0.3), None)  # type: ignore[arg-type]  # makes no request of ours
    over = asyncio.Event()

    async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await over.wait()

    async with raw_server(silent) as url:
        result = await outcome(sending, notification(unchecked(url)))
        over.set()
    assert isinstance(result, Transient)
    assert result.code == "timeout"
    await sending.aclose()


@pytest.mark.parametrize(
    "url", ["tgram://canary", "pover://canary", "discord://canary/", "twilio://canary:canary@1"]
)
async def test_a_url_that_apprise_does_not_understand_needs_a_person(sender: AppriseSender, url: str) -> None:
    result = await outcome(sender, notification(AppriseConfig(url=SecretStr(url))))
    assert isinstance(result, Misconfigured)
    assert result.code == "no match"
    assert "canary" not in f"{result!r}{result}"


async def test_what_apprise_logs_of_one_send_is_not_told_about_another(sender: AppriseSender) -> None:
    async with receiving(status=401) as one, receiving(status=503) as other:
        results = await asyncio.gather(
            *(outcome(sender, notification(unchecked(each.url))) for each in (one, other) * 4)
        )
    for number, result in enumerate(results):
        assert isinstance(result, Transient)
        assert ("error=401" in result.detail) == (number % 2 == 0)
        assert ("error=503" in result.detail) == (number % 2 == 1)


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_an_allowed_scheme_can_reach_its_vendor_only(scheme: str) -> None:
    _library()
    plugin = N_MGR[scheme]
    assert plugin.enabled, plugin.requirements
    assert not any("{host}" in template or "{port}" in template for template in plugin.templates)
    values = [value for value in vars(plugin).values() if isinstance(value, str) and value.startswith("http")]
    for value in values:
        assert "{" not in (urlsplit(value).hostname or "{"), value
        assert urlsplit(value).scheme == "https" or "setup" in value


@pytest.mark.parametrize(
    "url",
    [
        "json://127.0.0.1/", "jsons://169.254.169.254/", "xml://10.0.0.1", "form://x", "ntfy://x/y", "gotify://x/y",
        "matrix://x", "mailto://u:p@x", "zulip://bot@10.0.0.1/token", "dbus://", "gnome://", "macosx://", "windows://",
        "syslog://", "rsyslog://10.0.0.1", "blink1://", "fcm://p/t?keyfile=/etc/passwd", "vapid://x", "file:///etc/passwd",
        "exec://ls", "http://127.0.0.1", "https://discord.com/api/webhooks/1/2", "apprise://x/y", "mqtt://x/y", "smb://x",
        "", "tgram", "TGRAM ://x", "tgram://a b", "tgram://a\nb", "tgram://" + "x" * 2048, "tgram://[", "prowl,json://x",
    ],
)  # fmt: skip
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="must ") as caught:
        AppriseConfig(url=SecretStr(url))
    assert not url or url not in str(caught.value) or len(url) < 6


@pytest.mark.parametrize("name", sorted(FORBIDDEN))
@pytest.mark.parametrize(
    "spelling",
    [
        "{}", "{}=", "+{}=x", "a=b&{}=/etc/passwd", "%{:02x}", "x=1;{}=x", "x;y=&;{}", "x=1?y=2;{}=x",
        "%20{}%20=x", "-{}=x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", ["?", "#?", "/#/x?", "/x;y?"])
def test_parameters_that_read_files_or_undo_tls_are_refused(name: str, spelling: str, before: str) -> None:
    if spelling == "%{:02x}":
        query = "".join(f"%{ord(letter):02x}" for letter in name) + "=x"
    else:
        query = spelling.format(name.upper() if spelling == "{}=" else name)
    with pytest.raises(ValidationError, match=re.escape(f"must not set {name}")):
        AppriseConfig(url=SecretStr(f"tgram://1:token/chat{before}{query}"))


NAME = st.sampled_from([*sorted(FORBIDDEN), "to", "format", "overflow"])
PIECE = (
    NAME
    | NAME.map(str.upper)
    | NAME.map(lambda name: "".join(f"%{ord(letter):02x}" for letter in name))
    | NAME.map(lambda name: f"%{ord(name[0]):02X}{name[1:]}")
    | st.sampled_from([
        "=no", "=", "&", ";", "?", "#", "/", "/#", "%3B", "%26", "%3F", "%23", "%20", "+", "-", ":", "%2576",
        "x", "\u212a",
    ])
)  # fmt: skip


@hypothesis.settings(max_examples=300)
@given(tail=st.lists(PIECE, max_size=8).map("".join))
@hypothesis.example(tail="?x=1;template=http://127.0.0.1/;verify=no;rto=300")
@hypothesis.example(tail="#?verify=no")
@hypothesis.example(tail="?%E2%84%AAeyfile=x")
def test_apprise_reads_no_forbidden_parameter_from_a_url_that_is_taken(tail: str) -> None:
    url = f"discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js{tail}"
    try:
        AppriseConfig(url=SecretStr(url))
    except ValidationError:
        return
    _library()
    parsed = url_to_dict(url)  # type: ignore[no-untyped-call]  # apprise leaves it unannotated
    if parsed is not None:  # else it is no URL to Apprise, and makes no service
        assert not FORBIDDEN & {name for kind in ("qsd", "qsd+", "qsd-", "qsd:") for name in parsed[kind]}
        assert parsed["verify"] is True


@pytest.mark.parametrize(
    "rest", ["/#general", "?to=a;format=text", "/a;b/?to=%23general", "#x?format=html&to=a"]
)
def test_what_other_urls_hold_is_not_judged(rest: str) -> None:
    AppriseConfig(url=SecretStr(f"pushed://app-key/app-secret{rest}"))


async def test_a_redirect_is_not_followed(sender: AppriseSender) -> None:
    async with receiving() as other, receiving(status=307, headers={"location": other.url}) as receiver:
        result = await outcome(sender, notification(unchecked(receiver.url)))
    assert isinstance(result, Transient)
    assert len(receiver.requests) == 1
    assert other.requests == []


async def test_a_send_whose_time_is_over_makes_no_request_more() -> None:
    """One that has many to make would keep its thread, and eight of those everyone's."""
    _library()
    sending = AppriseSender(loopback_settings(send_deadline=0.5), None)  # type: ignore[arg-type]  # makes no request of ours
    async with receiving() as receiver:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(N_MGR["json"], "body_maxlen", 100)
            patch.setattr(N_MGR["json"], "request_rate_per_sec", 0.2)
            config = unchecked(f"{receiver.url}/?overflow=split")
            result = await outcome(sending, notification(config, alert={"message": "Smoke " * 1000}))
            taken = len(receiver.requests)
            await asyncio.sleep(0.8)
    assert isinstance(result, Transient)
    assert result.code == "timeout"
    assert 1 <= taken <= len(receiver.requests) <= taken + 1
    await sending.aclose()


SERVICES = {
    "tgram": "tgram://123456789:abcdefg_hijklmnop/12315544/",
    "discord": "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "nexmo": "nexmo://ac1234567:aaaaaaaaaaaaaaaa@15551234567/15551234568",
    "splunk": "splunk://route@db78c2c4-0d8f-4f4b-8c4e-5d7b7e0f4d3a",
    "twist": "twist://password:user@example.org/general",
    "pover": "pover://" + "u" * 30 + "@" + "t" * 30,
    "lark": "lark://abcdefgh-1234-5678-abcd-abcdefghijkl",
    "threema": "threema://*THEGWID@secret/15551234567",
    "join": "join://" + "a" * 32 + "/android",
}


def prepared(url: str, **alert: Any) -> tuple[Any, list[dict[str, Any]], str | None]:
    """The service, what it would be given to send, and the note; nothing is sent."""
    service = _library().Apprise.instantiate(url, asset=_asset())
    assert service is not None
    sent = notification(AppriseConfig(url=SecretStr(url)), alert=alert)
    notes = Notes(sent)
    return service, list(service._build_send_calls(**_texts(sent, service, notes, _library()))), notes.detail


@pytest.mark.parametrize("scheme", SERVICES)
@hypothesis.settings(max_examples=15, deadline=None)
@given(
    said=st.text(max_size=300) | st.text(alphabet="<&>*_[](`\\ \n🔥é", max_size=200), times=st.integers(1, 60)
)
def test_every_service_gets_one_message_of_its_size(scheme: str, said: str, times: int) -> None:
    service, calls, note = prepared(
        SERVICES[scheme],
        message=said * times,
        device_id=said,
        details={"url": "https://example.org/?a=1&b=2"},
    )
    (call,) = calls
    assert len(call["body"]) <= service.body_maxlen
    assert len(call["title"]) <= max(service.title_maxlen, 0)
    assert ("…" in call["title"] + call["body"]) <= (note is not None)


@pytest.mark.parametrize("scheme", SERVICES)
def test_megabytes_are_clipped_and_said(scheme: str) -> None:
    began = time.monotonic()
    service, (call,), note = prepared(SERVICES[scheme], message="a <b> & c\n" * 500_000)
    assert len(call["body"]) <= service.body_maxlen
    assert note == "clipped: message"
    assert time.monotonic() - began < 3


def test_several_messages_are_the_tenants_choice_and_bounded() -> None:
    service, calls, note = prepared(SERVICES["discord"] + "?overflow=split", message="word " * 1_000_000)
    assert 2 <= len(calls) <= 2 * MAX_BODY // service.body_maxlen
    assert note == "clipped: message"


def test_the_link_is_the_last_line_and_stays_whole() -> None:
    url = "https://example.org/alerts/4711?a=1&b=2"
    for message in ("Smoke", "Smoke " * 1000):
        _, (call,), _ = prepared(SERVICES["threema"], message=message, details={"url": url})
        assert call["body"].splitlines()[-1] == url
    _, (call,), _ = prepared(SERVICES["tgram"], message="Smoke", details={"url": url})
    assert "a=1&amp;b=2" in call["body"]
    _, (call,), note = prepared(SERVICES["nexmo"], details={"url": "https://example.org/" + "x" * 100})
    assert "example.org" not in call["body"]
    assert note == "details.url left out: the service takes too short messages"
    _, (call,), note = prepared(SERVICES["threema"], details={"url": "javascript:alert(1)"})
    assert "javascript" not in call["body"]
    assert (note or "").startswith("details.url left out: it must")


def test_what_html_would_mean_is_escaped() -> None:
    """Telegram refuses a whole message for one tag that it does not know."""
    _, (call,), _ = prepared(SERVICES["tgram"], message="temperature <5 & <script>")
    assert "&lt;5" in call["body"]
    assert "<script>" not in call["body"]


async def test_a_channels_templates_make_title_and_message(sender: AppriseSender) -> None:
    async with receiving() as receiver:
        config = unchecked(receiver.url).model_copy(
            update={"title_template": "Hall {{ alert.site_id }}", "body_template": "{{ alert.nothing }}"}
        )
        result = await outcome(sender, notification(config))
    assert receiver.requests[0].json["title"] == "Hall berlin"
    assert receiver.requests[0].json["message"] == "Smoke in the hall"
    assert result == Receipt("sent", detail="body_template made no text, the standard one was sent")


async def test_a_body_of_megabytes_goes_out_short(sender: AppriseSender) -> None:
    async with receiving() as receiver:
        sent = notification(unchecked(receiver.url), alert={"message": "Smoke " * 1_000_000})
        result = await outcome(sender, sent)
    assert len(receiver.requests[0].json["message"]) <= MAX_BODY
    assert result == Receipt("sent", detail="clipped: message")


def test_few_retries_unless_the_channel_says_otherwise() -> None:
    url: Any = "prowl://" + "a" * 40
    assert AppriseConfig(url=url).max_retries == 1
    assert AppriseConfig(url=url, max_retries=5).max_retries == 5
