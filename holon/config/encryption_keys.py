"""ENCRYPTION_KEY and ENCRYPTION_KEY_FILE: the keys that what is stored is sealed with."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Protocol

from holon.errors import ConfigError, Violation
from holon.files import read_private

KEY_BYTES = 32
MAX_KEYS = 100


class Settings(Protocol):
    """What is read of the settings."""

    ENCRYPTION_KEY: str
    ENCRYPTION_KEY_FILE: str
    SECRETS_MOUNTED: bool


def read_keys(settings: Settings) -> tuple[bytes, ...]:
    """The keys that the settings name: the first seals, and all of them open; none: nothing is sealed.

    Blocks for the read.

    Raises:
        ConfigError: they cannot be read, or are none; the message never shows one.
    """
    if settings.ENCRYPTION_KEY and settings.ENCRYPTION_KEY_FILE:
        raise _wrong(
            "ENCRYPTION_KEY_FILE", "is set together with ENCRYPTION_KEY; put that key into the file, and unset it"
        )
    try:
        if settings.ENCRYPTION_KEY:
            return (_key(settings.ENCRYPTION_KEY),)
    except ValueError as error:
        raise _wrong("ENCRYPTION_KEY", str(error)) from None
    path = settings.ENCRYPTION_KEY_FILE
    if not path:
        return ()
    try:
        return _keys(path, read_private(path, mounted=settings.SECRETS_MOUNTED))
    except ValueError as error:
        raise _wrong("ENCRYPTION_KEY_FILE", str(error)) from None


def _keys(path: str, content: bytes) -> tuple[bytes, ...]:
    keys: list[bytes] = []
    # What is no ASCII is no key either, and is told with its line.
    for number, line in enumerate(content.decode("ascii", "replace").splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            keys.append(_key(text))
        except ValueError as error:
            raise ValueError(f"{path} line {number} {error}") from None
    if not keys:
        raise ValueError(f"{path} has no key; `holon keys new` makes one")
    if len(keys) > MAX_KEYS:
        raise ValueError(f"{path} has {len(keys)} keys, over the limit of {MAX_KEYS}; remove the oldest")
    if len(set(keys)) < len(keys):
        raise ValueError(f"{path} has the same key twice; remove one")
    return tuple(keys)


def _key(text: str) -> bytes:
    try:
        key = b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"is not a key (base64 of {KEY_BYTES} random bytes); `holon keys new` makes one")
    if len(set(key)) < KEY_BYTES // 4:
        raise ValueError("is not random; `holon keys new` makes a key")
    return key


def _wrong(name: str, reason: str) -> ConfigError:
    return ConfigError(f"{name}: {reason}", details=[Violation(name, reason)])
