"""What is wrong with a configuration, and one with TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from holon.config import Config
from holon.errors import ConfigError
from holon.security import certificates

LONG_TOKEN = "t" * 32


def reasons(config: Config) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        config.check()
    found = {violation.field: violation.reason for violation in caught.value.details}
    for field, reason in found.items():
        assert f"{field}: {reason}" in str(caught.value)
    return found


def tls(folder: Path) -> dict[str, str]:
    authority = certificates.open_authority(folder)
    pair = certificates.issue_server(authority, folder)
    return {
        "TLS_CERT_PATH": str(pair.certificate),
        "TLS_KEY_PATH": str(pair.key),
        "TLS_CA_PATH": str(authority.files.certificate),
    }
