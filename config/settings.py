"""Settings: read once, frozen, validated at start, documented here.

Every setting is an environment variable `TOCSIN_<NAME>`, or the key `<name>` of the TOML file that
`TOCSIN_CONFIG` names, where it may also have the variable's name; the environment wins. A wrong value stops
the start with one line that names the setting and what it may be.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from cryptography.fernet import Fernet
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "TOCSIN_"

BUNDLE_ID = r"^[A-Za-z0-9.-]{1,255}$"
"""Of an app (https://developer.apple.com/documentation/bundleresources/information-property-list/cfbundleidentifier)."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class SettingsError(Exception):
    """A setting is missing or wrong. The text is one line a person can act on."""


def _words(value: Any) -> Any:
    """Split "a, b;c d" into its words: how lists are written in an environment variable."""
    return [word for word in re.split(r"[\s,;]+", value) if word] if isinstance(value, str) else value or []


def _network(value: Any) -> Network:
    text = str(value)
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no network; one looks like 10.0.0.0/8, 192.168.1.20 or fd00::/8, with no bit set behind "
            "the prefix"
        ) from None


def _scheme(url: str) -> str | None:
    """The scheme of a URL that is whole: with a host and a possible port or, for sqlite, a file alone."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text may quote the password
        return None
    path = parts.path.strip("/")
    if parts.scheme == "sqlite":
        # Anything else would be dropped in silence; each connection to :memory: has its own database.
        is_whole = path not in {"", ":memory:"} and not (parts.netloc or parts.query or parts.fragment)
    else:
        is_whole = bool(parts.hostname) and port != 0
        if parts.scheme in {"postgresql", "postgres"}:
            is_whole = is_whole and path != ""
    return parts.scheme if is_whole else None


def _database_url(value: SecretStr) -> SecretStr:
    if _scheme(value.get_secret_value()) not in {"sqlite", "postgresql", "postgres"}:
        raise ValueError("must be sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    given = dict(parse_qsl(urlsplit(value.get_secret_value()).query))
    if given:
        import psycopg2.extensions  # noqa: PLC0415  # the embedded default need not wait for it

        try:
            psycopg2.extensions.make_dsn(None, dbname="ours", **given)
        except (
            psycopg2.ProgrammingError,
            TypeError,
        ):  # the latter: one that is no parameter but the driver's own
            raise ValueError(
                "what follows the ? must be parameters of libpq, such as sslmode=require: "
                "https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS"
            ) from None
    return value


def _broker_url(value: SecretStr) -> SecretStr:
    urls = [url.strip() for url in value.get_secret_value().split(";") if url.strip()]
    if urls != ["memory://"] and ({_scheme(url) for url in urls} or {""}) - {"amqp", "amqps"}:
        rule = "must be memory:// or amqp(s)://USER:PASSWORD@HOST:PORT/VHOST, several separated by ;"
        raise ValueError(rule)
    for url in urls:
        if urlsplit(url).query:
            import pika  # noqa: PLC0415  # as above

            try:
                pika.URLParameters(url)
            except Exception:  # noqa: BLE001  # values may be Python literals, and fail as whatever is done with them does
                raise ValueError(
                    "what follows the ? must be parameters of pika, with values that it takes: "
                    "https://pika.readthedocs.io/en/stable/modules/parameters.html"
                ) from None
    return SecretStr(";".join(urls))


def _fernet_keys(values: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for value in values:
        try:
            Fernet(value.get_secret_value())
        except ValueError:
            raise ValueError(
                "must be Fernet keys (32 bytes in url-safe base64), newest first; "
                "`tocsin rotate-keys --generate` prints a new one"
            ) from None
    return values


def _existing_file(value: Path) -> Path:
    if not value.is_file():
        raise ValueError("must name a file that exists and can be read")
    return value


def _smtp_url(value: SecretStr) -> SecretStr:
    if _scheme(value.get_secret_value()) not in {"smtp", "smtps"}:
        raise ValueError("must be smtp(s)://USER:PASSWORD@HOST:PORT")
    return value


def _http_url(value: str) -> str:
    if _scheme(value) not in {"http", "https"}:
        raise ValueError("must be http(s)://HOST:PORT")
    return value


def _dotted_callable(value: str) -> str:
    if not re.fullmatch(r"[\w.]+:\w+", value):
        raise ValueError("must be package.module:function")
    return value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


ExistingFile = Annotated[Path, AfterValidator(_existing_file)]
#: Up to a year: what is longer is a slip, and what is endless no calendar can hold.
Seconds = Annotated[float, Field(gt=0, le=366 * 24 * 3600)]


class Settings(BaseSettings):
    """Everything a deployment may decide. Durations are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    # Where things are kept and queued.
    database_url: Annotated[SecretStr, AfterValidator(_database_url)] = SecretStr("sqlite:///tocsin.db")
    database_pool: int = Field(default=20, ge=1, le=1000)
    broker_url: Annotated[SecretStr, AfterValidator(_broker_url)] = SecretStr("memory://")
    queue_type: Literal["classic", "quorum"] = "classic"
    secret_keys: Annotated[
        tuple[SecretStr, ...], NoDecode, BeforeValidator(_words), AfterValidator(_fernet_keys)
    ] = ()

    # What may be reached, and what counts as critical.
    allowed_networks: Annotated[
        tuple[Annotated[Network, BeforeValidator(_network)], ...], NoDecode, BeforeValidator(_words)
    ] = ()
    critical_severity: int = Field(default=4, ge=0)
    trust_env: bool = Field(default=False, description="let outbound HTTP use the proxy variables")

    # Providers.
    apns_key_file: ExistingFile | None = None
    apns_key_id: str | None = None
    apns_team_id: str | None = None
    apns_topic: Annotated[str, Field(pattern=BUNDLE_ID)] | None = None
    apns_sandbox: bool = False
    apns_host: str | None = None
    apns_port: int = Field(default=443, ge=1, le=65535)
    apns_ca_file: ExistingFile | None = None
    fcm_credentials_file: ExistingFile | None = None
    fcm_url: Annotated[str, AfterValidator(_http_url)] = "https://fcm.googleapis.com"
    vapid_private_key_file: ExistingFile | None = None
    vapid_subject: Annotated[str, Field(pattern=r"^(mailto:.+@.+|https://.+)$")] | None = None
    smtp_url: Annotated[SecretStr, AfterValidator(_smtp_url)] | None = None
    mail_from: str | None = None

    # Pace. Shorter than the next: send_deadline < time_limit < lease.
    send_deadline: Seconds = Field(default=15, description="one attempt at one target, all told")
    time_limit: Seconds = Field(default=45, description="one message of the queue")
    lease: Seconds = Field(default=60, description="how long a claimed delivery is a worker's own")
    max_retries: int = Field(default=3, ge=0, le=100)
    retry_min_backoff: Seconds = 5
    retry_max_backoff: Seconds = 600
    sweep_interval: Seconds = 5
    sweep_grace: Seconds = Field(default=60, description="how long a message may wait in its queue")
    sweep_grace_idle: Seconds = Field(default=5, description="the same while that queue is empty")
    expiry_info: Seconds = 3600
    expiry_warning: Seconds = 4 * 3600
    expiry_error: Seconds = 12 * 3600
    expiry_critical: Seconds = 24 * 3600
    device_invalid_hook: Annotated[str, AfterValidator(_dotted_callable)] | None = None

    # What is seen.
    metrics_user_label: bool = False
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=9191, ge=0, le=65535, description="0 serves none")
    log_format: Annotated[Literal["console", "json"] | None, BeforeValidator(_lower)] = None
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"

    def model_post_init(self, _context: Any) -> None:
        """Check what takes more than one setting to see."""
        if not self.send_deadline < self.time_limit < self.lease:
            raise SettingsError("TOCSIN_SEND_DEADLINE < TOCSIN_TIME_LIMIT < TOCSIN_LEASE must hold")
        if self.retry_min_backoff > self.retry_max_backoff:
            raise SettingsError("TOCSIN_RETRY_MIN_BACKOFF must not exceed TOCSIN_RETRY_MAX_BACKOFF")
        if not self.is_sqlite and not self.secret_keys:
            raise SettingsError(
                "TOCSIN_SECRET_KEYS: required with PostgreSQL, every process needs the same keys; "
                "`tocsin rotate-keys --generate` prints one"
            )

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is the embedded one."""
        return urlsplit(self.database_url.get_secret_value()).scheme == "sqlite"

    @property
    def sqlite_path(self) -> Path:
        """The SQLite file: `sqlite:///tocsin.db` is relative, `sqlite:////var/tocsin.db` absolute."""
        return Path(unquote(urlsplit(self.database_url.get_secret_value()).path.removeprefix("/")))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # no .env files: they surprise
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the TOML file, then the defaults."""
        return init_settings, env_settings, _TomlFile(settings_cls)


class _TomlFile(PydanticBaseSettingsSource):
    """The file that TOCSIN_CONFIG names, if any: its keys are settings, with the prefix or without, in any case."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        path = os.environ.get("TOCSIN_CONFIG")
        if not path:
            return {}
        try:
            given = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"TOCSIN_CONFIG: {path}: {error}") from None
        found: dict[str, Any] = {}
        for key, value in given.items():
            name = key.lower().removeprefix(PREFIX.lower())
            if name not in self.settings_cls.model_fields:
                raise SettingsError(f"TOCSIN_CONFIG: {path}: {key!r}: no such setting")
            if name in found:
                raise SettingsError(f"TOCSIN_CONFIG: {path}: {key!r}: is there twice, in two spellings")
            found[name] = value
        return found


def load_settings(**overrides: Any) -> Settings:
    """Read and validate the settings.

    Args:
        overrides: values that win over the environment and the file.

    Raises:
        SettingsError: one line that names the first wrong setting and what it may be.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        rule = (
            "no such setting"
            if first["type"] == "extra_forbidden"
            else first["msg"].removeprefix("Value error, ")
        )
        raise SettingsError(f"{name}: {rule}") from None


@functools.cache
def get_settings() -> Settings:
    """The settings of this process, read at the first call."""
    return load_settings()
