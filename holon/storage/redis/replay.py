"""Whether a server would read back what its log holds: it does so with the rights of its user `default`.

What an operation writes stands in the log as one transaction. Servers check anew, as they read one, whether their user
`default` may run what is in it, and leave out what it may not, also where nobody can come in as that user.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from redis.exceptions import RedisError

from holon.errors import ConfigError
from holon.stores.redis_servers import Connection, ask

log = logging.getLogger(__name__)

# What operations write, as the log has it: the command, and what comes after its key. A lease of ready jobs is a claim
# there, and a time to live the moment when it ends.
WRITES = (
    ("DEL",),
    ("HDEL", "1"),
    ("HINCRBY", "1", "1"),
    ("HSET", "1", "1"),
    ("INCRBY", "1"),
    ("LTRIM", "1", "1"),
    ("MSET", "1"),
    ("PEXPIRE", "1"),
    ("PEXPIREAT", "1"),
    ("RPUSH", "1"),
    ("SADD", "1"),
    ("SET", "1"),
    ("SREM", "1"),
    ("UNLINK",),
    ("XACK", "1", "1"),
    ("XADD", "*", "1", "1"),
    ("XCLAIM", "1", "1", "1", "1"),
    ("XDEL", "1"),
    ("ZADD", "1", "1"),
    ("ZREM", "1"),
    ("ZREMRANGEBYRANK", "1", "1"),
)
# Those whose key comes after a word of what they do.
WRITES_OF_GROUPS = (("XGROUP", "CREATE", "1", "1"), ("XGROUP", "DELCONSUMER", "1", "1"), ("XGROUP", "SETID", "1", "1"))


async def check_replay(connection: Connection, keys: Sequence[str]) -> None:
    """Return when the server would read back all that is written to keys like these, or does not say.

    Arguments:
        connection: to a server that keeps a log.
    Raises:
        ConfigError: it would lose some of it.
        RedisError: the connection is lost.
    """
    if connection.username in (None, "", "default"):
        # What this user may do is looked at anyway.
        return
    commands = [(name, key, *rest) for key in keys for name, *rest in WRITES]
    commands += [(name, part, key, *rest) for key in keys for name, part, *rest in WRITES_OF_GROUPS]
    replies = await ask(connection, *(("ACL", "DRYRUN", "default", *command) for command in commands))
    if errors := [reply for reply in replies if isinstance(reply, RedisError)]:
        log.warning(
            "the Redis of the store does not say whether its user default may do what its log holds, which is lost at "
            "its next start otherwise: %s; see docs/redis.md",
            errors[0],
        )
        return
    refused = sorted({command[0] for command, reply in zip(commands, replies, strict=True) if reply != b"OK"})
    if refused:
        raise ConfigError(
            "the Redis of STORAGE_URI reads its log (appendonly) with the rights of its user default, who may not run "
            f"{', '.join(refused)} on the keys {{h:*: when it starts again, what nodes have written is lost; give it "
            "these rights, which it may have while it is off: ACL SETUSER default ~{h:* +@write"
        )
