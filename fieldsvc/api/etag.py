"""``ETag`` and ``If-Match``: nobody overwrites a change that they have not seen. The tag is the record's revision."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import request

from fieldsvc.api.frame import document
from fieldsvc.base.errors import FieldsvcError


def tag(rev: int) -> dict[str, str]:
    """The ``ETag`` header of revision ``rev``."""
    return {"ETag": f'"{rev}"'}


def if_match(*, required: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Document the ``If-Match`` header of a view, and refuse (428) a request without it where it is required.

    The view then calls :func:`check` with the revision it has locked.
    """

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if required and not request.headers.get("If-Match"):
                raise FieldsvcError("precondition-required", "send the ETag you have seen as If-Match")
            return view(*args, **kwargs)

        parameter = {
            "name": "If-Match",
            "in": "header",
            "required": required,
            "description": "The ETag of the revision this change is meant for.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 100, "pattern": '^("[0-9]{1,18}"|\\*)$'},
        }
        codes = ["precondition-failed"] + (["precondition-required"] if required else [])
        return document(wrapper, parameters=[parameter], errors=codes)

    return decorate


def check(rev: int) -> None:
    """Compare ``If-Match``, when it was sent, with the current revision.

    :raises FieldsvcError: ``precondition-failed`` (412), with the current ``rev``.
    """
    sent = request.headers.get("If-Match")
    if sent is None:
        return
    tags = [part.strip() for part in sent.split(",")]
    if "*" not in tags and f'"{rev}"' not in tags:
        raise FieldsvcError("precondition-failed", f"this is at revision {rev} by now: read it again", current_rev=rev)
