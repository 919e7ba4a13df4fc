"""Secrets of a store: random bytes that all its nodes share, made once and kept in the store."""

from __future__ import annotations

import asyncio
import logging
import secrets

from holon.errors import StoreUnavailable
from holon.ports import Change, Document, Shared, change_document, place_of
from holon.security.sts.sealing import Sealer

log = logging.getLogger(__name__)

KIND = "secrets"
SECRET_BYTES = 32
# Well within the day for which a former encryption key is kept beside the new one.
LOOK_EVERY_S = 3_600.0


class StoreSecrets:
    """Reads the secrets of a store, and makes those that are missing.

    Where there is an encryption key, a secret is sealed with it. After a change of keys it is sealed with the new one.

    Arguments:
        store: where the secrets are.
        sealer: what seals them.
    """

    def __init__(self, store: Shared, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer
        self._names: set[str] = set()

    def __repr__(self) -> str:
        return f"StoreSecrets({', '.join(sorted(self._names))})"

    async def secret(self, name: str) -> bytes:
        """The secret of this name: SECRET_BYTES bytes, the same at every node.

        Raises:
            StoreUnavailable: the store is away, or the secret was sealed with a key that this node lacks.
        """
        place = place_of(KIND, name)

        def change(stored: Document | None) -> tuple[bytes, Change | None]:
            # As text: random bytes could begin as a sealed record does.
            text = secrets.token_hex(SECRET_BYTES).encode()
            if stored is not None:
                text = self._sealer.open(*place, stored.value)
            secret = bytes.fromhex(text.decode())
            if stored is not None and not self._is_due(stored.value, text):
                return secret, None
            return secret, Change(self._sealer.seal(*place, text))

        found = await change_document(self._store, KIND, name, change)
        self._names.add(name)
        return found

    async def run(self) -> None:
        """Seal the secrets with the newest key, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                for name in self._names.copy():
                    await self.secret(name)
            except StoreUnavailable as error:
                log.warning("the secrets in the store cannot be read: %s", error.message)

    def _is_due(self, stored: bytes, text: bytes) -> bool:
        """Whether it is to be sealed anew: it was sealed with a former key, or stored before there was any."""
        return self._sealer.outdated(stored) or (stored == text and self._sealer.on)
