"""The worker door: what a worker says of itself, checked and put into the engine's words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from holon.domain.costs import MOST_COST
from holon.domain.event_types import MAX_EVENT_TYPE, is_event_type
from holon.domain.fleet import (
    MAX_CACHED,
    MAX_CREDITS,
    MAX_DESCRIPTION,
    MAX_DEVICES,
    MAX_EVENTS,
    MAX_LOADED,
    MAX_MACHINE_BYTES,
    MAX_NAME,
    MAX_STATUS,
    MAX_STATUSES,
    Catalog,
    Device,
    Machine,
    Proof,
    Skill,
    is_name,
)
from holon.domain.holarchy import MAX_BELOW, HolonIdentity
from holon.domain.resources import doubts
from holon.engine.contracts import MAX_SCHEMA_BYTES
from holon.engine.members import Joining
from holon.engine.payloads import decode
from holon.engine.session import Offered
from holon.errors import InvalidArgument, PermissionDenied, Violation, invalid
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.security.admission import Admission, Caller
from holon.wire.resources import resources_message
from holon.wire.stream import MAX_MESSAGE_BYTES
from holon.wire.values import is_id, json_of

HELLO_INVALID = "HELLO_INVALID"
MAX_RESUMED = 10_000
MAX_OFFERINGS = 1_000
# Each task of a skill is tried on every contract of it.
MAX_OF_ONE_SKILL = 32
MAX_PROFILES = 32
MAX_LABELS = 64
MAX_LABEL = 256
# Whatever else a worker reads, it must be able to read a Welcome and an error.
LEAST_MESSAGE_BYTES = 64 * 1024
# The most that a Welcome says of a lease that is resumed, beside its ids; and the most that it says besides, where the
# chain of holons above is as long as it may be.
RESUMED_BYTES = 32
WELCOME_BYTES = 10 * 1024


def worker_of(hello: worker_pb2.Hello, caller: Caller, admission: Admission) -> str:
    """The id of the worker: what it claims, if it has proven that; without a claim, what it has proven.

    Raises:
        PermissionDenied: (WORKER_ID_MISMATCH, REVOKED) it claims another's id, or one that is not let in.
        InvalidArgument: (HELLO_INVALID) it claims an impossible id, or none where none alone is proven.
    """
    claimed = hello.worker_id
    try:
        check_claim(caller, claimed)
        return admission.worker_of(caller, claimed)
    except InvalidArgument as error:
        raise hello_invalid(error) from error


def check_claim(caller: Caller, claimed: str) -> None:
    """Check the id that a worker claims where no certificate names it; raises InvalidArgument for an impossible one."""
    if claimed and caller.identity is None and not is_id(claimed):
        reason = "must be 1 to 128 letters, digits, dots, underscores or dashes, and begin with a letter or digit"
        raise invalid("worker_id", reason)


def reads_of(hello: worker_pb2.Hello) -> int:
    """The largest message that a worker reads."""
    return hello.max_message_bytes if hello.HasField("max_message_bytes") else MAX_MESSAGE_BYTES


def joining_of(hello: worker_pb2.Hello, worker_id: str, proof: Proof, max_message_bytes: int) -> Joining:
    """What the engine must know of a worker that opens a session.

    Arguments:
        proof: what proved its id.
        max_message_bytes: the largest message that may be sent to it.
    Raises:
        InvalidArgument: (HELLO_INVALID) the field at fault, and why.
    """
    try:
        return _joining_of(hello, worker_id, proof, max_message_bytes)
    except InvalidArgument as error:
        raise hello_invalid(error) from error


def holon_of(hello: worker_pb2.Hello, worker_id: str, *, is_holon: bool) -> HolonIdentity | None:
    """The holon that a worker is; None when it is a plain worker.

    Arguments:
        is_holon: whether the node's operator says that it is one.
    Raises:
        PermissionDenied: (NOT_A_HOLON) it says that it is a holon, and the operator does not.
        InvalidArgument: (HELLO_INVALID) the field at fault, and why.
    """
    says_so = hello.HasField("holon_identity")
    if not is_holon and not says_so:
        return None
    if not is_holon:
        raise PermissionDenied(
            f"worker {worker_id[:MAX_NAME]!r} identifies as a holon, but its parent does not know it as one. On the "
            'parent, its table in the file of WORKERS_CONFIG_PATH needs kind = "holon", and cn, spiffe or token',
            code="NOT_A_HOLON",
        )
    try:
        if not says_so:
            raise invalid("holon_identity", 'is needed: workers.toml of this node has kind = "holon" for this worker')
        return _holon_of(hello.holon_identity, hello.instance_id)
    except InvalidArgument as error:
        raise hello_invalid(error) from error


def _holon_of(said: worker_pb2.HolonIdentity, instance: str) -> HolonIdentity:
    if not is_id(instance):
        raise invalid("instance_id", "is needed for a holon: a new id at each start of its process")
    if len(said.holon_ids_below) > MAX_BELOW:
        raise invalid(
            "holon_identity.holon_ids_below", f"has {len(said.holon_ids_below)}, over the limit of {MAX_BELOW}"
        )
    for field, ids in (("holon_id", (said.holon_id,)), ("holon_ids_below", said.holon_ids_below)):
        if not all(is_id(one) for one in ids):
            raise invalid(f"holon_identity.{field}", "has an invalid holon id")
    if said.uplink_epoch < 1:
        raise invalid("holon_identity.uplink_epoch", f"is {said.uplink_epoch}; it must be 1 or more")
    return HolonIdentity(said.holon_id, said.uplink_epoch, instance, tuple(said.holon_ids_below), said.label[:MAX_NAME])


def hello_invalid(error: InvalidArgument) -> InvalidArgument:
    """The same error, as what is wrong with a Hello."""
    return InvalidArgument(f"Hello: {error.message}", code=HELLO_INVALID, details=error.details)


def _joining_of(hello: worker_pb2.Hello, worker_id: str, proof: Proof, max_message_bytes: int) -> Joining:
    if hello.WhichOneof("offered") is None:
        raise invalid("catalog", "is needed, or catalog_hash; send what the worker offers")
    if len(hello.labels) > MAX_LABELS:
        raise invalid("labels", f"has {len(hello.labels)} labels, over the limit of {MAX_LABELS}")
    for name, text in hello.labels.items():
        if len(name) > MAX_LABEL or len(text) > MAX_LABEL:
            raise invalid("labels", f"has a name or value of over {MAX_LABEL} characters: {name[:MAX_NAME]!r}")
    if len(hello.resume.leases) > MAX_RESUMED:
        raise invalid("resume.leases", f"has {len(hello.resume.leases)} leases, over the limit of {MAX_RESUMED}")
    if hello.HasField("max_message_bytes") and hello.max_message_bytes < LEAST_MESSAGE_BYTES:
        raise invalid("max_message_bytes", f"is {hello.max_message_bytes}, below the minimum of {LEAST_MESSAGE_BYTES}")
    # Once its session has opened, its leases are the new one's, and it could not be told.
    answered = WELCOME_BYTES + hello.resume.ByteSize() + RESUMED_BYTES * len(hello.resume.leases)
    if hello.resume.leases and answered > max_message_bytes:
        raise invalid(
            "resume.leases",
            f"has {len(hello.resume.leases)} leases; the Welcome for them may have {answered} bytes, but a message "
            f"to this worker may have only {max_message_bytes}; send fewer leases, or raise max_message_bytes",
        )
    return Joining(
        worker_id,
        credits_of(hello.credits) if hello.HasField("credits") else 1,
        catalog_of(hello.catalog),
        tuple(dict.fromkeys((lease.task_id, lease.lease_id) for lease in hello.resume.leases)),
        hello.instance_id[:MAX_NAME],
        " ".join(part[:MAX_NAME] for part in (hello.sdk.name, hello.sdk.version, hello.sdk.runtime) if part),
        dict(hello.labels),
        proof=proof,
    )


def credits_of(granted: int, where: str = "credits") -> int:
    """How many tasks a worker may hold, in all or of one offering.

    Raises:
        InvalidArgument: it is none of 0 to 10,000.
    """
    if not 0 <= granted <= MAX_CREDITS:
        raise invalid(where, f"is {granted}; it must be 0 to {MAX_CREDITS}")
    return granted


def offering_credits_of(granted: Sequence[worker_pb2.OfferingCredits]) -> dict[Offered, int]:
    """How many tasks of single offerings a worker may hold, by name, version and type.

    Raises:
        InvalidArgument: there are more than any worker offers, or one is none of 0 to 10,000.
    """
    if len(granted) > MAX_OFFERINGS:
        raise invalid("offering_credits", f"has {len(granted)} skills, over the limit of {MAX_OFFERINGS}")
    return {(one.skill, one.version, one.type): credits_of(one.credits, "offering_credits.credits") for one in granted}


def catalog_of(catalog: worker_pb2.Catalog) -> Catalog:
    """What a worker offers.

    Raises:
        InvalidArgument: an offering asks for what this node does not do, or cannot be read.
    """
    if len(catalog.offerings) > MAX_OFFERINGS:
        raise invalid("catalog.offerings", f"has {len(catalog.offerings)} skills, over the limit of {MAX_OFFERINGS}")
    if len(catalog.profiles) > MAX_PROFILES:
        raise invalid("catalog.profiles", f"has {len(catalog.profiles)} profiles, over the limit of {MAX_PROFILES}")
    places: dict[str, list[int]] = defaultdict(list)
    for place, profile in enumerate(catalog.profiles):
        places[profile.profile_id].append(place)
    skills = [_skill(one, f"catalog.offerings.{index}", places) for index, one in enumerate(catalog.offerings)]
    seen = set()
    for index, skill in enumerate(skills):
        what = (skill.name, skill.version, skill.type)
        if what in seen:
            raise invalid(f"catalog.offerings.{index}", f"has {skill.name!r} twice, with the same version and type")
        seen.add(what)
    for name, times in Counter(skill.name for skill in skills).most_common(1):
        if times > MAX_OF_ONE_SKILL:
            raise invalid("catalog.offerings", f"has {name!r} {times} times, over the limit of {MAX_OF_ONE_SKILL}")
    machines = [_machine(one.resources, f"catalog.profiles.{index}") for index, one in enumerate(catalog.profiles)]
    return Catalog(
        tuple(skills),
        tuple(machines),
        _loaded(catalog.hot_skills, "catalog.hot_skills", MAX_NAME),
        _loaded(catalog.cached, "catalog.cached", MAX_CACHED),
        doubts("catalog.profiles", machines),
    )


def _loaded(names: Sequence[str], where: str, longest: int) -> frozenset[str]:
    if len(names) > MAX_LOADED:
        raise invalid(where, f"has {len(names)} names, over the limit of {MAX_LOADED}")
    if not all(len(one) <= longest for one in names):
        raise invalid(where, f"has a name of over {longest} characters")
    return frozenset(names)


def _machine(resources: types_pb2.Resources, where: str) -> Machine:
    where = f"{where}.resources"
    _check_size(resources, where, "bytes")
    if len(resources.devices) > MAX_DEVICES:
        raise invalid(f"{where}.devices", f"has {len(resources.devices)} devices, over the limit of {MAX_DEVICES}")
    devices = [
        Device(one.type, one.model, one.id, _object(one.properties, f"{where}.devices.{index}.properties") or {})
        for index, one in enumerate(resources.devices)
    ]
    machine = Machine(tuple(devices), _object(resources.properties, f"{where}.properties") or {})
    # What is taken here must be taken by a parent too, and that gets it as this node writes it: 1e15 with its zeros.
    _check_size(resources_message(machine), where, "bytes, with numbers written out")
    return machine


def _check_size(resources: types_pb2.Resources, where: str, what: str) -> None:
    if (size := resources.ByteSize()) > MAX_MACHINE_BYTES:
        raise invalid(
            where, f"has {size} {what}, over the limit of {MAX_MACHINE_BYTES}; report fewer properties of the machine"
        )


def _skill(offering: worker_pb2.Offering, where: str, places: Mapping[str, Sequence[int]]) -> Skill:
    if not offering.skill:
        raise invalid(f"{where}.skill", "is empty; set it to the name of the skill")
    for field in ("skill", "type", "version"):
        if not is_name(getattr(offering, field)):
            raise invalid(f"{where}.{field}", f"must be at most {MAX_NAME} printable characters")
    if len(offering.description) > MAX_DESCRIPTION:
        raise invalid(
            f"{where}.description", f"has {len(offering.description)} characters, over the limit of {MAX_DESCRIPTION}"
        )
    if len(offering.statuses) > MAX_STATUSES:
        raise invalid(f"{where}.statuses", f"has {len(offering.statuses)} statuses, over the limit of {MAX_STATUSES}")
    if not all(0 < len(status) <= MAX_STATUS for status in offering.statuses):
        raise invalid(f"{where}.statuses", f"must each be 1 to {MAX_STATUS} characters")
    if not 0 <= offering.price <= MOST_COST:
        raise invalid(f"{where}.price", f"is {offering.price}; it must be from 0 to {MOST_COST}")
    if offering.holon_path:
        raise invalid(f"{where}.holon_path", "is not supported by this version; leave it unset")
    return Skill(
        offering.skill,
        offering.version,
        offering.type,
        _schema(offering.input_schema, f"{where}.input_schema") if offering.HasField("input_schema") else None,
        _schema(offering.output_schema, f"{where}.output_schema") if offering.HasField("output_schema") else None,
        offering.description,
        tuple(offering.statuses),
        offering.price if offering.HasField("price") else None,
        credits_of(offering.credits, f"{where}.credits") if offering.HasField("credits") else None,
        _places(offering.profile_ids, places) if offering.profile_ids else None,
        _events(offering, f"{where}.events") if offering.events else None,
    )


def _events(offering: worker_pb2.Offering, where: str) -> Mapping[str, Mapping[str, Any] | None]:
    """The events that a skill may send, with the schemas of their payloads."""
    if len(offering.events) > MAX_EVENTS:
        raise invalid(where, f"has {len(offering.events)} types of events, over the limit of {MAX_EVENTS}")
    events: dict[str, Mapping[str, Any] | None] = {}
    for index, one in enumerate(offering.events):
        if not is_event_type(one.type) or one.type in events:
            reason = f"must be 1 to {MAX_EVENT_TYPE} printable characters, and different from the others"
            raise invalid(f"{where}.{index}.type", reason)
        events[one.type] = _schema(one.schema, f"{where}.{index}.schema") if one.HasField("schema") else None
    return events


def _places(ids: Sequence[str], places: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """Where the machines with these ids stand; one that none has stands for no machine."""
    return tuple(sorted({place for one in ids for place in places.get(one, ())}))


def _schema(payload: types_pb2.Payload, where: str) -> Mapping[str, Any] | None:
    # Once it is read, it takes many times its text.
    if len(payload.data) > MAX_SCHEMA_BYTES:
        raise invalid(where, f"has {len(payload.data)} bytes, over the limit of {MAX_SCHEMA_BYTES}")
    return _object(payload, where)


def _object(payload: types_pb2.Payload, where: str) -> Mapping[str, Any] | None:
    try:
        found = decode(json_of(payload, where), where)
    except InvalidArgument as error:
        if error.details:
            raise
        reason = f"is not valid JSON: {error.message.removeprefix(f'{where}: ')}"
        raise InvalidArgument(f"{where} {reason}", code=error.code, details=[Violation(where, reason)]) from error
    if found is not None and not isinstance(found, dict):
        raise invalid(where, "is not a JSON object")
    return found
