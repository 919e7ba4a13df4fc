"""What a client of a plaintext door trusts: nobody. Else httpx reads all of the world's authorities for each client."""

from __future__ import annotations

import ssl

PLAINTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
