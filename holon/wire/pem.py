"""The wire: whether TLS files can be used to connect; gRPC finds out only when it does, and blames the other side."""

from __future__ import annotations

import ssl
from pathlib import Path

# What OpenSSL says of a key of another kind, and of another of the same kind.
_OF_ANOTHER = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


def certificates_problem(path: Path) -> str | None:
    """Why the certificates in a file cannot be used; None: they can be. Blocks for the read.

    Raises:
        OSError: it cannot be read.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return f"{path} holds no readable certificate (PEM)"
    return None


def key_problem(key: Path, certificate: Path) -> str | None:
    """Why a file has not the key of the certificate in another, a good one; None: it has. Blocks for the reads.

    Raises:
        OSError: one cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # How strong they must be is the node's to say.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    try:
        # Without one, OpenSSL would ask whoever sits at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason in _OF_ANOTHER:
            return f"{key} is not the key of the certificate in {certificate}"
        return f"{key} holds no readable private key (PEM, without a passphrase)"
    return None
