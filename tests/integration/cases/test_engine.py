"""Acceptance: the node as a library: `OrchestratorEngine` in somebody's own event loop."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from holon import Blueprint, OrchestratorEngine
from holon.config import Config
from holon.context import ActionFactory
from holon.errors import BlueprintError, ConfigError, FailedPrecondition, Unreachable
from holon.storage import MemoryStorage

TOKEN = "my-secret-client-token"


def config(**settings: Any) -> Config:
    return Config({}, **{"API_PORT": 0, "GRPC_PORT": 0, "CLIENT_GRPC_PORT": 0, "CLIENT_TOKEN": TOKEN, **settings})


def my_flow(endpoint: str = "/jobs/my_flow") -> Blueprint:
    bp = Blueprint("my_flow", api_endpoint=endpoint, api_version="v1")

    @bp.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    return bp


def names(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


async def finishes_a_job(engine: OrchestratorEngine) -> None:
    assert engine.ports is not None
    url = f"http://127.0.0.1:{engine.ports.http}"
    async with httpx.AsyncClient(base_url=url, headers={"X-Client-Token": TOKEN}, trust_env=False) as door:
        reply = await door.post("/api/v1/jobs/my_flow", json={"initial_data": {"x": 1}})
        assert reply.status_code == 202
        path = f"/api/v1/jobs/{reply.json()['job_id']}"
        while not (job := (await door.get(path)).json())["finished_at"]:
            pass
        assert job["status"] == "finished"


async def test_an_engine_starts_serves_and_stops_and_may_do_so_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = OrchestratorEngine(MemoryStorage(), config())
    engine.register_blueprint(my_flow())
    await engine.stop()
    for _ in range(2):
        await engine.start()
        await finishes_a_job(engine)
        await engine.stop()
        await engine.stop()
    # The storage that was given wins over the settings, whose default is a file.
    assert names(tmp_path) == []


async def test_who_stops_an_engine_that_ends_already_waits_for_the_end_too(tmp_path: Path) -> None:
    engine = OrchestratorEngine(config=config(STORAGE_URI=f"sqlite:///{tmp_path / 'holon.db'}"))
    engine.register_blueprint(my_flow())
    await engine.start()
    first = asyncio.create_task(engine.stop())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already runs"):
        await engine.start()
    await engine.stop()
    # The file is another's now.
    await engine.start()
    await first
    await engine.stop()


def test_an_engine_may_be_stopped_by_several_at_once_in_each_loop_that_it_runs_in() -> None:
    engine = OrchestratorEngine(MemoryStorage(), config())

    async def once() -> None:
        await engine.start()
        await asyncio.gather(engine.stop(), engine.stop(), engine.stop())

    for _ in range(2):
        asyncio.run(once())


async def test_a_start_that_is_cancelled_leaves_nothing_that_runs(tmp_path: Path) -> None:
    file = tmp_path / "holon.db"
    engine = OrchestratorEngine(config=config(STORAGE_URI=f"sqlite:///{file}"))
    starting = asyncio.create_task(engine.start())
    while not file.exists():  # noqa: ASYNC110  it looks from outside, and nothing tells it
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait((starting,))
    assert starting.cancelled()
    # The file is nobody's.
    await engine.start()
    await engine.stop()


async def test_without_a_storage_the_settings_choose_it(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "holon.db"
    engine = OrchestratorEngine(config=config(STORAGE_URI=f"sqlite:///{file}"))
    engine.register_blueprint(my_flow())
    await engine.start()
    await finishes_a_job(engine)
    await engine.stop()
    assert file.is_file()


async def test_blueprints_are_registered_before_the_start_and_a_start_is_one() -> None:
    engine = OrchestratorEngine(MemoryStorage(), config())
    engine.register_blueprint(my_flow())
    with pytest.raises(BlueprintError, match="my_flow"):
        engine.register_blueprint(my_flow())
    await engine.start()
    try:
        with pytest.raises(RuntimeError, match="already runs"):
            await engine.start()
        with pytest.raises(RuntimeError, match="before the engine starts"):
            engine.register_blueprint(my_flow())
        await finishes_a_job(engine)
    finally:
        await engine.stop()


@pytest.mark.parametrize(
    ("given", "named"), [("my_flow", "a str"), (None, "a NoneType"), (my_flow, "a function"), (Blueprint, "the class")]
)
def test_what_is_no_blueprint_is_refused_by_what_it_is(given: Any, named: str) -> None:
    engine = OrchestratorEngine(MemoryStorage(), config())
    with pytest.raises(TypeError, match=f"takes a Blueprint, not {named}"):
        engine.register_blueprint(given)


def test_a_blueprint_in_the_place_of_a_route_of_the_node_is_refused_when_it_is_registered() -> None:
    with pytest.raises(BlueprintError, match="its path /api/v1/admin/reload is used by the node itself"):
        OrchestratorEngine(MemoryStorage(), config()).register_blueprint(my_flow("/admin/reload"))


async def test_run_inside_a_running_loop_is_refused_and_what_to_call_is_said() -> None:
    with pytest.raises(RuntimeError, match=r"await engine\.start\(\)"):
        OrchestratorEngine(MemoryStorage(), config()).run()


@pytest.mark.parametrize("door", ["API_PORT", "GRPC_PORT", "CLIENT_GRPC_PORT"])
def test_a_port_in_use_ends_a_program_with_the_name_of_its_setting_and_no_traceback(door: str, tmp_path: Path) -> None:
    program = (
        "from holon import OrchestratorEngine\n"
        "from holon.storage import MemoryStorage\n"
        "OrchestratorEngine(MemoryStorage()).run()\n"
    )
    free = {"API_PORT": "0", "GRPC_PORT": "0", "CLIENT_GRPC_PORT": "0"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = {**os.environ, **free, door: str(taken.getsockname()[1])}
        ran = subprocess.run([sys.executable, "-c", program], env=env, cwd=tmp_path, capture_output=True, text=True)
    last = ran.stderr.splitlines()[-1]
    assert (ran.returncode, last.startswith(f"holon: {door}: ")) == (1, True), ran.stderr
    assert "in use; stop the program that listens there, or use another" in last
    assert "Traceback" not in ran.stderr


async def test_of_a_start_that_fails_no_frame_within_the_node_is_shown() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        engine = OrchestratorEngine(MemoryStorage(), config(API_PORT=taken.getsockname()[1]))
        with pytest.raises(ConfigError, match=r"^API_PORT: .* is in use") as error:
            await engine.start()
    assert error.value.__suppress_context__
    assert error.traceback[-1].name == "start"


async def test_settings_may_be_changed_until_the_start_and_not_after() -> None:
    settings = config()
    engine = OrchestratorEngine(MemoryStorage(), settings)
    settings.JOB_MAX_RETRIES = 1
    await engine.start()
    try:
        with pytest.raises(ConfigError):
            settings.JOB_MAX_RETRIES = 2
        assert settings.JOB_MAX_RETRIES == 1
    finally:
        await engine.stop()


async def test_every_wrong_setting_is_reported_at_once_and_nothing_is_opened() -> None:
    settings = config(API_HOST="0.0.0.0", GRPC_HOST="0.0.0.0", TZ="Nowhere", CLIENT_TOKEN="")
    engine = OrchestratorEngine(MemoryStorage(), settings)
    with pytest.raises(ConfigError) as error:
        await engine.start()
    assert {one.field for one in error.value.details} == {"API_HOST", "GRPC_HOST", "TZ"}
    assert engine.ports is None
    await engine.stop()


async def test_a_port_in_use_is_an_error_that_names_it_and_the_engine_can_start_elsewhere() -> None:
    first = OrchestratorEngine(MemoryStorage(), config())
    await first.start()
    assert first.ports is not None
    try:
        for name, port in (("API_PORT", first.ports.http), ("GRPC_PORT", first.ports.worker)):
            second = OrchestratorEngine(MemoryStorage(), config(**{name: port}))
            with pytest.raises(ConfigError, match=str(port)):
                await second.start()
            await second.stop()
    finally:
        await first.stop()


def waits() -> Blueprint:
    bp = Blueprint("waits", api_endpoint="/jobs/waits", api_version="v1")

    @bp.handler(is_start=True)
    async def start(client: Any, state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["client"] = [client.name, client.plan]
        actions.await_signal({"go": "end"})

    @bp.handler(is_end=True)
    async def end() -> None: ...

    return bp


async def test_a_program_is_the_operator_of_its_own_node_by_a_client_that_needs_no_token() -> None:
    engine = OrchestratorEngine(MemoryStorage(), config(CLIENT_TOKEN=""))
    engine.register_blueprint(waits())
    with pytest.raises(RuntimeError, match=r"await engine\.start\(\)"):
        async with engine.client():
            pass
    await engine.start()
    try:
        async with engine.client() as one, engine.client() as other:
            created = await one.create_job("waits", request_id="r")
            await other.send_signal(created.job_id, "go", {"n": 1})
            job = await one.wait_for(created.job_id, timeout=60)
            assert (job.status, job.result) == ("finished", {"client": ["default", "default"], "n": 1})
            # What needs the role of administrators.
            assert (await other.node.stats()).jobs == {}
    finally:
        await engine.stop()


async def test_a_client_that_is_left_open_ends_with_its_engine_and_so_does_what_waits_through_it() -> None:
    engine = OrchestratorEngine(MemoryStorage(), config())
    engine.register_blueprint(waits())
    await engine.start()
    async with engine.client() as client:
        created = await client.create_job("waits")
        begun = asyncio.Event()
        waiting = asyncio.create_task(client.wait_for(created.job_id, seen=lambda _: begun.set()))
        await begun.wait()
        await engine.stop()
        with pytest.raises(Unreachable):
            await waiting
        with pytest.raises(FailedPrecondition, match="is not open"):
            await client.get_job(created.job_id)
    with pytest.raises(RuntimeError, match="does not run"):
        async with engine.client():
            pass


async def test_an_engine_that_serves_no_clients_has_none_itself() -> None:
    engine = OrchestratorEngine(MemoryStorage(), config(ENABLE_CLIENT_API=False, PARENT_URL="grpc://127.0.0.1:1"))
    await engine.start()
    try:
        with pytest.raises(RuntimeError, match="ENABLE_CLIENT_API"):
            async with engine.client():
                pass
    finally:
        await engine.stop()


def test_what_an_engine_does_not_have_is_refused_and_what_there_is_instead_is_said() -> None:
    engine: Any = OrchestratorEngine(MemoryStorage(), config())
    with pytest.raises(AttributeError, match=r"on_job_finished'.*engine\.client\(\)"):
        engine.on_job_finished = [print]
    with pytest.raises(AttributeError, match=r"on_job_finished'.*engine\.client\(\)"):
        engine.on_job_finished.append(print)
    for name in ("app", "app_keys"):
        with pytest.raises(AttributeError, match=rf"no attribute '{name}': .*engine\.client\(\)"):
            getattr(engine, name)
    with pytest.raises(AttributeError, match=r"no attribute 'confg'$"):
        engine.confg = None
