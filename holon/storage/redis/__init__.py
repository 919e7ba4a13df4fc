"""The store in Redis: many nodes share it. The rules are Lua scripts, one call each; what jobs carry is opaque to them."""

from __future__ import annotations

from holon.storage.redis.storage import RedisStorage

__all__ = ["RedisStorage"]
