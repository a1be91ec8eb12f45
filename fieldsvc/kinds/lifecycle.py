"""The work status of a job as a crew's operations move it: one table, no behaviour beside it.

A field fact implies the steps before it: a crew that forgot to tap "accept" has accepted when it arrives, and
``job.complete`` is possible from every status from ``dispatched`` on. An operation behind the current status is
``superseded``, not an error. What is not possible is None.
"""

from __future__ import annotations

STATUSES = (
    "waiting_to_be_scheduled",
    "scheduled",
    "dispatched",
    "accepted",
    "enroute",
    "on_site",
    "in_progress",
    "waiting_on_material",
    "suspended",
    "completed",
    "closed",
    "not_done",
    "returned",
    "cancelled",
)

SUPERSEDED = "superseded"

PHYSICAL = frozenset({"job.complete", "meter.exchange", "inspection.record", "defect.report"})
"""Operations whose fact is kept whoever sent it and whenever: they tell of something done or seen on site."""

STEPS = frozenset(
    "job.accept job.enroute job.arrive job.start job.suspend job.resume job.complete job.not_done job.return".split()
)
REMARKS = frozenset({"note.add", "job.update", "defect.report", "customer.update"})
"""Operations that do not move the job."""

WORK = "work"
"""The row of every operation that a kind adds: work on site, which implies that the job is in progress."""

BEFORE_SITE = ("dispatched", "accepted", "enroute")
STOPPED = ("waiting_on_material", "suspended")
DONE = frozenset({"completed", "closed"})
GIVEN_BACK = frozenset({"not_done", "returned"})
ACTIVE = (*BEFORE_SITE, "on_site", "in_progress", *STOPPED)


def _forward(target: str) -> dict[str, str]:
    """``target`` from every active status before it, superseded from there on."""
    reached = ACTIVE.index(target)
    row = {status: target if position < reached else SUPERSEDED for position, status in enumerate(ACTIVE)}
    return row | dict.fromkeys((*DONE, *GIVEN_BACK), SUPERSEDED)


TABLE: dict[str, dict[str, str]] = {
    "job.accept": _forward("accepted"),
    "job.enroute": _forward("enroute"),
    "job.arrive": _forward("on_site"),
    # a crew that comes back to a stopped job may tap "start" where it should tap "resume"
    "job.start": _forward("in_progress") | dict.fromkeys(STOPPED, "in_progress"),
    "job.suspend": dict.fromkeys(ACTIVE, "suspended") | dict.fromkeys((*STOPPED, *DONE, *GIVEN_BACK), SUPERSEDED),
    "job.resume": dict.fromkeys(STOPPED, "in_progress")
    | dict.fromkeys(("in_progress", *DONE, *GIVEN_BACK), SUPERSEDED),
    "job.complete": dict.fromkeys(ACTIVE, "completed"),
    "job.not_done": dict.fromkeys(ACTIVE, "not_done") | dict.fromkeys((*DONE, *GIVEN_BACK), SUPERSEDED),
    "job.return": dict.fromkeys(ACTIVE, "returned") | dict.fromkeys((*DONE, *GIVEN_BACK), SUPERSEDED),
    WORK: dict.fromkeys(ACTIVE, "in_progress"),
}


def is_physical(op_kind: str) -> bool:
    """Whether the operation's fact must be kept; what a kind adds is, because it is work on site."""
    return op_kind in PHYSICAL or op_kind not in STEPS | REMARKS


def allowed(status: str, op_kind: str) -> str | None:
    """The status after ``op_kind``: a status, ``"superseded"``, or None when it is not possible.

    Remarks leave the status as it is. On a cancelled job a note still stands; everything else but a physical fact is
    superseded.
    """
    if status not in STATUSES:
        return None
    if status == "cancelled":
        if op_kind == "note.add":
            return status
        return None if is_physical(op_kind) else SUPERSEDED
    if op_kind in REMARKS:
        return status
    return TABLE[op_kind if op_kind in STEPS else WORK].get(status)


def implies_arrival(status: str, to: str) -> bool:
    """Whether going from ``status`` to ``to`` means that the crew has come to the site meanwhile."""
    return status in BEFORE_SITE and to in ("on_site", "in_progress", "completed", "not_done")
