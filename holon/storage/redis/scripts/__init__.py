"""The store's operations in Lua: one library of functions, named by a digest of its text."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from itertools import chain

from holon.storage.redis.scripts.code import Functions, is_unknown
from holon.storage.redis.scripts.compose import Definition, definitions, lua, plain_lua

__all__ = ["Functions", "functions", "is_unknown"]

_SHARED = (
    "prelude",
    "packed",
    "rows",
    "ready",
    "kept_history",
    "inbox",
    "queues",
    "held",
    "fans",
    "tries",
    "costs",
    "endings",
    "leases",
    "allowed",
    "steps",
    "done",
    "nodes",
    "begin",
    "shared",
    "reading",
)
_WRITERS = (
    "append",
    "claim",
    "close_session",
    "commit",
    "complete",
    "create_jobs",
    "disown",
    "end_queued",
    "enlist",
    "enter",
    "fire",
    "keep",
    "lease",
    "look",
    "open_session",
    "purge",
    "rekey",
    "release",
    "say",
    "settle",
    "settle_ends",
    "settle_events",
    "spawn",
    "take",
    "take_untold",
    "touch",
    "watch",
)
# These are about what nodes share beside jobs.
_SHARING = ("count", "draw", "forget", "put_document", "recall")
_READERS = ("backlog", "branches", "history", "job", "jobs", "request", "task", "unread")
_BY_THEMSELVES = ("arrive", "start")
_ALL = (*_WRITERS, *_SHARING, *_READERS, *_BY_THEMSELVES)
# What only adds work is refused first when memory is short: it is the only one that may not go beyond the limit.
_ADDS_WORK = ("create_jobs",)


@cache
def functions() -> Functions:
    """The library: what operations have in common is there once, and each has beside it what is its own."""
    operations = {name: _operation(name) for name in _ALL}
    parts = [lua(_shared(), chain.from_iterable(operations.values()))]
    for name, own in operations.items():
        # A function of its own, as Lua counts the locals of each, and there may not be many.
        flags = ", ".join(f"'{flag}'" for flag in _flags(name))
        register = (
            f"redis.register_function{{function_name = LIBRARY .. '_{name}', callback = call, flags = {{{flags}}}}}"
        )
        parts.append(f";(function()\n{plain_lua(own)}{register}\nend)()\n")
    text = "".join(parts)
    library = f"holon_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return Functions(library, f"#!lua name={library}\nlocal LIBRARY = '{library}'\n{text}".encode())


def _shared() -> list[Definition]:
    return [one for name in _SHARED for one in definitions(_source(name), name)]


def _operation(name: str) -> list[Definition]:
    """What an operation consists of; the last is how it is called."""
    return [*definitions(_source(name), name), *definitions(f"local call = {_begun(name)}", name)]


def _begun(name: str) -> str:
    if name in _BY_THEMSELVES:
        return "operation"
    run = "run" if name in _WRITERS else "run_sharing" if name in _SHARING else "run_reading"
    return f"function(keys, argv) return {run}(operation, keys, argv) end"


def _flags(name: str) -> tuple[str, ...]:
    return ("no-writes",) if name in _READERS else () if name in _ADDS_WORK else ("allow-oom",)


def _source(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
