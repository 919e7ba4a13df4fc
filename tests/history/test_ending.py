"""The end of a node whose database of history does not answer: it does not wait for that, and loses nothing."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.cli_node import holon_here, project, serve, until
from tests.history.postgres import Server

TOKEN = "a-token-for-tests-of-the-end"


@pytest.mark.own_store("how a node ends, on the default store")
def test_i10_a_second_signal_ends_a_node_whose_database_of_history_does_not_answer(tmp_path: Path, own: Server) -> None:
    folder, uri = project(tmp_path / "it"), own.database()
    env = {"CLIENT_TOKEN": TOKEN, "HISTORY_DATABASE_URI": uri, "SHUTDOWN_GRACE_SECONDS": "600"}
    node, doors = serve(folder, "--blueprints", "blueprints", env=env)
    try:
        client = {"HOLON_URL": doors["clients"], "HOLON_TOKEN": TOKEN}
        _created(folder, client)
        until(lambda: own.sql("SELECT count(*) FROM holon_jobs", uri) == ["1"], "history is moved")
        with own.silent():
            _created(folder, client)
            node.process.send_signal(signal.SIGTERM)
            until(lambda: "moving the history that is left" in node.log, "it moves what is left")
            assert node.end(signal.SIGTERM) == 0
        assert "the rest of the history stays in the store" in node.log
        assert "not ended" not in node.log
    finally:
        node.kill()
    again, _ = serve(folder, "--blueprints", "blueprints", env=env)
    try:
        until(lambda: own.sql("SELECT count(*) FROM holon_jobs", uri) == ["2"], "what was left is moved")
    finally:
        again.kill()


def _created(folder: Path, client: dict[str, str]) -> None:
    assert holon_here(folder, "jobs", "create", "waiting", env=client).code == 0
