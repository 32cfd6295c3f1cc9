"""Templates: what is refused when they are saved, and what an alert makes of them."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.filters import FILTERS as DEFAULT_FILTERS
from pydantic import ValidationError

from senders.base import ChannelConfig
from senders.template import (
    FILTERS,
    MAX_FILTERS,
    MAX_OUTPUT,
    MAX_TEMPLATE,
    MAX_VALUE,
    NAMES,
    TemplateFailedError,
    check_template,
    render,
)
from senders.text import body, template_notes, title
from senders.webhook import WebhookConfig, WebhookSender
from tests.unit.senders.support import client, loopback_settings, notification, receiving

if TYPE_CHECKING:
    from types import FrameType


FILTER_CODE = {DEFAULT_FILTERS[name].__code__ for name in FILTERS if name != "default"}
DUMPS = json.dumps


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("", "must be a template of 1 to 4000 characters"),
        ("x" * (MAX_TEMPLATE + 1), "must be a template of 1 to 4000 characters"),
        ("one\n{{ two }", "line 2: must be a Jinja template: unexpected '}'"),
        ("{% if title %}", "line 1: must be a Jinja template: Unexpected end of template"),
        ("{{ alrt.message }}", "line 1: names alrt, and may name alert, body, event"),
        ("{{ self }}", "line 1: names self"),
        ("\n\n{% for x in alert %}{% endfor %}", "line 3: must hold only text, .* no for"),
        ("{{ range(10**9) }}", "no "),
        ("{{ 9 ** 9 ** 9 }}", "no pow"),
        ("{{ 'x' * 10000000 }}", "no mul"),
        ("{{ alert.items() }}", "no call"),
        ("{% include '/etc/passwd' %}", "no include"),
        ("{% set x = 1 %}", "no assign"),
        ("{% macro f() %}{% endmacro %}", "no macro"),
        ("{{ title[:3] }}", "no slice"),
        ("{{ title | replace('a', 'b') }}", "must use no filters but capitalize, default"),
        ("{{ title | attr('__class__') }}", "must use no filters but"),
        ("{{ title | trim('x') }}", "must give a filter no arguments"),
        ("{{ " + "(" * 900 + "1" + ")" * 900 + " }}", "nested"),
        ("{{ title" + "|title" * (MAX_FILTERS + 1) + " }}", "line 1: must use at most 20 filters"),
        ("{{ title|upper }}\n" * (MAX_FILTERS + 1), "line 21: must use at most 20 filters"),
        (
            "{% if " + " or ".join(["body|title|title|title|title == 1"] * 90) + " %}{% endif %}",
            "at most 20 filters",
        ),
        ("{% if title %}" * 130 + "{% endif %}" * 130, "nested"),
    ],
)
def test_what_is_refused_names_the_line_and_the_rule(source: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        check_template(source)


def test_a_channel_with_a_bad_template_is_not_saved() -> None:
    with pytest.raises(ValidationError) as caught:
        WebhookConfig.model_validate({"url": "https://example.org", "title_template": "{{ alert."})
    assert "title_template" in str(caught.value)
    assert "line 1" in str(caught.value)


@given(st.text(max_size=60) | st.text(alphabet=st.sampled_from("{}%|.[]'\"() aifbody_\n#-"), max_size=60))
def test_any_text_is_a_template_or_a_clear_error(source: str) -> None:
    try:
        check_template(source)
    except ValueError as error:
        assert str(error)  # noqa: PT017  # both outcomes are right
    else:
        values = dict.fromkeys(NAMES, "v") | {"alert": {"alert_id": 1}}
        try:
            assert len(render(source, values)) <= MAX_OUTPUT
        except TemplateFailedError as error:
            assert " in line " in str(error)  # noqa: PT017  # as above


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ symbol }} {{ alert.device_id }}", "🟠 cam-3"),
        ("{{ alert['device_id'] | upper }}", "CAM-3"),
        ("{{ alert.details.device_tags.floor }}", "2"),
        ("{% if severity >= 3 %}now{% else %}later{% endif %}", "now"),
        ("{{ level }} {{ lead }} {{ event }} {{ tenant_id }} {{ job_id }}", "error Error OPEN acme 12"),
        ("{{ alert.nothing.at.all | default('none') }}", "none"),
        ("{{ alert.alert_id }}{{ alert.details.device_tags }}", '4711{"floor": "2"}'),
        ("{{ alert.details.device_tags ~ alert.nothing ~ severity }}", '{"floor": "2"}3'),
        ("{{ alert.__class__ }}{{ title.__class__.__mro__ }}{{ alert.items }}-", "-"),
        (
            "{{ message }} {{ device_id | upper }} {{ details.device_tags.floor }}",
            "Smoke in the hall CAM-3 2",
        ),
        (
            "{{ alert_id }} {{ alert_type }} {{ severity }} {{ triggered_at }}",
            "4711 smoke_detected 3 2026-11-03T20:26:09Z",
        ),
        ("{{ event_type | default('what') }}-{{ event_type }}-", "what--"),
        ("{{ title }}", "Error: smoke detected at cam-3, berlin"),
        ("a\r\nb\x00 {{ alert.alert_type }}", "a b smoke_detected"),
        ("{{ '{{ alert }}' }}", "{{ alert }}"),
    ],
)
def test_titles_of_a_channel(source: str, expected: str) -> None:
    config = ChannelConfig(title_template=source)
    assert title(notification(config)) == expected
    assert template_notes(notification(config)) == []


def test_a_body_keeps_its_lines_and_can_hold_the_facts() -> None:
    config = ChannelConfig(body_template="{{ body }}\n\n{{ facts }}")
    said = body(notification(config)).splitlines()
    assert said[:3] == ["Smoke in the hall", "", "Severity: error (3)"]
    assert "Device: cam-3" in said


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )
)
def test_an_alert_that_a_template_cannot_bear_gets_the_standard_text_and_a_note(value: Any) -> None:
    config = ChannelConfig(
        title_template="{% if alert.details.n > 3 %}\n{{ alert.details.n | lower }}{% endif %}",
        body_template="\n{{ alert.details.n > 3 }}",
    )
    sent = notification(config, alert={"details": {"n": value}})
    standard = notification(ChannelConfig(), alert={"details": {"n": value}})
    notes = template_notes(sent)
    assert title(sent)
    assert body(sent)
    if not isinstance(value, int | float):
        assert (title(sent), body(sent)) == (title(standard), body(standard))
        assert len(notes) == 2
        assert all(str(value) not in note for note in notes if isinstance(value, str) and len(value) > 12)


def test_the_note_names_the_line_of_the_template() -> None:
    config = ChannelConfig(body_template="one\ntwo\n{{ alert.message > 3 }}")
    assert template_notes(notification(config)) == [
        "body_template failed (TypeError in line 3), the standard text was sent"
    ]


def test_the_costliest_template_is_bounded_in_time_and_output() -> None:
    source = ("{{ body ~ facts }}" * 300)[:MAX_TEMPLATE].rsplit("{{", 1)[0]
    alert = {"message": "m" * 1_000_000, "details": {f"k{i}": "v" * 1000 for i in range(500)}}
    sent = notification(ChannelConfig(body_template=check_template(source)), alert=alert)
    began = time.perf_counter()
    assert len(body(sent)) <= MAX_OUTPUT
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(
    "read",
    ["body", "alert.message", "facts", "alert", "alert.details", "alert.details.many", "(body ~ facts ~ body)",
     "(alert ~ alert.details)", "(body | upper)", "(alert.nothing | default(body ~ body))"],
)  # fmt: skip
def test_a_filter_reads_no_more_than_one_value_may_have(read: str) -> None:
    """It does so on the event loop, and twenty times at most."""
    many = ["ß" * 60_000] * 3
    alert = {"message": "ß" * 65_536, "details": {"text": "ß" * 60_000, "many": many, "deep": {"x": many}}}
    source = "".join(f"{{{{ {read} | {name} }}}}" for name in FILTERS if name != "default")
    sent = notification(ChannelConfig(body_template=check_template(source)), alert=alert)
    sizes: list[int] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in FILTER_CODE:
            sizes.append(len(str(frame.f_locals[frame.f_code.co_varnames[0]])))

    sys.setprofile(watch)
    try:
        body(sent)
    finally:
        sys.setprofile(None)
    assert len(sizes) >= len(FILTERS) - 1
    assert max(sizes) <= MAX_VALUE


def test_an_alert_becomes_text_once_however_often_a_template_names_it() -> None:
    source = "{% if " + " ~ ".join(["alert"] * 400) + " == 1 %}{% endif %}{{ alert ~ alert.details }}"
    alert = {"message": "m" * 65_536, "details": {f"k{i}": "v" * 100 for i in range(500)}}
    sent = notification(ChannelConfig(body_template=check_template(source)), alert=alert)
    with pytest.MonkeyPatch.context() as patch:
        made: list[object] = []

        def dumps(value: object, **options: Any) -> str:
            made.append(value)
            return DUMPS(value, **options)

        patch.setattr(json, "dumps", dumps)
        said = body(sent)
    assert said.startswith('{"alert_id": 4711')
    assert len(made) == 2


async def test_a_webhook_carries_the_texts_of_its_templates_and_says_what_failed() -> None:
    async with receiving(status=204, body=b"") as receiver, client() as http:
        config = WebhookConfig.model_validate(
            {
                "url": receiver.url,
                "title_template": "{{ alert.device_id }}!",
                "body_template": "{{ severity > body }}",
            }
        )
        receipt = await WebhookSender(loopback_settings(), http).send(notification(config))
        data = receiver.requests[0].json["data"]
        assert (data["title"], data["body"]) == ("cam-3!", "Smoke in the hall")
        assert receipt.detail == "body_template failed (TypeError in line 1), the standard text was sent"
