"""A worker with one skill, which a task of the blueprint `greet` needs."""

from holon.worker import Worker

worker = Worker()


@worker.skill
def compose(name: str) -> dict[str, str]:
    return {"text": f"Hello, {name}!"}
