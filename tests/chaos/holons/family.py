"""Chaos of holons: who there is: a root with two children, one of which has a child of its own, and their leaves.

root ── child-1 ── child-3 ── leaf-3
   └─── child-2 ── leaf-2
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from holon.security.certificates import Authority, KeyPair, issue_server, issue_worker, open_authority
from tests.chaos.environment import environment
from tests.chaos.holons.blueprints import WORK
from tests.chaos.holons.fate import SHORT_LEASE_S, Fate
from tests.chaos.life import Life
from tests.chaos.link import Link
from tests.chaos.run import SETTINGS
from tests.chaos.services import Service, SqliteFile

ROOT = "root"
# Whom each of them serves.
ABOVE = {"child-1": ROOT, "child-2": ROOT, "child-3": "child-1", "leaf-2": "child-2", "leaf-3": "child-3"}
LEVELS = {ROOT: "root", "child-1": "middle", "child-2": "last", "child-3": "last"}
LEAVES = tuple(name for name in ABOVE if name not in LEVELS)
CHILDREN = tuple(name for name in ABOVE if name in LEVELS)
PARENTS = tuple(name for name in LEVELS if name in {ABOVE[child] for child in CHILDREN})
LINKS = tuple(f"{name}->{above}" for name, above in ABOVE.items())
CLIENT = f"client->{ROOT}"
# Long enough that whoever is away for as long as anything here fails keeps what it has.
PATIENT = {
    "TASK_LEASE_SECONDS": "30",
    "TASK_OFFER_SECONDS": "20",
    "CHILD_LEASE": "300",
    # Leaves fail all the time, on purpose, and are to go on with it.
    "REPUTATION_MIN_THRESHOLD": "0",
}
HURRIED = {"TASK_OFFER_SECONDS": "2", "TASK_LEASE_SECONDS": f"{SHORT_LEASE_S:g}", "CHILD_LEASE": f"{SHORT_LEASE_S:g}"}
HOLONS = '["child*"]\nkind = "holon"\ncn = "child*"\n'


def path(leaf: str) -> list[str]:
    """A leaf and all who are above it, the root last."""
    return [leaf, *path(ABOVE[leaf])] if leaf in ABOVE else [leaf]


@dataclass
class Family:
    """All of them, as processes, with the links between them and a store for each holon.

    Arguments:
        folder: where files, notes and logs go.
        store: of the root.
        broken: the promises that the nodes are to break.
    """

    folder: Path
    seed: int
    fate: Fate
    store: Service
    token: str
    broken: tuple[str, ...] = ()
    lives: dict[str, Life] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    # Those whose connections are refused.
    away: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._authorities: dict[str, Authority] = {}
        self._servers: dict[str, KeyPair] = {}
        self.stores: dict[str, Service] = {ROOT: self.store}
        (self.folder / "workers.toml").write_text(HOLONS)
        for name in LEVELS:
            own = self.folder / f"{name}.certs"
            own.mkdir()
            self._authorities[name] = open_authority(own)
            self._servers[name] = issue_server(self._authorities[name], own)
            if name != ROOT:
                self.stores[name] = SqliteFile(self.folder / f"{name}.db")

    async def enter(self, stack: AsyncExitStack) -> None:
        """Open the links, and have everybody end with the stack; nobody is started."""
        for name in (*LINKS, CLIENT):
            self.links[name] = await stack.enter_async_context(Link(name, self._upstream(name)))
        for name in (*LEVELS, *LEAVES):
            life = self.lives[name] = self._life(name)
            stack.push_async_callback(life.kill)

    def ca(self, name: str) -> str:
        """Who vouches for a node."""
        return str(self._authorities[name].files.certificate)

    def socket(self, name: str) -> Path:
        """Where a pure holon can be looked at."""
        return self.folder / f"{name}.sock"

    def _upstream(self, link: str) -> Callable[[], int | None]:
        above = link.split("->")[1]
        door = "client" if link == CLIENT else "worker"
        return lambda: None if link in self.away else self.lives[above].facts.get(door)

    def _life(self, name: str) -> Life:
        chance = {"CHAOS_NAME": name, "CHAOS_FOLDER": str(self.folder), "CHAOS_SEED": f"{self.seed} {name}"}
        if name in LEAVES:
            return Life(name, "tests.chaos.holons.leaf", lambda: self._of_leaf(name, chance), self.folder)
        died = self.folder / f"{name}.died"

        def meant(code: int) -> bool:
            return code == -signal.SIGKILL and died.exists()

        return Life(
            name, "tests.chaos.holons.node", lambda: self._of_node(name, chance, died), self.folder, meant=meant
        )

    def _of_leaf(self, name: str, chance: dict[str, str]) -> dict[str, str]:
        above = ABOVE[name]
        pair = issue_worker(self._authorities[above], self.folder / f"{above}.certs", name)
        return environment(
            chance,
            NODE_URL=self._address(name),
            TLS_CA_PATH=self.ca(above),
            TLS_CERT_PATH=pair.certificate,
            TLS_KEY_PATH=pair.key,
        )

    def _of_node(self, name: str, chance: dict[str, str], died: Path) -> dict[str, str]:
        settings = SETTINGS | PATIENT | chance | self.stores[name].settings(0)
        if name == ROOT and self.fate.impatient:
            settings |= HURRIED
        if name != ROOT:
            settings |= self._of_child(name)
        for death in self.fate.deaths:
            if death.node == name:
                settings |= {"DIE_AT": death.moment, "DIE_COUNT": str(death.count), "DIE_ONCE": str(died)}
        return environment(
            settings,
            CHAOS_LEVEL=LEVELS[name],
            CHAOS_BREAK=",".join(self.broken),
            CLIENT_TOKEN=self.token,
            INSTANCE_ID=name,
            WORKERS_CONFIG_PATH=self.folder / "workers.toml",
            TLS_CA_PATH=self.ca(name),
            TLS_CERT_PATH=self._servers[name].certificate,
            TLS_KEY_PATH=self._servers[name].key,
        )

    def _of_child(self, name: str) -> dict[str, str]:
        above = ABOVE[name]
        pair = issue_worker(self._authorities[above], self.folder / f"{above}.certs", name)
        middle = {"UPLINK_SKILLS": WORK} if LEVELS[name] == "middle" else {}
        return middle | {
            "ENABLE_CLIENT_API": "false",
            "ADMIN_SOCKET": str(self.socket(name)),
            "DISCLOSE": "full",
            "PARENT_URL": self._address(name),
            "PARENT_TLS_CA_PATH": self.ca(above),
            "PARENT_TLS_CERT_PATH": str(pair.certificate),
            "PARENT_TLS_KEY_PATH": str(pair.key),
        }

    def _address(self, name: str) -> str:
        return f"grpcs://localhost:{self.links[f'{name}->{ABOVE[name]}'].port}"
