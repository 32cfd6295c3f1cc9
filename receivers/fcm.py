"""FCM's HTTP v1 API and the OAuth token endpoint in front of it.

Sources: firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send and .../v1/ErrorCode (the
answers); developers.google.com/identity/protocols/oauth2/service-account (the token request); RFC 7523 (the
assertion).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
import orjson
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from typing_extensions import override

from receivers.checks import is_media_type, parse_object
from receivers.fcm_message import LARGEST_MESSAGE, message_problems, message_size
from receivers.http import HttpReceiver
from receivers.keys import b64url, pem, write_secret
from receivers.records import Answer, Arrival, Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from receivers.records import Received

OAUTH = "oauth"  # the target under which answers of the token endpoint are ordered
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# Google's library puts this into `aud` even where the credentials file names another token_uri.
_GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105  # an address, not a secret
_SCOPES = {
    "https://www.googleapis.com/auth/firebase.messaging",
    "https://www.googleapis.com/auth/cloud-platform",
}
_LONGEST_ASSERTION = 3600  # seconds from iat to exp
_REGISTRATION_TOKEN = re.compile(r"[\w:-]{16,4096}", re.ASCII)
_FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
_UNKNOWN_DEVICE = "The registration token is not a valid FCM registration token"
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
# FCM's error code -> google.rpc status; and the usual error code of an HTTP status.
_RPC_STATUS = {
    "INVALID_ARGUMENT": "INVALID_ARGUMENT",
    "UNREGISTERED": "NOT_FOUND",
    "SENDER_ID_MISMATCH": "PERMISSION_DENIED",
    "QUOTA_EXCEEDED": "RESOURCE_EXHAUSTED",
    "UNAVAILABLE": "UNAVAILABLE",
    "INTERNAL": "INTERNAL",
    "THIRD_PARTY_AUTH_ERROR": "UNAUTHENTICATED",
}
_USUAL_CODE = {
    400: "INVALID_ARGUMENT",
    403: "SENDER_ID_MISMATCH",
    404: "UNREGISTERED",
    429: "QUOTA_EXCEEDED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
# Answers that come from Google's front, before FCM: they carry no FcmError.
_FRONT_STATUS = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 502: "UNAVAILABLE"}


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A Google service account that may send for its project."""

    project: str
    email: str
    key_id: str
    credentials_file: Path
    public_key: rsa.RSAPublicKey


class Fcm(HttpReceiver):
    """The local FCM.

    Attributes:
        account: the first project's service account; `issue` makes more.
        token_lifetime: seconds that an access token is good for.
    """

    name = "fcm"
    dead = Answer(404, reason="UNREGISTERED")

    def __init__(
        self,
        directory: Path,
        origin: str,
        *,
        verify: bool = True,
        on_received: Callable[[Received], None] | None = None,
    ) -> None:
        super().__init__(origin, verify=verify, on_received=on_received)
        self.token_lifetime = 3599
        self._directory = directory
        self._accounts: dict[str, ServiceAccount] = {}
        self._granted: dict[str, tuple[str, float]] = {}  # access token -> project, monotonic time of its end
        self.tokens_granted = 0
        self.account = self.issue("tocsin-local")

    # For the sending side.

    @property
    def token_url(self) -> str:
        """The OAuth token endpoint, as in the credentials file."""
        return f"{self.origin}/fcm/token"

    def issue(self, project: str) -> ServiceAccount:
        """Make a service account for a project."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        key_id = secrets.token_hex(20)
        email = f"sender@{project}.iam.gserviceaccount.com"
        document = {
            "type": "service_account",
            "project_id": project,
            "private_key_id": key_id,
            "private_key": pem(key).decode(),
            "client_email": email,
            "client_id": str(secrets.randbelow(10**21)),
            "token_uri": self.token_url,
        }
        file = write_secret(
            self._directory / f"service-account-{project}.json", json.dumps(document, indent=2).encode()
        )
        account = ServiceAccount(project, email, key_id, file, key.public_key())
        self._accounts[key_id] = account
        return account

    @staticmethod
    def installation_id(name: str | None = None) -> str:
        """A Firebase installation ID (22 characters), by which apps are addressed instead of by token."""
        digest = hashlib.sha256((name or secrets.token_hex(16)).encode()).digest()
        return "d" + b64url(digest)[:21]

    @staticmethod
    def registration_token(name: str | None = None) -> str:
        """A token of an app on a device; the same one for the same name."""
        seed = base64.urlsafe_b64encode((name or secrets.token_hex(16)).encode()).rstrip(b"=").decode()
        return f"fLocal{seed}:APA91b{seed[::-1]:_<32}"

    def revoke_tokens(self) -> None:
        """Make all access tokens worthless, as a rotated key does."""
        self._granted.clear()

    # For the far side.

    @override
    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/fcm/token", self._grant),
            web.post("/v1/projects/{project}/messages:send", self.handle),
        ]

    async def _grant(self, request: web.Request) -> web.StreamResponse:
        """Exchange a signed assertion for an access token. Not kept among what was received."""
        form = {key: str(value) for key, value in (await request.post()).items()}
        order = self._ordered_exactly(OAUTH)
        if order is not None:
            return await self.carry_out(request, self._oauth_reply(order), order)
        try:
            account = self._verify_assertion(form)
        except ValueError as error:
            return web.json_response({"error": "invalid_grant", "error_description": str(error)}, status=400)
        token = f"ya29.{secrets.token_urlsafe(48)}"
        self._granted[token] = (account.project, time.monotonic() + self.token_lifetime)
        self.tokens_granted += 1
        return web.json_response(
            {"access_token": token, "expires_in": self.token_lifetime, "token_type": "Bearer"}
        )

    @staticmethod
    def _oauth_reply(order: Answer) -> Reply | None:
        if order.reset or order.stall:
            return None
        body = order.encoded_body
        if body is None:
            body = orjson.dumps({"error": order.reason or "internal_failure"})
        return Reply(order.status or 500, body, {"Content-Type": "application/json", **order.headers})

    def _verify_assertion(self, form: dict[str, str]) -> ServiceAccount:
        """Verify a token request.

        Raises:
            ValueError: why Google would not grant it.
        """
        if form.get("grant_type") != _GRANT:
            raise ValueError(f"grant_type must be {_GRANT}")
        assertion = form.get("assertion", "")
        try:
            account = self._accounts.get(str(jwt.get_unverified_header(assertion).get("kid")))
            if account is None:
                raise ValueError("kid names no key")
            claims = jwt.decode(
                assertion,
                account.public_key,
                algorithms=["RS256"],
                audience=[self.token_url, _GOOGLE_TOKEN_URL],
                issuer=account.email,
                options={"require": ["iss", "aud", "iat", "exp"]},
            )
        except jwt.InvalidTokenError as error:
            raise ValueError(str(error)) from None
        if claims["exp"] - claims["iat"] > _LONGEST_ASSERTION:
            raise ValueError("exp is more than an hour after iat")
        if not _SCOPES & set(str(claims.get("scope", "")).split()):
            raise ValueError("scope must include firebase.messaging")
        return account

    @override
    def check(self, request: web.Request, body: bytes) -> Arrival:
        document = parse_object(body) or {}
        message = document.get("message")
        arrival = Arrival(content=document or None, context=request.match_info["project"])
        if isinstance(message, dict):
            arrival.target = str(message.get("fid") or message.get("token") or "")
            arrival.id = _repeat_id(message)
        if not self.verify:
            return arrival
        if problem := self._authorization_problem(request):
            status, text = problem
            arrival.problems.append(text)
            arrival.refusal = _front_refusal(status, text)
        violations = message_problems(document)
        if not is_media_type(request.headers.get("Content-Type", ""), "application/json"):
            violations.insert(0, ("", "Content-Type must be application/json"))
        arrival.problems += [f"{where}: {what}" for where, what in violations]
        if violations:
            arrival.refusal = arrival.refusal or _invalid(violations)
        elif not _REGISTRATION_TOKEN.fullmatch(arrival.target):
            field = "message.fid" if "fid" in document["message"] else "message.token"
            arrival.problems.append(f"{field}: {_UNKNOWN_DEVICE}")
            arrival.refusal = arrival.refusal or _invalid([(field, _UNKNOWN_DEVICE)], fcm_error=True)
        elif (size := message_size(document["message"])) > LARGEST_MESSAGE:
            text = f"Message is too big: {size} bytes, at most {LARGEST_MESSAGE}"
            arrival.problems.append(f"message: {text}")
            arrival.refusal = arrival.refusal or _invalid([("message", text)], fcm_error=True)
        return arrival

    def _authorization_problem(self, request: web.Request) -> tuple[int, str] | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        project, end = self._granted.get(token, ("", 0.0))
        if scheme.lower() != "bearer" or time.monotonic() >= end:
            return 401, "Request had invalid authentication credentials. Expected OAuth 2 access token"
        if project != request.match_info["project"]:
            return 403, "Permission 'cloudmessaging.messages.create' denied on the project"
        return None

    @override
    def accept(self, arrival: Arrival) -> Reply:
        project = arrival.context
        name = f"projects/{project}/messages/0:{time.time_ns() // 1000}%{secrets.token_hex(8)}"
        return Reply(
            200,
            orjson.dumps({"name": name}),
            {"Content-Type": "application/json; charset=UTF-8"},
            provider_id=name,
        )

    @override
    def refuse(self, status: int, reason: str | None, arrival: Arrival) -> Reply:  # errors name no message
        """The JSON error of FCM (with its FcmError) or, for an unknown or absent code, of Google's front."""
        code = reason or _USUAL_CODE.get(status)
        if code not in _RPC_STATUS:
            return _front_refusal(status, code or "The service is currently unavailable.")
        details: list[dict[str, Any]] = [{"@type": _FCM_ERROR, "errorCode": code}]
        if code == "INVALID_ARGUMENT":
            details.append(_bad_request([("message.token", _UNKNOWN_DEVICE)]))
        return _error(status, f"Ordered: {code}", _RPC_STATUS[code], details, reason=code)


def _repeat_id(message: dict[str, Any]) -> str:
    """What a repeat of the message carries again: the tag or collapse key on Android."""
    android = message.get("android")
    if not isinstance(android, dict):
        return ""
    notification = android.get("notification")
    tag = notification.get("tag") if isinstance(notification, dict) else None
    return str(tag or android.get("collapse_key") or "")


def _error(status: int, text: str, rpc_status: str, details: list[dict[str, Any]], reason: str = "") -> Reply:
    error: dict[str, Any] = {"code": status, "message": text, "status": rpc_status}
    if details:
        error["details"] = details
    headers = {"Content-Type": "application/json; charset=UTF-8"}
    return Reply(status, orjson.dumps({"error": error}), headers, reason=reason or rpc_status)


def _front_refusal(status: int, text: str) -> Reply:
    return _error(status, text, _FRONT_STATUS.get(status, "UNKNOWN"), [])


def _invalid(violations: list[tuple[str, str]], *, fcm_error: bool = False) -> Reply:
    """400 with field violations; FCM's own objections carry an FcmError as well, the API front's don't."""
    details: list[dict[str, Any]] = (
        [{"@type": _FCM_ERROR, "errorCode": "INVALID_ARGUMENT"}] if fcm_error else []
    )
    details.append(_bad_request(violations))
    return _error(400, violations[0][1], "INVALID_ARGUMENT", details)


def _bad_request(violations: list[tuple[str, str]]) -> dict[str, Any]:
    fields = [{"field": where, "description": what} for where, what in violations]
    return {"@type": _BAD_REQUEST, "fieldViolations": fields}
