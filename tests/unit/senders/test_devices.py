from __future__ import annotations

import os
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receivers.keys import b64url, new_p256, raw_public_key
from senders.devices import MismatchWatch, check_device, check_subscription, check_token

POINT = b64url(raw_public_key(new_p256().public_key()))
AUTH = b64url(os.urandom(16))
LOOPBACK = [ip_network("127.0.0.0/8")]


def subscription(endpoint: Any = "https://push.example.org/x", **keys: Any) -> dict[str, Any]:
    return {"endpoint": endpoint, "expirationTime": None, "keys": {"p256dh": POINT, "auth": AUTH, **keys}}


@pytest.mark.parametrize("token", ["0f" * 32, "0F" * 100])
def test_tokens_of_ios(token: str) -> None:
    check_token("ios", token)


@pytest.mark.parametrize(
    "token", ["", "0f" * 31, "0f" * 101, "0" * 65, "0g" * 32, "../../x", "abc?y=1", "0f" * 32 + "\n"]
)
def test_tokens_that_ios_does_not_have(token: str) -> None:
    with pytest.raises(ValueError, match=r"^token: "):
        check_token("ios", token)


@given(st.text(max_size=50))
def test_an_accepted_token_is_harmless(token: str) -> None:
    for platform in ("ios", "android"):
        try:
            check_token(platform, token)
        except ValueError:
            continue
        assert token.isascii()
        assert token.isprintable()
        assert " " not in token
        assert platform == "android" or "/" not in token  # APNs has it in a path


@pytest.mark.parametrize("token", ["dQw4w9WgXcQ:APA91b-Example_Token", "t", "a/b+c==", "x" * 4096])
def test_a_token_of_android(token: str) -> None:
    check_token("android", token)


@pytest.mark.parametrize("token", ["", "a b", "a\n", "x" * 4097, "ä"])
def test_tokens_that_android_does_not_have(token: str) -> None:
    with pytest.raises(ValueError, match=r"^token: "):
        check_token("android", token)


def test_another_platform() -> None:
    with pytest.raises(ValueError, match=r"^platform: "):
        check_token("windows", "x" * 20)


def test_a_subscription_as_browsers_give_it() -> None:
    check_subscription(subscription())
    check_subscription(subscription(p256dh=POINT + "=", auth=AUTH + "=="))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "endpoint"),
        (subscription(5), "endpoint"),
        (subscription("ftp://x"), "endpoint"),
        (subscription("http://push.example.org/x"), "endpoint"),
        (subscription("http://127.0.0.1/x"), "endpoint"),
        (subscription("https://127.0.0.1/x"), "endpoint"),
        (subscription("https://169.254.169.254/x"), "endpoint"),
        (subscription("https://u:p@push.example.org/x"), "endpoint"),
        ({"endpoint": "https://push.example.org/x"}, "keys"),
        ({"endpoint": "https://push.example.org/x", "keys": []}, "keys"),
        (subscription(p256dh=None), "keys.p256dh"),
        (subscription(p256dh=5), "keys.p256dh"),
        (subscription(p256dh=POINT[:-4]), "keys.p256dh"),
        (subscription(p256dh=b64url(b"\x04" + bytes(64))), "keys.p256dh"),
        (subscription(p256dh=b64url(bytes(65))), "keys.p256dh"),
        (subscription(auth="A"), "keys.auth"),
        (subscription(auth="AAAAA"), "keys.auth"),
        (subscription(auth=AUTH + "AAAA"), "keys.auth"),
        (subscription(auth=AUTH + " "), "keys.auth"),
    ],
)
def test_a_wrong_subscription_is_told_by_its_field(given: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=rf"^subscription\.{field}: "):
        check_subscription(given)


def test_an_allowed_network_may_be_reached_without_tls() -> None:
    check_subscription(subscription("http://127.0.0.1:8080/x"), LOOPBACK)
    with pytest.raises(ValueError, match="https"):
        check_subscription(subscription("http://1.1.1.1/x"), LOOPBACK)
    with pytest.raises(ValueError, match="public"):
        check_subscription(subscription("http://10.0.0.1/x"), LOOPBACK)


def test_a_device_has_a_token_or_a_subscription() -> None:
    check_device("ios", "0f" * 32, {})
    check_device("web", "", subscription())
    with pytest.raises(ValueError, match=r"^subscription: "):
        check_device("ios", "0f" * 32, subscription())
    with pytest.raises(ValueError, match=r"^token: "):
        check_device("web", "0f" * 32, subscription())
    with pytest.raises(ValueError, match=r"^subscription.endpoint: "):
        check_device("web", "", {})


def test_a_stray_mismatch_is_the_devices_and_a_run_of_them_the_credentials() -> None:
    watch = MismatchWatch(limit=2)
    assert not watch.suspects_credentials()
    assert not watch.suspects_credentials()
    watch.taken()
    assert [watch.suspects_credentials() for _ in range(4)] == [False, False, True, True]
