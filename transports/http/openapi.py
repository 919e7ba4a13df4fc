"""The HTTP door: the OpenAPI document (3.1), written once from the tables that serve."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import orjson

from holon.domain.blueprint import Blueprint
from holon.engine.contracts import Contracts
from holon.transports.http.answer_shapes import SHAPES
from holon.transports.http.contracts import COMPONENTS, as_components
from holon.transports.http.inputs import Parameter
from holon.transports.http.operations import Answer, Operation
from holon.transports.http.refusals import CODES, ERROR, RETRIED, status_of
from holon.transports.http.shapes import Schema

_JSON = "application/json"
_BYTES: Schema = {"type": "string", "format": "binary"}
_OF_ALL = ("MALFORMED_REQUEST", "INVALID_ARGUMENT", "HEAD_TOO_LARGE", "INTERNAL")
_ABOUT = (
    "Create jobs, look at them, and look at the node. Every call needs a client token in `X-Client-Token`, except "
    "those under `/_public`. Every error has the same shape, and a `code` for programs. If a path does not take a "
    "method, the answer is 405 `METHOD_NOT_ALLOWED` with `allow`; if there is no such path, it is 404 "
    "`ROUTE_NOT_FOUND`. Integers in bodies have at most 64 bits."
)


def written(operations: Iterable[Operation], version: str) -> bytes:
    """Return the document of these calls, as JSON text.

    Arguments:
        version: the node's.
    """
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Schema] = {"Error": ERROR, **SHAPES}
    for operation in operations:
        if operation.blueprint is not None and (contract := operation.blueprint.input_schema) is not None:
            schemas |= as_components(contract, _component(operation.blueprint))
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Holon node", "version": version, "description": _ABOUT},
            "servers": [{"url": "/"}],
            "security": [{"ClientToken": []}],
            "tags": [
                {"name": "create"},
                {"name": "jobs"},
                {"name": "node", "description": "Blueprints, workers and skills"},
                {"name": "admin"},
                {"name": "public", "description": "Calls without a token"},
            ],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"ClientToken": {"type": "apiKey", "in": "header", "name": "X-Client-Token"}},
            },
        }
    )


def _operation(operation: Operation) -> dict[str, Any]:
    tag = "public" if operation.public else operation.tag
    text: dict[str, Any] = {"operationId": operation.name, "tags": [tag], "summary": operation.summary}
    if operation.about:
        text["description"] = operation.about
    if operation.public:
        text["security"] = []
    elif operation.otherwise:
        # By what its body holds in the place of one.
        text["security"] = [{"ClientToken": []}, {}]
    if operation.parameters:
        text["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.takes_body:
        text["requestBody"] = _body(operation)
    text["responses"] = {str(answer.status): _answer(answer) for answer in operation.answers} | _refusals(operation)
    if operation.creates:
        text["responses"]["202"]["links"] = {
            name: {"operationId": name, "parameters": {"job_id": "$response.body#/job_id"}}
            for name in ("get_job", "get_job_history", "get_job_tree", "cancel_job", "send_signal")
        }
    return text


def _parameter(parameter: Parameter) -> dict[str, Any]:
    text = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.about,
        "required": parameter.required or parameter.place == "path",
        "schema": parameter.schema,
    }
    return text | {"style": "form", "explode": False} if parameter.schema["type"] == "array" else text


def _body(operation: Operation) -> dict[str, Any]:
    if operation.takes_file:
        return {"required": False, "content": {"application/octet-stream": {"schema": _BYTES}}}
    blueprint = operation.blueprint
    schema: Schema = {"type": "object", "additionalProperties": False}
    if operation.fields:
        schema["properties"] = dict(operation.fields)
    if operation.required:
        schema["required"] = list(operation.required)
    if blueprint is not None and (contract := blueprint.input_schema) is not None:
        data: Schema = {"type": "object", "$ref": f"{COMPONENTS}/{_component(blueprint)}"}
        contracts = Contracts()
        if not contracts.accepts(contracts.add(contract), {}):
            schema["required"] = ["initial_data"]
        schema["properties"]["initial_data"] = {"description": operation.fields["initial_data"]["description"], **data}
    return {"required": blueprint is not None or bool(operation.required), "content": {_JSON: {"schema": schema}}}


def _answer(answer: Answer) -> dict[str, Any]:
    schema = {"$ref": f"{COMPONENTS}/{answer.schema}"} if isinstance(answer.schema, str) else answer.schema
    text = {"description": answer.about, "content": {kind: {"schema": schema} for kind in answer.media_types}}
    if answer.headers:
        text["headers"] = {
            name: {"description": about, "required": True, "schema": {"type": "string"}}
            for name, about in answer.headers.items()
        }
    return text


def _refusals(operation: Operation) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in (*_OF_ALL, *(() if operation.public else ("TOKEN_INVALID", "RATE_LIMITED")), *operation.refusals):
        by_status.setdefault(status_of(code), []).append(code)
    return {str(status): _refusal(status, tuple(codes)) for status, codes in sorted(by_status.items())}


@cache
def _refusal(status: int, codes: tuple[str, ...]) -> dict[str, Any]:
    # The same for many calls, and for every node of a process.
    example = {"error": CODES[codes[-1]][1], "code": codes[-1], "details": []}
    text: dict[str, Any] = {
        "description": "\n".join(f"- `{code}`: {CODES[code][1]}" for code in codes),
        "content": {_JSON: {"schema": {"$ref": f"{COMPONENTS}/Error"}, "example": example}},
    }
    if status in RETRIED:
        about = "seconds to wait before repeating the call"
        text["headers"] = {
            "Retry-After": {"description": about, "required": True, "schema": {"type": "integer", "minimum": 1}}
        }
    return text


def _component(blueprint: Blueprint) -> str:
    return f"{blueprint.name}.initial_data"
