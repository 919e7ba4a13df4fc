"""The demo: what happens, in order."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from holon.config.values import without_credentials
from scripts.demonstration import evidence, tree
from scripts.demonstration.cluster import CHILD, LEASE_SECONDS, WORKERS, Cluster, Member, start_cluster
from scripts.demonstration.failure import Failed
from scripts.demonstration.programs import Program, Programs
from scripts.demonstration.screen import Meter, Screen

KILL_FROM_PERCENT = 20.0
STALL_SECONDS = 60.0
LOOK_EVERY_SECONDS = 0.05
REPORT = Path(".holon", "census.json")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asked for."""

    folder: Path
    storage: str
    keep: bool


@dataclass(slots=True)
class Kill:
    """That a worker was killed: the tasks that it held, and the same count by one process, begun in that moment."""

    victim: Member
    held: list[str]


class Story:
    """One run of the demo.

    Arguments:
        place: a folder for everything that its programs write.
    """

    def __init__(self, wishes: Wishes, screen: Screen, programs: Programs, place: Path) -> None:
        self._wishes = wishes
        self._screen = screen
        self._programs = programs
        self._place = place
        self._alone: Program | None = None

    def run(self) -> None:
        """Tell it.

        Raises:
            Failed: something is not as it should be.
        """
        screen, folder = self._screen, self._wishes.folder
        screen.title(f"A census of the Python source in {folder}")
        cluster = start_cluster(self._programs, self._place, self._wishes.storage)
        store = without_credentials(self._wishes.storage) or "SQLite, thrown away at the end"
        screen.step("node", f"pid {cluster.node.pid}, store {store}")
        screen.more(f"clients: http://127.0.0.1:{cluster.http_port}   workers: mutual TLS on {cluster.worker_port}")
        screen.step(CHILD, f"pid {cluster.child.pid}, a holon that serves the node as a worker; no client reaches it")
        for worker in cluster.workers.values():
            screen.step(worker.name, f"pid {worker.program.pid}, certificate of its own, works for {CHILD}")
        job_id = cluster.client.create("/api/v1/jobs/survey", {"folder": str(folder)})
        screen.step("job", f"{job_id}, accepted: from here on it survives any crash")
        kill = self._watch(cluster, job_id)
        report = self._result(cluster, job_id)
        screen.report(report)
        nodes = cluster.client.tree(job_id)
        screen.tree(tree.lines(nodes))
        self._check_attempts(cluster, tree.counted(nodes), kill)
        self._check_report(report)
        self._write(report)
        self._tell_how_to_look(cluster, job_id)
        if self._wishes.keep:
            self._tell_how_to_stop()

    def _watch(self, cluster: Cluster, job_id: str) -> Kill | None:
        """Show how far the job is until it is over, and kill a worker on the way."""
        kill: Kill | None = None
        victim = cluster.workers[WORKERS[-1]]
        newest, at = -1.0, time.monotonic()
        with self._screen.meter() as meter:
            while True:
                nodes = cluster.client.tree(job_id)
                census = tree.census_of(nodes)
                percent = (census["progress"] or 0.0) if census is not None else 0.0
                if nodes[0]["finished_at"] is not None:
                    meter(100.0, "")
                    return kill
                cluster.check_alive(besides=victim.name if kill else "")
                if percent != newest:
                    newest, at = percent, time.monotonic()
                elif time.monotonic() - at > STALL_SECONDS:
                    why = f"the job made no progress for {STALL_SECONDS:.0f} s: {nodes[-1]['status']}"
                    raise Failed(why, cluster.child.output)
                self._show(meter, percent, kill, tree.lines(nodes), idle=time.monotonic() - at)
                if kill is None and percent >= KILL_FROM_PERCENT:
                    kill = self._kill(victim, percent)
                time.sleep(LOOK_EVERY_SECONDS)

    def _show(self, meter: Meter, percent: float, kill: Kill | None, lines: list[str], idle: float) -> None:
        waits = kill is not None and idle > 1.0
        meter(percent, f"waiting for the leases of {kill.victim.name} to end" if waits and kill else "", lines)

    def _kill(self, victim: Member, percent: float) -> Kill | None:
        """Kill a worker if it holds a task just now."""
        # It stands still while we look, so what we say it holds is what it held.
        victim.program.freeze()
        held = evidence.tasks_held(victim.log)
        if not held:
            victim.program.thaw()
            return None
        victim.program.kill()
        numbers = ", ".join(str(evidence.number(task)) for task in held)
        self._screen.alarm(
            "SIGKILL", f"{victim.name}, pid {victim.program.pid}, at {percent:.0f} %, in tasks {numbers}"
        )
        self._screen.more(
            f"Their leases end within {LEASE_SECONDS} s (30 s by default; short here, so that you need not wait),"
        )
        self._screen.more("then the other worker gets them.")
        self._count_alone()
        return Kill(victim, held)

    def _count_alone(self) -> Program:
        """Start the same count by one process, beside everything else; only once."""
        if self._alone is None:
            output = str(self._place / "alone.json")
            arguments = ["-m", "scripts.demonstration.alone", str(self._wishes.folder), output]
            self._alone = self._programs.start("alone", arguments, {})
        return self._alone

    def _result(self, cluster: Cluster, job_id: str) -> dict[str, Any]:
        job = cluster.client.job(job_id)
        if job["status"] == "finished":
            report: dict[str, Any] = job["result"]
            return report
        error = job["error"] or {}
        # What the child's blueprint said.
        details = (error.get("details") or {}).get("details")
        reason = details["reason"] if isinstance(details, dict) and "reason" in details else error.get("message")
        # What the blueprint itself says is all there is to know.
        raise Failed(f"the job ended {job['status']}: {reason}", None if details else cluster.node.output)

    def _check_attempts(self, cluster: Cluster, tasks: list[Mapping[str, Any]], kill: Kill | None) -> None:
        share = evidence.share(tasks)
        ended = ", ".join(f"{count} by {worker}" for worker, count in sorted(share.items()))
        if kill is None:
            self._screen.alarm("not shown", "the work was over before a worker held enough to be killed for it;")
            self._screen.more("a larger folder shows what happens then.")
            self._screen.step("tasks", f"{share.total()}, each ended once: {ended}")
            return
        logs = {name: worker.log for name, worker in cluster.workers.items()}
        doubts = evidence.doubts(tasks, kill.held, logs, kill.victim.name)
        if doubts:
            raise Failed("the tree of the job is not as it should be: " + "; ".join(doubts), cluster.child.output)
        again = evidence.reruns(tasks, kill.victim.name)
        self._screen.reruns([(one, evidence.stage(logs[one.first], one.task_id, 1)) for one in again])
        self._screen.step("tasks", f"{share.total()}, each ended once: {ended}")

    def _check_report(self, report: Mapping[str, Any]) -> None:
        """Compare with the count of one process."""
        alone = self._count_alone()
        output = self._place / "alone.json"
        if alone.process.wait() or not output.exists():
            raise Failed("the count by one process failed", alone.output)
        expected = json.loads(output.read_text(encoding="utf-8"))
        for part, value in expected.items():
            if report[part] != value:
                raise Failed(f"{part}: the workers counted {report[part]}, and one process alone {value}")
        self._screen.step("equal", "to the count by one process alone, in every number")

    def _write(self, report: Mapping[str, Any]) -> None:
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        self._screen.step("written", str(REPORT))

    def _tell_how_to_look(self, cluster: Cluster, job_id: str) -> None:
        holon = Path(sys.executable).with_name("holon")
        if holon.is_relative_to(Path.cwd()):
            holon = holon.relative_to(Path.cwd())
        say = self._screen.more
        if self._wishes.keep:
            self._screen.step("look", "the node is still there; ask it with")
        else:
            self._screen.step("look", "with --keep the node stays up, and you can ask it:")
        say(f"  . {quote(str(cluster.settings))}")
        say(f"  {quote(str(holon))} jobs get {job_id}")
        say(f"  {quote(str(holon))} jobs history {job_id}")
        say(f"  {quote(str(holon))} jobs tree {job_id} --digests")
        say(f'  curl -H "X-Client-Token: $HOLON_TOKEN" http://127.0.0.1:{cluster.http_port}/api/v1/jobs/{job_id}')

    def _tell_how_to_stop(self) -> None:
        pids = " ".join(str(program.pid) for program in self._programs.keep())
        self._screen.step(
            "stop",
            f"kill {pids}; sleep 2; rm -r {quote(str(self._place))}",
        )
