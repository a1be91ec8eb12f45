"""Job kinds: one file each, found by looking for modules of this package that have a ``KIND``.

A kind owns its operations, its result and its rules, and decides purely: see :mod:`fieldsvc.kinds.base`. A fourth kind
is one new file here; nothing else names it. Kinds do not know each other.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any

import msgspec

from fieldsvc.kinds.base import Decision, Kind, Operation, rejected
from fieldsvc.kinds.common import CUSTOMER_OPERATIONS, CustomerUpdate, content, edit
from fieldsvc.kinds.payloads import BadPayload, fault, read

__all__ = [
    "BadPayload",
    "UnknownKind",
    "discover",
    "get",
    "operation_types",
    "parse",
    "reconcile_customer",
    "register",
    "unregister",
]


class UnknownKind(LookupError):
    """No kind of that name."""


_added: dict[str, Kind] = {}


@lru_cache(maxsize=1)
def _own() -> dict[str, Kind]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)
    return _collect([import_module(f"{__name__}.{name}") for name in names])


def _collect(modules: Sequence[ModuleType]) -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for module in modules:
        kind = getattr(module, "KIND", None)
        if not isinstance(kind, Kind):
            continue
        if kind.name in found:
            raise ValueError(f"two kinds are called {kind.name}")
        found[kind.name] = kind
    return found


def discover(extra: Sequence[ModuleType] = ()) -> dict[str, Kind]:
    """All kinds by name: those of this package, those registered, and those of ``extra`` modules.

    :raises ValueError: two kinds of one name.
    """
    found = dict(_own())
    for more in (_added, _collect(extra)):
        for name, kind in more.items():
            if name in found:
                raise ValueError(f"two kinds are called {name}")
            found[name] = kind
    return found


def register(kind: Kind) -> None:
    """Add a kind that lives outside this package, for the life of the process.

    :raises ValueError: there is one of that name.
    """
    if kind.name in discover():
        raise ValueError(f"two kinds are called {kind.name}")
    _added[kind.name] = kind


def unregister(name: str) -> None:
    """Take back :func:`register`; a name that was not registered is left alone."""
    _added.pop(name, None)


def get(name: str) -> Kind:
    """:raises UnknownKind: no such kind."""
    found = _own().get(name) or _added.get(name)
    if found is None:
        raise UnknownKind(f"there is no job kind {name!r}")
    return found


def operation_types() -> dict[str, dict[str, type[msgspec.Struct]]]:
    """Operation kind → name of the job kind (``customer`` for edits of customers) → Struct of the content.

    The kinds share most Structs; documentation may fold what is the same.
    """
    types: dict[str, dict[str, type[msgspec.Struct]]] = {}
    for name, kind in sorted(discover().items()):
        for op_kind, struct in kind.operations.items():
            types.setdefault(op_kind, {})[name] = struct
    for op_kind, struct in CUSTOMER_OPERATIONS.items():
        types.setdefault(op_kind, {})["customer"] = struct
    return dict(sorted(types.items()))


def parse(kind_name: str, op_kind: str, payload: Any) -> msgspec.Struct:
    """The content of an operation, checked whole.

    :param kind_name: a job kind, or ``customer``.
    :param payload: the operation's ``payload``; for edits ``{"was": …, "set": …}``.
    :raises BadPayload: with ``errors``, one per fault; fields are JSON pointers into the operation.
    :raises UnknownKind: no such job kind.
    """
    operations: Mapping[str, type[msgspec.Struct]] = (
        CUSTOMER_OPERATIONS if kind_name == "customer" else get(kind_name).operations
    )
    struct = operations.get(op_kind)
    if struct is None:
        raise BadPayload((fault("/kind", f"{op_kind} is not an operation of {kind_name}"),))
    return read(struct, payload, "" if op_kind.endswith(".update") else "/payload")


def reconcile_customer(op: Operation) -> Decision:
    """Judge ``customer.update``: well-formed, it is one ``MergeFields`` on the customer."""
    if op.kind not in CUSTOMER_OPERATIONS:
        return rejected("bad_payload", errors=(fault("/kind", "is not an operation on a customer"),))
    try:
        update = read(CustomerUpdate, *content(op))
    except BadPayload as bad:
        return rejected("bad_payload", errors=bad.errors)
    return edit(op, update.set, "customer")
