"""What Python's own TLS serves with: a context made of credentials in memory, never of files that may have changed."""

from __future__ import annotations

import os
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# All of TLS 1.3's are; of 1.2's only these: authenticated encryption, and keys that no later theft reveals.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def server_context(chain: bytes, key: bytes, authorities: bytes | None) -> ssl.SSLContext:
    """A server's context: TLS 1.2 and 1.3, without tickets and renegotiation.

    Arguments:
        chain: the certificate and its intermediates, PEM.
        key: its private key, PEM.
        authorities: who signs the certificates that callers must present, PEM; None asks for none.
    Raises:
        ssl.SSLError: OpenSSL does not take them, such as a key that is too short.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    # Without tickets, a session can be taken up again only while this context serves, and so its authorities.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    with _in_memory(chain + b"\n" + key) as path:
        context.load_cert_chain(path, password=_no_passphrase)
    if authorities is not None:
        context.load_verify_locations(cadata=authorities.decode("ascii", "ignore"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_passphrase() -> str:
    # Else OpenSSL would ask whoever sits at the terminal.
    return ""


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A path of a file without a name, as the context reads files alone: nothing of a key is left anywhere."""
    if sys.platform == "linux":
        with os.fdopen(os.memfd_create("tls"), "wb") as file:
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            file.seek(0)
            yield f"/dev/fd/{file.fileno()}"
