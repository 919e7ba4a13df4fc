"""The bench: the command behind scripts/bench."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson
import uvloop
from rich.console import Console

from holon.errors import ConfigError
from tests.bench.calls import CALLS, JOBS, calls
from tests.bench.figures import RUNS, render
from tests.bench.process import BenchError
from tests.bench.quiet import WORKERS
from tests.bench.report import facts, show
from tests.bench.run import OWN_REDIS, PLAINTEXT, STRIPPED, UNENCRYPTED, run
from tests.bench.scenarios import DELEGATE, IDLE_WORKERS, RECOVERY, SCENARIOS

_ALL = "all"
_EXAMPLE = "sqlite:///bench.db"
_LONGEST = 60.0
_MOST_WORKERS = 9_000
_MOST_NODES = 8
_DEEPEST = 7


def main() -> int:
    """Run what the command line says; return the exit code."""
    parser = _parser()
    arguments = _checked(parser, sys.argv[1:])
    try:
        if arguments.figures:
            _figures(parser, arguments)
        else:
            found = _measure(arguments)
            if arguments.json:
                sys.stdout.write(orjson.dumps(found).decode() + "\n")
    except ConfigError as error:
        print(f"bench: {error}", file=sys.stderr)  # noqa: T201  # a command
        return 2
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)  # noqa: T201  # a command
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _figures(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Write the page of figures, and with `all` measure them first; the results stand beside the page, one a line."""
    page: Path = arguments.figures
    results = page.with_suffix(".jsonl")
    if arguments.scenario == _ALL:
        found = [
            _measure(_checked(parser, [*one, *(["--seconds", str(arguments.seconds)] if arguments.seconds else [])]))
            | {"conditions": arguments.conditions}
            for one in RUNS
        ]
        results.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in found))
    elif not results.exists():
        raise BenchError(f"{results} is not there: measure with scripts/bench all --figures {page}")
    page.write_text(render([orjson.loads(line) for line in results.read_bytes().splitlines()]), encoding="utf-8")


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one scenario, print its table, and return its figures; raises as `run`."""
    if arguments.scenario == CALLS:
        return _count(arguments)
    nodes = 2 if arguments.scenario == RECOVERY else arguments.nodes
    seconds = arguments.seconds or SCENARIOS[arguments.scenario].seconds
    with _folder() as folder:
        storage = arguments.storage or (OWN_REDIS if nodes > 1 else f"sqlite:///{folder}/bench.db")
        outcome = uvloop.run(
            run(
                arguments.scenario,
                storage,
                seconds,
                Path(folder),
                arguments.workers or WORKERS,
                nodes,
                beside=PLAINTEXT if arguments.plaintext else UNENCRYPTED if arguments.encrypted else STRIPPED,
                depth=arguments.depth or int(arguments.scenario == DELEGATE),
            )
        )
    found = facts(outcome)
    if storage != found["storage"] or not arguments.storage:
        found["storage"] = _EXAMPLE if nodes == 1 else OWN_REDIS
    show(found, Console(soft_wrap=True))
    return found


def _folder() -> tempfile.TemporaryDirectory[str]:
    # Beside the default store, so that its disk is the one that is measured.
    home = Path(".holon").absolute()
    home.mkdir(exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="bench-", dir=home)


def _count(arguments: argparse.Namespace) -> dict[str, Any]:
    """Count the calls of a job, print them, and return them; raises as `calls`."""
    with _folder() as folder:
        found = uvloop.run(calls(arguments.storage or f"sqlite:///{folder}/bench.db", Path(folder)))
    print(f"{CALLS}: {found['calls_per_job']:.0f} Python calls a job, in {found['jobs']} jobs")  # noqa: T201  # a command
    return found


def _parser() -> argparse.ArgumentParser:
    abouts = {name: scenario.about for name, scenario in SCENARIOS.items()} | {
        CALLS: f"how many Python functions of the project a node calls for a job of one task, in {JOBS:,} jobs"
    }
    lines = "\n".join(f"  {name:13} {about}" for name, about in abouts.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures a node: node, workers and load in processes of their own, mutual TLS, jobs by HTTP.",
        epilog=f"scenarios:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "scenario",
        nargs="?",
        choices=[*SCENARIOS, CALLS, _ALL],
        metavar="SCENARIO",
        help=f"{', '.join(SCENARIOS)}, {CALLS}; or {_ALL}, for --figures",
    )
    parser.add_argument(
        "--storage",
        metavar="URI",
        help="the store; by default a SQLite file that is removed again; for redis:// or postgresql:// alone one is "
        "started",
    )
    parser.add_argument(
        "--nodes",
        type=_nodes,
        default=1,
        metavar="N",
        help="how many nodes share the store; 1 by default",
    )
    parser.add_argument(
        "--seconds", type=_seconds, metavar="N", help="how long to measure; 5 by default, 10 with idle-workers"
    )
    parser.add_argument("--workers", type=_workers, metavar="N", help="how many idle-workers; 1000 by default")
    parser.add_argument(
        "--depth", type=_depth, metavar="N", help="how many holons are below the node, with delegate; 1 by default"
    )
    parser.add_argument(
        "--plaintext",
        action="store_true",
        help="measure the node beside itself in plaintext, with workers that show a token, instead of the limit",
    )
    parser.add_argument(
        "--encrypted",
        action="store_true",
        help="measure a node with a key beside itself without one, instead of the limit",
    )
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="PAGE",
        help=f"with {_ALL}: measure every scenario and write this page; alone: write it again from the last results",
    )
    parser.add_argument(
        "--conditions", metavar="TEXT", help=f"with {_ALL}: what else runs on the machine; the page says it"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return parser


def _checked(parser: argparse.ArgumentParser, given: list[str]) -> argparse.Namespace:
    """The arguments; a combination that cannot be run is a usage error."""
    arguments = parser.parse_args(given)
    if arguments.figures or arguments.scenario in (None, _ALL):
        if arguments.scenario not in (None, _ALL):
            parser.error(f"--figures is with {_ALL}, or alone")
        if not arguments.figures:
            parser.error(f"give a scenario, or {_ALL} and --figures PAGE")
        if arguments.scenario == _ALL and not arguments.conditions:
            parser.error("say with --conditions what else runs on the machine")
        return arguments
    if arguments.scenario == CALLS:
        if arguments.nodes > 1 or arguments.depth or arguments.workers or arguments.plaintext or arguments.encrypted:
            parser.error(f"{CALLS} is of one node; of the others it takes --storage and --json")
        return arguments
    if arguments.workers and arguments.scenario != IDLE_WORKERS:
        parser.error("--workers is for idle-workers")
    if arguments.depth and arguments.scenario != DELEGATE:
        parser.error("--depth is for delegate")
    if arguments.scenario == DELEGATE and (arguments.nodes > 1 or arguments.plaintext or arguments.encrypted):
        parser.error("delegate is of one node and what is below it")
    itself = arguments.plaintext or arguments.encrypted
    if (arguments.nodes > 1 or itself) and SCENARIOS[arguments.scenario].jobs is None:
        parser.error("--nodes, --plaintext and --encrypted are for scenarios with jobs")
    if arguments.nodes > 1 and itself:
        parser.error("--plaintext and --encrypted are for one node")
    if arguments.plaintext and arguments.encrypted:
        parser.error("give --plaintext or --encrypted")
    return arguments


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= _LONGEST:
        raise argparse.ArgumentTypeError(f"give 0.1 to {_LONGEST:g} seconds, not {text}")
    return value


def _nodes(text: str) -> int:
    value = int(text)
    if not 1 <= value <= _MOST_NODES:
        raise argparse.ArgumentTypeError(f"give 1 to {_MOST_NODES} nodes, not {text}")
    return value


def _depth(text: str) -> int:
    value = int(text)
    if not 1 <= value <= _DEEPEST:
        raise argparse.ArgumentTypeError(f"give 1 to {_DEEPEST} holons below, not {text}")
    return value


def _workers(text: str) -> int:
    value = int(text)
    if not 1 <= value <= _MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"give 1 to {_MOST_WORKERS:,} workers, not {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
