"""The store's rules as Lua scripts: what each is made of, and under which name the server knows it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

_WRITING = ("prelude", "rows", "ready", "inbox", "tasks", "endings", "leases", "steps", "done")
_ABOUT_NODES = ("enter", "look")
_READING = ("reading",)
# What only adds work is refused first when memory is short: it is the only one that may not go beyond the limit.
_ADDS_WORK = ("create_jobs",)
_WRITERS = (
    *_ADDS_WORK,
    "append",
    "claim",
    "close_session",
    "commit",
    "complete",
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
    "settle",
    "spawn",
    "take",
    "touch",
    "watch",
)
# These are about what nodes share beside jobs.
_SHARING = ("count", "draw", "forget", "put_document", "recall")
_READERS = ("backlog", "branches", "job", "jobs", "queued_tasks")


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text, and the digest that the server knows it by."""

    name: str
    text: bytes
    sha: bytes


def load_scripts(version: tuple[int, ...]) -> Mapping[str, Script]:
    """All scripts by name, as a server of this version reads them."""
    scripts = {}
    for name in ("start", "arrive", *_WRITERS, *_SHARING, *_READERS):
        text = _header(name, version) + "".join(map(_part, (*_parts(name), name)))
        encoded = text.encode()
        sha = hashlib.sha1(encoded, usedforsecurity=False).hexdigest().encode()
        scripts[name] = Script(name, encoded, sha)
    return scripts


def _parts(name: str) -> tuple[str, ...]:
    if name in _WRITERS:
        return (*_WRITING, "nodes") if name in _ABOUT_NODES else _WRITING
    if name in _SHARING:
        return ("shared",)
    return _READING if name in _READERS else ()


def _header(name: str, version: tuple[int, ...]) -> str:
    if version >= (7,):
        flags = " flags=no-writes" if name in _READERS else "" if name in _ADDS_WORK else " flags=allow-oom"
        return f"#!lua{flags}\nlocal SHRINKS = false\n"
    return f"local SHRINKS = {'false' if name in _ADDS_WORK else 'true'}\n"


def _part(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
