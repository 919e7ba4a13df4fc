"""What is stored is encrypted with the keys that the settings name, and their file is read again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from holon.config import Config, read_keys
from holon.config.setting import DAY_SECONDS
from holon.engine.reloading import Apply, Changes, Part
from holon.errors import ConfigError, Violation
from holon.node.stores import Store
from holon.storage.memory import MemoryStorage
from holon.stores.sealing import Seal
from holon.stores.sealing.marks import Marks

log = logging.getLogger(__name__)


def marks_of(config: Config, store: Store, seal: Seal, keys: Sequence[bytes]) -> Marks:
    """The marks of an open store, which a seal with these keys is for."""
    if not seal.on and not isinstance(store, MemoryStorage):
        log.warning(
            "ENCRYPTION_KEY is unset, so job data and the keys that sign workers' tokens are stored unencrypted; "
            "`holon keys new` makes a key"
        )
    return Marks(store, seal, keys, round(_kept(config) * 1000))


def _kept(config: Config) -> float:
    """How long, in seconds, something may be stored that is not written again; a day more, until it is really gone.

    A family of refresh tokens that nobody uses is, as a job that has ended.
    """
    history = config.HISTORY_RETENTION if config.moves_history else 0
    return max(config.job_retention, history, config.REFRESH_TOKEN_SECONDS) + DAY_SECONDS


def keys_part(config: Config, marks: Marks) -> Part:
    """The file of keys, as a part that can be read again."""

    def read() -> Apply:
        keys = read_keys(config)
        if reason := marks.missing(keys):
            reason = f"{config.ENCRYPTION_KEY_FILE}: {reason}"
            raise ConfigError(f"ENCRYPTION_KEY_FILE: {reason}", details=[Violation("ENCRYPTION_KEY_FILE", reason)])
        return partial(take, keys)

    def take(keys: Sequence[bytes]) -> Changes:
        marks.use(keys)
        return ()

    return Part("keys", lambda: (config.ENCRYPTION_KEY_FILE,), read)
