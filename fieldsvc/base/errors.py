"""Domain errors: what a use case raises; the door turns them into RFC 9457 problems.

Every error carries a stable ``code`` (kebab-case). :data:`CODES` is the whole list: code -> HTTP status and title. A
code that is not on the list cannot be raised, so the documentation and the API cannot fall behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CODES: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request could not be read"),
    "bad-cursor": (400, "The cursor is not one of ours"),
    "unauthenticated": (401, "Who are you?"),
    "forbidden": (403, "Not allowed"),
    "device-revoked": (403, "This device has been revoked"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "Method not allowed"),
    "not-acceptable": (406, "Not acceptable"),
    "conflict": (409, "In conflict with what is there"),
    "already-exists": (409, "There is one already"),
    "state-not-allowed": (409, "Not possible in this state"),
    "idempotency-key-reused": (409, "The Idempotency-Key was used for another request"),
    "code-used": (409, "The enrolment code has been used"),
    "install-in-use": (409, "This installation is enrolled already"),
    "offset-mismatch": (409, "The upload is not at this offset"),
    "code-expired": (410, "The enrolment code has expired"),
    "upload-expired": (410, "The upload has expired"),
    "precondition-failed": (412, "Changed meanwhile"),
    "too-large": (413, "Too large"),
    "unsupported-media-type": (415, "Unsupported media type"),
    "invalid": (422, "The content is not valid"),
    "upgrade-required": (426, "This app version is too old to pull"),
    "precondition-required": (428, "If-Match is required"),
    "too-many-requests": (429, "Too many requests"),
    "checksum-mismatch": (460, "What came is not what was sent"),
    "internal": (500, "Our mistake"),
    "unavailable": (503, "Not available right now"),
}


class FieldsvcError(Exception):
    """An expected failure with a stable code.

    :param code: a key of :data:`CODES`.
    :param detail: one sentence for a person, without secrets and without driver text.
    :param errors: ``{"field": "/json/pointer or name", "reason": "…"}`` per fault, for malformed content.
    :param extra: further members of the problem document, and ``retry_after`` (seconds).
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        errors: Sequence[dict[str, Any]] = (),
        retry_after: int | None = None,
        **extra: Any,
    ) -> None:
        self.status, self.title = CODES[code]
        self.code = code
        self.detail = detail or self.title
        self.errors = list(errors)
        self.retry_after = retry_after
        self.extra = extra
        super().__init__(f"{code}: {self.detail}")


class Invalid(FieldsvcError):
    """422: the content is malformed; each fault names its field and reason."""

    def __init__(self, detail: str = "", *, errors: Sequence[dict[str, Any]] = (), **extra: Any) -> None:
        super().__init__("invalid", detail, errors=errors, **extra)

    @classmethod
    def field(cls, field: str, reason: str) -> Invalid:
        return cls(f"{field}: {reason}", errors=[{"field": field, "reason": reason}])


class NotFound(FieldsvcError):
    """404, also for what the caller may not see."""

    def __init__(self, what: str, ident: str = "") -> None:
        super().__init__("not-found", f"there is no {what} {ident}".rstrip())


class Forbidden(FieldsvcError):
    def __init__(self, detail: str) -> None:
        super().__init__("forbidden", detail)


class Conflict(FieldsvcError):
    """409 in one of its kinds: the request is well-formed, the state of things says no."""

    def __init__(self, detail: str, code: str = "conflict", **extra: Any) -> None:
        super().__init__(code, detail, **extra)
