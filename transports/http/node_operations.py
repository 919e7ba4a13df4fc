"""The HTTP door: the rows of the table of calls that tell of the node itself."""

from __future__ import annotations

from holon.domain import paths
from holon.domain.client import ADMIN
from holon.transports.http.inputs import BLUEPRINT_NAME, OF_PAGES, OF_WORKERS
from holon.transports.http.node import GRAPH_TYPE, NodeRoutes
from holon.transports.http.operations import Answer, Operation


def of_node(routes: NodeRoutes) -> list[Operation]:
    """The calls that tell what the node runs, who works for it, and how much there is to do."""
    return [
        Operation(
            "list_blueprints",
            "GET",
            paths.BLUEPRINTS,
            routes.blueprints,
            "List blueprints",
            "Blueprints by name, with the contracts of their input.",
            (Answer(200, "A page of blueprints", "BlueprintPage"),),
            OF_PAGES,
            tag="node",
        ),
        Operation(
            "get_blueprint_graph",
            "GET",
            paths.BLUEPRINT_GRAPH,
            routes.graph,
            "Show a blueprint as a graph",
            "The states and transitions that the blueprint's code shows, in the DOT language.",
            (Answer(200, "The graph", {"type": "string"}, (GRAPH_TYPE,)),),
            (BLUEPRINT_NAME,),
            ("BLUEPRINT_NOT_FOUND", "ROUTE_NOT_FOUND"),
            tag="node",
        ),
        Operation(
            "list_workers",
            "GET",
            paths.WORKERS,
            routes.workers,
            "List workers",
            "The workers of this node and of the other nodes that share its store, by id.",
            (Answer(200, "A page of workers", "WorkerPage"),),
            OF_WORKERS,
            ("PERMISSION_DENIED",),
            role=ADMIN,
            tag="node",
        ),
        Operation(
            "list_skills",
            "GET",
            paths.CATALOG,
            routes.catalog,
            "List the skills that workers offer",
            "Skills by name, type and version, one entry for each contract.",
            (Answer(200, "A page of skills", "SkillPage"),),
            OF_PAGES,
            tag="node",
        ),
        Operation(
            "get_dashboard",
            "GET",
            paths.DASHBOARD,
            routes.dashboard,
            "Show current figures",
            "Counts of the jobs, tasks and workers of all clients.",
            (Answer(200, "The figures", "Figures"),),
            (),
            ("PERMISSION_DENIED", "STORE_UNAVAILABLE"),
            role=ADMIN,
            tag="node",
        ),
    ]
