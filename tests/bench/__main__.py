"""The bench: the command behind scripts/bench."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import orjson
import uvloop
from rich.console import Console

from holon.errors import ConfigError
from tests.bench.process import BenchError
from tests.bench.quiet import WORKERS
from tests.bench.report import facts, show
from tests.bench.run import OWN_REDIS, run
from tests.bench.scenarios import DELEGATE, IDLE_WORKERS, RECOVERY, SCENARIOS

_EXAMPLE = "sqlite:///bench.db"
_LONGEST = 60.0
_MOST_WORKERS = 9_000
_MOST_NODES = 8
_DEEPEST = 7


def main() -> int:
    """Run one scenario as the command line says; return the exit code."""
    arguments = _arguments()
    nodes = 2 if arguments.scenario == RECOVERY else arguments.nodes
    seconds = arguments.seconds or SCENARIOS[arguments.scenario].seconds
    # Beside the default store, so that its disk is the one that is measured.
    home = Path(".holon").absolute()
    home.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=home) as folder:
        storage = arguments.storage or (OWN_REDIS if nodes > 1 else f"sqlite:///{folder}/bench.db")
        try:
            outcome = uvloop.run(
                run(
                    arguments.scenario,
                    storage,
                    seconds,
                    Path(folder),
                    arguments.workers or WORKERS,
                    nodes,
                    plaintext=arguments.plaintext,
                    depth=arguments.depth or int(arguments.scenario == DELEGATE),
                )
            )
        except ConfigError as error:
            print(f"bench: {error}", file=sys.stderr)  # noqa: T201  # a command
            return 2
        except BenchError as error:
            print(f"bench: {error}", file=sys.stderr)  # noqa: T201  # a command
            return 1
        except KeyboardInterrupt:
            return 130
    found = facts(outcome)
    if storage != found["storage"] or not arguments.storage:
        found["storage"] = _EXAMPLE if nodes == 1 else OWN_REDIS
    show(found, Console(soft_wrap=True))
    if arguments.json:
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    lines = "\n".join(f"  {name:13} {scenario.about}" for name, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures a node: node, workers and load in processes of their own, mutual TLS, jobs by HTTP.",
        epilog=f"scenarios:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", choices=SCENARIOS, metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument(
        "--storage",
        metavar="URI",
        help="the store; by default a SQLite file that is removed again; for redis:// alone a server is started",
    )
    parser.add_argument(
        "--nodes", type=_nodes, default=1, metavar="N", help="how many nodes share the store (Redis); 1 by default"
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
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    if arguments.workers and arguments.scenario != IDLE_WORKERS:
        parser.error("--workers is for idle-workers")
    if arguments.depth and arguments.scenario != DELEGATE:
        parser.error("--depth is for delegate")
    if arguments.scenario == DELEGATE and (arguments.nodes > 1 or arguments.plaintext):
        parser.error("delegate is of one node and what is below it")
    if (arguments.nodes > 1 or arguments.plaintext) and SCENARIOS[arguments.scenario].jobs is None:
        parser.error("--nodes and --plaintext are for scenarios with jobs")
    if arguments.nodes > 1 and arguments.plaintext:
        parser.error("--plaintext is for one node")
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
