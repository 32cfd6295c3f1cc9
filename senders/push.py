"""The config of a push channel: whose devices, and credentials of its own where a tenant brings them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from config.settings import BUNDLE_ID
from senders.base import ChannelConfig


class _Credentials(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ApnsCredentials(_Credentials):
    """A token-signing key of Apple's developer portal. `key` is the text of the .p8 file."""

    key: SecretStr
    key_id: str = Field(pattern=r"^[A-Za-z0-9]{10}$")
    team_id: str = Field(pattern=r"^[A-Za-z0-9]{10}$")
    topic: str = Field(pattern=BUNDLE_ID, description="the app's bundle id")
    sandbox: bool = False


class FcmCredentials(_Credentials):
    """A Firebase service account. `service_account` is the text of its JSON file."""

    service_account: SecretStr


class WebPushCredentials(_Credentials):
    """A VAPID key pair (RFC 8292). `private_key` is PEM text; `subject` is mailto: or https:."""

    private_key: SecretStr
    subject: str = Field(pattern=r"^(mailto:.+@.+|https://.+)$")


class PushConfig(ChannelConfig):
    """A channel of type push: every device of these users, or of all users of the tenant."""

    user_ids: tuple[Annotated[str, Field(min_length=1, max_length=255)], ...] = ()
    all_users: bool = False
    apns: ApnsCredentials | None = None
    fcm: FcmCredentials | None = None
    webpush: WebPushCredentials | None = None

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.user_ids and not self.all_users:
            raise ValueError("give user_ids, or all_users: true")
        return self
