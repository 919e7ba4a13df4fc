"""The store in Redis, for many nodes: its rules are in Lua, to which what jobs carry is opaque."""

from __future__ import annotations

from holon.storage.redis.storage import RedisStorage

__all__ = ["RedisStorage"]
