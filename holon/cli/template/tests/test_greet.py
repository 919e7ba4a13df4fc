"""Each test runs a real node in this process, with a store in memory. Nothing is mocked."""

import pytest
from holon.errors import InvalidArgument
from holon.testing import running_node

from blueprints.greet import bp
from greeter import compose


async def test_a_job_greets_its_guest() -> None:
    async with running_node(bp) as node:
        worker = node.new_worker("greeter-1")
        worker.skill(compose)
        async with worker:
            job = await node.run("greet", {"name": "Ada"})
    assert job.status == "finished"
    assert job.result == {"text": "Hello, Ada!"}


async def test_a_job_without_a_name_is_refused() -> None:
    async with running_node(bp) as node:
        with pytest.raises(InvalidArgument, match=r"initial_data\.nam is not allowed"):
            await node.run("greet", {"nam": "Ada"})
