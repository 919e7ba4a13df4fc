"""Hundreds of blueprints are registered without comparing each with all others."""

from __future__ import annotations

import pytest

from holon.domain.blueprint import Blueprint
from holon.engine.blueprints import Blueprints
from holon.engine.contracts import Contracts
from holon.errors import BlueprintError


class Asked(Blueprint):
    """A blueprint that counts how often it is asked for its path; all of them together."""

    times = 0

    @property
    def path(self) -> str | None:
        Asked.times += 1
        return super().path


def one(name: str, endpoint: str | None) -> Blueprint:
    blueprint = Asked(name, api_endpoint=endpoint)

    @blueprint.handler("begin", is_start=True, is_end=True)
    async def begin() -> None: ...

    return blueprint


def test_a_path_is_taken_by_one_of_hundreds_of_blueprints_and_none_is_asked_for_its_own_again() -> None:
    blueprints = Blueprints(Contracts())
    blueprints.register_all([one(f"b{number}", f"/b{number}" if number % 2 else None) for number in range(200)])
    assert Asked.times <= 10 * 200
    with pytest.raises(BlueprintError, match="is also that of blueprint 'b7'"):
        blueprints.register(one("other", "/b7"))
    blueprints.register(one("other", None))
    assert len([*blueprints]) == 201


def test_blueprints_that_take_the_place_of_others_leave_nothing_of_those_behind() -> None:
    contracts, told = Contracts(), []
    blueprints = Blueprints(contracts)
    blueprints.on_replace(lambda: told.append([one.name for one in blueprints]))

    def sending(event: str) -> Blueprint:
        blueprint = one("sending", f"/{event}")
        blueprint.event(event, {"type": "object", "required": [event]})(blueprint)
        return blueprint

    blueprints.register_all([one("stays", "/stays"), sending("first")])
    assert "held=1 " in repr(contracts)
    blueprints.replace(["sending"], [sending("second")])
    assert told == [["stays", "sending"]]
    assert "held=1 " in repr(contracts)
    assert (list(blueprints.events("sending")), blueprints.clients_start("stays")) == (["second"], True)
    blueprints.register(one("free", "/first"))
