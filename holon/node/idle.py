"""A node to which nothing will ever come: what its settings leave out is told at its start, for each is sound."""

from __future__ import annotations

import logging
from collections.abc import Collection

from holon.config import Config
from holon.domain.blueprint import Blueprint

log = logging.getLogger(__name__)


def tell_what_is_missing(config: Config, blueprints: Collection[Blueprint]) -> None:
    """Warn of doors that let no client in, where no parent gives work either, and of a node that has no blueprint.

    Arguments:
        config: the settings, as they are in force.
        blueprints: all that the node runs.
    """
    if not (config.CLIENT_TOKEN or config.CLIENTS_CONFIG_PATH or config.PARENT_URL):
        log.warning(
            "no client can connect, because CLIENT_TOKEN and CLIENTS_CONFIG_PATH are unset; `holon tokens new` "
            "makes a token, and `holon serve --dev` runs a node for development"
        )
    if not blueprints and not config.UPLINK_SKILLS:
        log.warning(
            "there is no blueprint, so no job can be created; set BLUEPRINTS_DIR to the folder of your blueprints"
        )
