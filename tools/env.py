"""Write .env with fresh random secrets, for docker-compose.yml.

Every variable that .env.example leaves empty is filled: with a Fernet key where the name ends in SECRET_KEYS,
with 32 random bytes in hexadecimal (safe inside a URL) elsewhere. An existing .env is never touched: what is
encrypted with its keys could not be read any more.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import sys
from pathlib import Path

MODE = 0o600  # secrets: for their owner alone


def fill(example: str) -> str:
    """The text of .env.example with a fresh secret for each variable that is empty."""
    return re.sub(r"^(\w+)=$", lambda line: f"{line[1]}={_secret(line[1])}", example, flags=re.MULTILINE)


def write(directory: Path) -> Path:
    """Write `.env` beside `.env.example`, mode 600.

    Raises:
        FileExistsError: there is one already.
    """
    path = directory / ".env"
    text = fill((directory / ".env.example").read_text(encoding="utf-8"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _secret(name: str) -> str:
    if name.endswith("SECRET_KEYS"):
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_hex(32)


def main() -> None:
    """Write .env into the current directory, or say why not."""
    try:
        path = write(Path.cwd())
    except FileExistsError:
        sys.exit(
            ".env exists and is left alone: the database and what is encrypted in it need its secrets.\n"
            "To begin anew: docker compose down --volumes && rm .env && make env"
        )
    sys.stdout.write(f"{path.name} written, mode 600. Keep a copy: what is encrypted needs it.\n")


if __name__ == "__main__":
    main()
