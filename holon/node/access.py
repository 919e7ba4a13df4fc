"""Who may come in, as the settings and their files say; and how those files are read again."""

from __future__ import annotations

from functools import partial

from holon.config import Config
from holon.engine.reloading import Changes, Part
from holon.security.clients import Clients, Entry, sole
from holon.security.clients_file import Wanted, read_clients
from holon.security.tokens import digest_of


def client_entries(config: Config) -> list[Entry]:
    """Every client of a node: those of CLIENTS_CONFIG_PATH, and that of CLIENT_TOKEN. Blocks for the read.

    Raises:
        ConfigError: the file is bad.
    """
    own = sole(config.CLIENT_TOKEN)
    if not config.CLIENTS_CONFIG_PATH:
        return own
    wanted = Wanted(
        exposed=config.exposes_clients,
        mounted=config.SECRETS_MOUNTED,
        taken=frozenset({digest_of(config.CLIENT_TOKEN)} if own else ()),
        names=frozenset(entry.client.name for entry in own),
    )
    return [*own, *read_clients(config.CLIENTS_CONFIG_PATH, wanted)]


def clients_part(config: Config, clients: Clients) -> Part:
    """The clients' file, as a part that can be read again."""

    def take(entries: list[Entry]) -> Changes:
        changed = clients.replace(entries)
        return [
            *(("client_added", name) for name in changed.added),
            *(("client_removed", name) for name in changed.removed),
            *(("client_tokens_revoked", name) for name in changed.narrowed),
        ]

    return Part("clients", lambda: (config.CLIENTS_CONFIG_PATH,), lambda: partial(take, client_entries(config)))
