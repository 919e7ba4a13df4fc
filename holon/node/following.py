"""Files that people edit while the node runs: a change is seen, and the part that they are of is read again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from holon.config import Config
from holon.domain.blueprint import Blueprint
from holon.engine.blueprints import Blueprints
from holon.engine.contracts import Contracts
from holon.engine.loader import load_directory
from holon.engine.reloading import Apply, Changes, Part, Reloading, Seen
from holon.errors import BlueprintError, ConfigError, Violation
from holon.telemetry.audit import By

EVERY_S = 1.0
# What was bad may have become good by itself, such as a certificate that counts only from now on.
AGAIN_S = 60.0


class Following:
    """Looks at the files of every part, and has those read again that were written or replaced.

    Each part by itself: that one is bad keeps no edit of another from being in force. A bad one is told once, and again
    only when it has changed; whether it has become good is looked at without a word.

    Arguments:
        every: seconds between two looks. A file is read once it has stayed the same for one: half a file is no change.
        again: seconds after which a bad one is looked at again.
    """

    def __init__(self, reloading: Reloading, *, every: float = EVERY_S, again: float = AGAIN_S) -> None:
        self._reloading = reloading
        self._every = every
        self._again = again
        # When to look again, by the loop's clock.
        self._bad: dict[str, float] = {}
        self._before: Mapping[str, Seen] = {}

    def __repr__(self) -> str:
        return f"Following({self._reloading!r}, bad={sorted(self._bad)})"

    async def run(self) -> None:
        """Follow them until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            await self.look()

    async def look(self) -> None:
        """Look at them once."""
        now = await asyncio.to_thread(self._reloading.look)
        for name, seen in now.items():
            if self._before.get(name) == seen and await self._is_due(name, seen):
                self._note(name, good=await self._reloading.reload_unattended((name,), By("file")))
        self._before = now

    async def _is_due(self, name: str, seen: Seen) -> bool:
        if not self._reloading.has_read(name, seen):
            return True
        if name not in self._bad or asyncio.get_running_loop().time() < self._bad[name]:
            return False
        good = await self._reloading.is_good(name)
        self._note(name, good=good)
        return good

    def _note(self, name: str, *, good: bool) -> None:
        if good:
            self._bad.pop(name, None)
        else:
            self._bad[name] = asyncio.get_running_loop().time() + self._again


def blueprints_part(config: Config, registered: Blueprints, loaded: Sequence[Blueprint], *, files: bool) -> Part:
    """The blueprints of `BLUEPRINTS_DIR`, as a part that can be read again.

    A job goes on with the newest blueprint of its name.

    Arguments:
        registered: all that the node runs.
        loaded: those of the folder among them.
        files: whether jobs can have files here.
    """
    names = {one.name for one in loaded}

    def paths() -> Iterable[str]:
        try:
            return sorted(map(str, Path(config.BLUEPRINTS_DIR).glob("*.py")))
        except OSError:
            return ()

    def read() -> Apply:
        try:
            fresh = load_directory(config.BLUEPRINTS_DIR, mounted=config.SECRETS_MOUNTED)
            checked = Blueprints(Contracts(), files=files)
            checked.register_all([*(one for one in registered if one.name not in names), *fresh])
            checked.check_runs()
        except BlueprintError as error:
            raise ConfigError(error.message, details=[Violation("BLUEPRINTS_DIR", error.message)]) from error

        def apply() -> Changes:
            registered.replace(names, fresh)
            names.clear()
            names.update(one.name for one in fresh)
            return ()

        return apply

    return Part("blueprints", paths, read)
