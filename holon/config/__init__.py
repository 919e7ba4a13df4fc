"""The node's settings: upper-case attributes and environment variables, checked together and then frozen."""

from __future__ import annotations

from holon.config.config import Config
from holon.config.encryption_keys import read_keys
from holon.config.history_uri import HistoryURI
from holon.config.setting import Setting
from holon.config.storage_uri import StorageURI

__all__ = ["Config", "HistoryURI", "Setting", "StorageURI", "read_keys"]
