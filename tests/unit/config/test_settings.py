"""Settings: a wrong value stops the start with one line that names it; the right ones take their place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from pydantic import ValidationError

from config import SettingsError, get_settings, load_settings
from config.settings import Settings
from tests.support.database import KEY

if TYPE_CHECKING:
    from pathlib import Path

OTHER_KEY = Fernet.generate_key().decode()


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("TOCSIN_"):
            monkeypatch.delenv(name)


def test_the_defaults_are_the_embedded_ones() -> None:
    settings = load_settings()

    assert settings.is_sqlite
    assert str(settings.sqlite_path) == "tocsin.db"
    assert settings.broker_url.get_secret_value() == "memory://"
    assert settings.critical_severity == 4
    assert settings.max_retries == 3


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("database_url", "mysql://u:p@h/db", "sqlite:///FILE or postgresql://"),
        ("database_url", "sqlite://", "sqlite:///FILE"),
        ("database_url", "sqlite:///:memory:", "sqlite:///FILE"),
        ("database_url", "sqlite://data/tocsin.db", "sqlite:///FILE"),
        ("database_url", "sqlite:///tocsin.db?mode=ro", "sqlite:///FILE"),
        ("database_url", "postgresql://u:p@h", "postgresql://USER"),
        ("database_url", "postgresql:///db", "postgresql://USER"),
        ("database_url", "postgresql://u:hunter2@h:port/db", "postgresql://USER"),
        ("database_url", "postgresql://u:hunter2@h:99999/db", "postgresql://USER"),
        ("database_url", "postgresql://u:hunter2@h\u2100/db", "postgresql://USER"),
        ("database_url", "postgresql://u:hunter2@[::1/db", "postgresql://USER"),
        ("database_url", "postgresql://u:hunter2@h/db?ssl_mode=require", "parameters of libpq"),
        ("database_url", "postgresql://u@h/db?database=hunter2", "parameters of libpq"),
        ("database_url", "postgresql://u@h/db?dsn=hunter2", "parameters of libpq"),
        ("database_pool", "0", "greater than or equal to 1"),
        ("database_pool", "many", "integer"),
        ("broker_url", "redis://h", "memory:// or amqp(s)://"),
        ("broker_url", "amqp://h:5672;memory://", "memory:// or amqp(s)://"),
        ("broker_url", "amqp://u:hunter2@h:0", "memory:// or amqp(s)://"),
        ("broker_url", "amqp://", "memory:// or amqp(s)://"),
        ("broker_url", " ; ", "memory:// or amqp(s)://"),
        ("broker_url", "amqp://u:hunter2@h/?heartbeat=abc", "parameters of pika"),
        ("broker_url", "amqp://h;amqp://u:hunter2@h/?heartbeats=5", "parameters of pika"),
        ("broker_url", "amqps://u:hunter2@h/?ssl_options=1", "parameters of pika"),
        ("broker_url", "amqps://h/?ssl_options={'cafile':'no/such/hunter2'}", "parameters of pika"),
        ("queue_type", "stream", "'classic' or 'quorum'"),
        ("secret_keys", "hunter2", "Fernet keys"),
        ("secret_keys", f"{KEY},hunter2", "Fernet keys"),
        ("allowed_networks", "10.0.0.0/33", "'10.0.0.0/33' is no network"),
        ("allowed_networks", "10.0.0.1/8", "'10.0.0.1/8' is no network"),
        ("allowed_networks", "10.0.0.0/8, fd00::1/8", "'fd00::1/8' is no network; one looks like"),
        ("critical_severity", "-1", "greater than or equal to 0"),
        ("trust_env", "perhaps", "boolean"),
        ("apns_key_file", "no/such/file.p8", "file that exists"),
        ("apns_topic", "com.example.app\n", "^[A-Za-z0-9.-]{1,255}$"),
        ("apns_topic", "Example App", "^[A-Za-z0-9.-]{1,255}$"),
        ("apns_port", "65536", "less than or equal to 65535"),
        ("fcm_url", "ftp://example.org", "must be http(s)://"),
        ("fcm_url", "fcm.googleapis.com", "must be http(s)://"),
        ("vapid_subject", "me@example.org", "mailto:"),
        ("smtp_url", "http://mail.example.org", "smtp(s)://"),
        ("smtp_url", "smtp://u:hunter2@mail.example.org:x", "smtp(s)://"),
        ("send_deadline", "0", "greater than 0"),
        ("send_deadline", "nan", "less than or equal to"),
        ("lease", "inf", "less than or equal to"),
        ("expiry_info", "1e300", "less than or equal to"),
        ("max_retries", "1000", "less than or equal to 100"),
        ("retry_min_backoff", "soon", "number"),
        ("device_invalid_hook", "package.module.function", "package.module:function"),
        ("metrics_port", "-1", "greater than or equal to 0"),
        ("log_format", "xml", "'console' or 'json'"),
        ("log_level", "loud", "'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_wrong_value_gives_one_line_that_names_the_setting_and_never_a_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, rule: str
) -> None:
    monkeypatch.setenv(f"TOCSIN_{name.upper()}", value)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    text = str(caught.value)
    assert text.startswith(f"TOCSIN_{name.upper()}: ")
    assert rule in text
    assert "\n" not in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"send_deadline": 45}, "TOCSIN_SEND_DEADLINE < TOCSIN_TIME_LIMIT"),
        ({"time_limit": 60}, "TOCSIN_TIME_LIMIT < TOCSIN_LEASE"),
        ({"retry_min_backoff": 601}, "TOCSIN_RETRY_MIN_BACKOFF"),
        ({"database_url": "postgresql://u:p@h/db"}, "TOCSIN_SECRET_KEYS: required with PostgreSQL"),
    ],
)
def test_what_takes_two_settings_to_see_is_seen(overrides: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load_settings(**overrides)


def test_postgresql_with_keys_is_taken() -> None:
    settings = load_settings(database_url="postgresql://u:p@h/db", secret_keys=f"{KEY}, {OTHER_KEY}")

    assert not settings.is_sqlite
    assert [key.get_secret_value() for key in settings.secret_keys] == [KEY, OTHER_KEY]


def test_urls_may_have_parameters_that_their_drivers_know() -> None:
    database = "postgresql://u:p@h/db?sslmode=require&application_name=ours"
    broker = "amqp://h/?heartbeat=20;amqps://h/a%2Fb?tcp_options={'TCP_KEEPIDLE':60}"
    settings = load_settings(database_url=database, broker_url=broker, secret_keys=KEY)

    assert settings.database_url.get_secret_value() == database
    assert settings.broker_url.get_secret_value() == broker
    spaced = load_settings(broker_url=broker.replace(";", " ; ") + ";")
    assert spaced.broker_url == settings.broker_url


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///tocsin.db", "tocsin.db"),
        ("sqlite:////var/lib/tocsin.db", "/var/lib/tocsin.db"),
        ("sqlite:///a%20b/tocsin.db", "a b/tocsin.db"),
    ],
)
def test_the_path_of_an_sqlite_url(url: str, path: str) -> None:
    assert str(load_settings(database_url=url).sqlite_path) == path


@pytest.mark.parametrize("text", ["10.0.0.0/8 ::1/128", "10.0.0.0/8,::1/128", "10.0.0.0/8 ; ::1/128"])
def test_lists_are_separated_by_space_comma_or_semicolon(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TOCSIN_ALLOWED_NETWORKS", text)

    assert [str(network) for network in load_settings().allowed_networks] == ["10.0.0.0/8", "::1/128"]


@pytest.mark.parametrize("name", ["allowed_networks", "secret_keys"])
@pytest.mark.parametrize("text", [" ", ",", "\n"])
def test_a_list_without_words_is_empty(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"TOCSIN_{name.upper()}", text)

    assert getattr(load_settings(), name) == ()


def test_a_separator_at_an_end_is_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_ALLOWED_NETWORKS", "10.0.0.0/8,")

    assert [str(network) for network in load_settings().allowed_networks] == ["10.0.0.0/8"]


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_APNS_KEY_FILE", "")
    monkeypatch.setenv("TOCSIN_DATABASE_POOL", "")

    settings = load_settings()

    assert settings.apns_key_file is None
    assert settings.database_pool == 20


def _config(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    file = folder / "tocsin.toml"
    file.write_text(text, encoding="utf-8")
    monkeypatch.setenv("TOCSIN_CONFIG", str(file))


def test_the_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _config(
        monkeypatch,
        tmp_path,
        'max_retries = 7\nlease = 90.5\nallowed_networks = ["10.0.0.0/8"]\nlog_level = "debug"',
    )
    monkeypatch.setenv("TOCSIN_MAX_RETRIES", "1")

    settings = load_settings(log_level="error")

    assert settings.max_retries == 1
    assert settings.lease == 90.5
    assert [str(network) for network in settings.allowed_networks] == ["10.0.0.0/8"]
    assert settings.log_level == "error"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("max_retry = 7", "TOCSIN_CONFIG: FILE: 'max_retry': no such setting"),
        ("TOCSIN_Max_Retry = 7", "TOCSIN_CONFIG: FILE: 'TOCSIN_Max_Retry': no such setting"),
        ("[database]\nurl = 'x'", "TOCSIN_CONFIG: FILE: 'database': no such setting"),
        ("lease = 70\nTOCSIN_LEASE = 70", "TOCSIN_CONFIG: FILE: 'TOCSIN_LEASE': is there twice"),
        ("max_retries = true\ndatabase_url = 5", "TOCSIN_DATABASE_URL: "),
        ("max_retries = ", "TOCSIN_CONFIG: "),
        ("allowed_networks = 5", "TOCSIN_ALLOWED_NETWORKS: "),
        ("allowed_networks = [5]", "TOCSIN_ALLOWED_NETWORKS: '5' is no network"),
    ],
)
def test_a_wrong_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, line: str
) -> None:
    _config(monkeypatch, tmp_path, text)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert str(caught.value).startswith(line.replace("FILE", str(tmp_path / "tocsin.toml")))
    assert "\n" not in str(caught.value)


def test_the_file_may_call_settings_as_the_environment_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _config(
        monkeypatch, tmp_path, 'TOCSIN_DATABASE_URL = "sqlite:///x.db"\ntocsin_lease = 70\nMax_Retries = 7'
    )

    settings = load_settings()

    assert (str(settings.sqlite_path), settings.lease, settings.max_retries) == ("x.db", 70, 7)


def test_words_of_the_log_may_be_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_LOG_LEVEL", "INFO")
    monkeypatch.setenv("TOCSIN_LOG_FORMAT", "Json")

    settings = load_settings()

    assert (settings.log_level, settings.log_format) == ("info", "json")


def test_a_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOCSIN_CONFIG", str(tmp_path / "missing.toml"))
    with pytest.raises(SettingsError, match=r"^TOCSIN_CONFIG: .*missing\.toml"):
        load_settings()

    (tmp_path / "latin.toml").write_bytes(b'mail_from = "\xe4"')
    monkeypatch.setenv("TOCSIN_CONFIG", str(tmp_path / "latin.toml"))
    with pytest.raises(SettingsError, match=r"^TOCSIN_CONFIG: .*latin\.toml"):
        load_settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().max_retries = 5


def test_no_secret_is_in_the_repr() -> None:
    settings = load_settings(
        database_url="postgresql://u:hunter2@h/db",
        broker_url="amqp://u:hunter2@h",
        smtp_url="smtp://u:hunter2@h",
        secret_keys=KEY,
    )

    assert "hunter2" not in repr(settings)
    assert KEY not in repr(settings)


def test_every_setting_can_be_given_by_its_own_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No setting is beyond the environment's reach: each takes a value that is not its default."""
    file = tmp_path / "file"
    file.touch()
    given = {
        "database_url": "sqlite:///other.db",
        "broker_url": "amqp://h",
        "secret_keys": KEY,
        "queue_type": "quorum",
        "allowed_networks": "::1/128",
        "fcm_url": "http://localhost:1",
        "smtp_url": "smtp://h",
        "vapid_subject": "mailto:a@example.org",
        "device_invalid_hook": "a.b:c",
        "log_format": "json",
        "log_level": "error",
        "metrics_host": "::1",
        "time_limit": "46",
        "send_deadline": "16",
        "lease": "61",
    }
    for name, field in Settings.model_fields.items():
        text = given.get(name)
        if text is None:
            text = str(file) if name.endswith("_file") else "1" if field.default in {False, None} else "99"
        monkeypatch.setenv(f"TOCSIN_{name.upper()}", text)

    settings = load_settings()

    assert not [
        name for name, field in Settings.model_fields.items() if getattr(settings, name) == field.default
    ]


def test_a_process_reads_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    get_settings.cache_clear()
    try:
        first = get_settings()
        monkeypatch.setenv("TOCSIN_MAX_RETRIES", "9")
        assert get_settings() is first
    finally:
        get_settings.cache_clear()
