"""Every exception class of the providers' libraries is accounted for, so that a new version cannot add one unseen.

The libraries of HTTP are in test_http_errors.py, of SMTP in test_email.py, of SNMP in test_snmp.py.
"""

from __future__ import annotations

import importlib
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import aioapns.connection
import h2.exceptions
import pytest
from firebase_admin import messaging
from google.auth import exceptions as google

from senders.base import Device
from senders.fcm import FcmSender
from senders.fcm_account import ServiceAccount
from senders.outcomes import Misconfigured, SendError, TargetGone, Transient
from senders.push import FcmCredentials, PushConfig
from tests.unit.senders.push_support import ANDROID_TOKEN, local_fcm, push, trust
from tests.unit.senders.support import CANARY, client, loopback_settings, outcome

# Why none of these leaves a sender as it is.
MAPPED: Final = "the sender catches it and makes an outcome of it"
POOL: Final = "raised by aioapns's own pool and connection, which senders.apns_pool and apns_protocol replace"
CLIENT: Final = "raised by a client that is not used: senders.http makes the requests"
CHECKED: Final = "the value that would cause it is refused when the channel or device is saved"

ACCOUNTED: Final[dict[str, dict[str, str]]] = {
    "aioapns.exceptions": dict.fromkeys(("ConnectionClosed", "ConnectionError", "MaxAttemptsExceeded"), POOL),
    "firebase_admin.exceptions": dict.fromkeys(
        (
            "AbortedError",
            "AlreadyExistsError",
            "CancelledError",
            "ConflictError",
            "DataLossError",
            "DeadlineExceededError",
            "FailedPreconditionError",
            "FirebaseError",
            "InternalError",
            "InvalidArgumentError",
            "NotFoundError",
            "OutOfRangeError",
            "PermissionDeniedError",
            "ResourceExhaustedError",
            "UnauthenticatedError",
            "UnavailableError",
            "UnknownError",
        ),
        CLIENT,
    ),
    "firebase_admin.messaging": dict.fromkeys(
        ("QuotaExceededError", "SenderIdMismatchError", "ThirdPartyAuthError", "UnregisteredError"), CLIENT
    ),
    "pywebpush": {"NoData": "needs an empty message, and ours never is", "WebPushException": MAPPED},
    "py_vapid": {"VapidException": MAPPED},
    "http_ece": {"ECEException": MAPPED},
    "slack_sdk.errors": {
        **dict.fromkeys(
            (
                "BotUserAccessError",
                "SlackApiError",
                "SlackClientConfigurationError",
                "SlackClientError",
                "SlackClientNotConnectedError",
                "SlackRequestError",
                "SlackTokenRotationError",
            ),
            CLIENT,
        ),
        "SlackObjectFormationError": MAPPED,
    },
    "standardwebhooks.webhooks": {
        "EmptyWebhookSecretError": CHECKED,
        "WebhookVerificationError": "raised by who verifies, not by who signs",
    },
}


@pytest.mark.parametrize("module", ACCOUNTED)
def test_no_version_adds_an_exception_unseen(module: str) -> None:
    package = module.partition(".")[0]
    found = {
        name
        for name, kind in inspect.getmembers(importlib.import_module(module), inspect.isclass)
        if issubclass(kind, BaseException) and kind.__module__.partition(".")[0] == package
    }
    assert found == set(ACCOUNTED[module])


def test_aioapns_raises_nothing_of_its_own_in_what_is_kept_of_it() -> None:
    kept = inspect.getsource(aioapns.connection.APNsBaseClientProtocol)
    assert not [line for line in kept.splitlines() if "raise " in line and "NotImplementedError" not in line]


def test_every_error_of_http2_is_one_that_the_connection_catches() -> None:
    for _, kind in inspect.getmembers(h2.exceptions, inspect.isclass):
        if issubclass(kind, BaseException) and kind.__module__ == h2.exceptions.__name__:
            assert issubclass(kind, h2.exceptions.H2Error)


# Google's: the classes are raised where a token is fetched, the words stand in FCM's answers.


class FailingCredentials:
    """Credentials whose refresh fails in one way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def refresh(self, request: Any) -> None:
        del request
        raise self.error


GOOGLE = [
    kind
    for _, kind in inspect.getmembers(google, inspect.isclass)
    if issubclass(kind, BaseException) and kind.__module__ == google.__name__
]


@pytest.mark.parametrize("kind", GOOGLE, ids=lambda kind: kind.__name__)
async def test_every_error_of_google_auth_is_an_outcome(kind: type[Exception]) -> None:
    error = kind("no such account")
    with ThreadPoolExecutor(1) as threads:
        async with client(ssl_context=trust()) as http:
            account = ServiceAccount("demo-project", FailingCredentials(error), http, threads, 1)
            with pytest.raises(SendError) as caught:
                await account.header()
            assert isinstance(caught.value, Misconfigured | Transient)
            assert "no such account" in str(caught.value)
            await account.aclose()


WORDS: Final[dict[str, tuple[int, type[SendError]]]] = {
    "APNS_AUTH_ERROR": (401, Misconfigured),
    "QUOTA_EXCEEDED": (429, Transient),
    "SENDER_ID_MISMATCH": (403, TargetGone),
    "THIRD_PARTY_AUTH_ERROR": (401, Misconfigured),
    "UNREGISTERED": (404, TargetGone),
}


def test_firebase_knows_no_word_that_we_do_not() -> None:
    assert set(messaging._MessagingService.FCM_ERROR_TYPES) == set(WORDS)


@pytest.mark.parametrize("word", WORDS)
async def test_every_word_of_firebase_is_an_outcome(word: str) -> None:
    status, expected = WORDS[word]
    detail = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": word}
    body = {"error": {"code": status, "message": CANARY, "details": [detail]}}
    async with local_fcm(status=status, body=body) as fcm, client(ssl_context=trust()) as http:
        config = PushConfig(
            all_users=True, fcm=FcmCredentials.model_validate({"service_account": fcm.document()})
        )
        sender = FcmSender(loopback_settings(fcm_url=fcm.url), http)
        sent = push(config=config, device=Device(8, "alice", "android", ANDROID_TOKEN))
        got = await outcome(sender, sent)
        await sender.aclose()
    assert type(got) is expected
    assert got.code == f"{status} {word}"
