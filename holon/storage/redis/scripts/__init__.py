"""The store's operations in Lua: what a server is given, so that it knows them.

From Redis 7 a server keeps them as one library of functions, whose name tells its text apart from that of any other
release; before, as scripts, each with no more than it needs. Both are made of the same definitions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import chain

from holon.storage.redis.scripts.code import Code, Functions, Scripts, load_first
from holon.storage.redis.scripts.compose import Definition, definitions, lua, lua_of_script, needed, plain_lua

__all__ = ["Code", "code_for", "commands", "functions", "load_first", "scripts"]

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
_SHARING = ("count", "draw", "forget", "put_document", "recall", "upgrade")
_READERS = ("backlog", "branches", "history", "job", "jobs", "request", "task", "unread")
_BY_THEMSELVES = ("arrive", "rights", "start")
_ALL = (*_WRITERS, *_SHARING, *_READERS, *_BY_THEMSELVES)
# What only adds work is refused first when memory is short: it is the only one that may not go beyond the limit.
_ADDS_WORK = ("create_jobs",)
# Functions came with this version, and so did flags.
_FUNCTIONS = (7,)
_COMMAND = re.compile(r"\b(?:read|write|write_many|put|redis\.call)\('([A-Z]+)'(?:, '(CREATE|DELCONSUMER)')?")


def code_for(version: tuple[int, ...]) -> Sequence[Code]:
    """What a server of this version can be given, the best first: one without memory takes scripts only."""
    return (functions(), scripts(version)) if version >= _FUNCTIONS else (scripts(version),)


@cache
def commands() -> tuple[str, ...]:
    """The commands that operations run, those of a group with what they do there: `XGROUP|CREATE`.

    What an upgrade runs besides is not among them: it is needed once, and by few.
    """
    names = (name for name in (*_SHARED, *_ALL) if name != "upgrade")
    found = {match for name in names for match in _COMMAND.findall(_source(name))}
    return tuple(sorted(f"{command}|{part}" if part else command for command, part in found))


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
    text = "local SHRINKS, REMEMBERS = false, true\n" + "".join(parts)
    library = f"holon_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return Functions(library, f"#!lua name={library}\nlocal LIBRARY = '{library}'\n{text}".encode())


@cache
def scripts(version: tuple[int, ...]) -> Scripts:
    """A script for each operation, as a server of this version reads it."""
    texts = {}
    shared = _shared()
    for name in _ALL:
        own = _operation(name)
        text = lua_of_script(needed(shared, own), own, "call(KEYS, ARGV)")
        texts[name] = f"{_header(name, version)}{text}".encode()
    return Scripts(texts)


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


def _header(name: str, version: tuple[int, ...]) -> str:
    if version < _FUNCTIONS:
        return f"local SHRINKS, REMEMBERS = {'false' if name in _ADDS_WORK else 'true'}, false\n"
    flags = ",".join(_flags(name))
    return f"#!lua{f' flags={flags}' if flags else ''}\nlocal SHRINKS, REMEMBERS = false, false\n"


def _source(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
