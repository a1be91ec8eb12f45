"""The interface every job kind is written against: what comes in, what may come out.

A kind is pure. It is given one :class:`Operation` of a device and the :class:`Situation` around it, and answers with a
:class:`Decision` that lists :data:`Effect` values. It loads nothing and stores nothing; ``sync`` loads the situation
and applies the effects, in their order, in one transaction.

Values in ``result``, ``energy`` and ``explanation`` are plain JSON-ready data; register values there are decimal
strings. In the effects themselves register values are :class:`~decimal.Decimal` and times are aware UTC datetimes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from fieldsvc.rules import RuleBook

REASONS = frozenset(
    "not_assigned reassigned cancelled completed_after_cancel duplicate_work bad_payload wrong_meter register_fell "
    "energy_mismatch seal_in_use hold_point_open missing_predecessor state_not_allowed unknown_entity clock_suspect "
    "stale_schema could_not_apply".split()
)
"""The stable reasons of the sync protocol; the list only grows."""

OUTCOMES = frozenset({"applied", "parked", "rejected", "superseded"})


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing a device sent, as far as a kind needs it.

    ``occurred_at`` is the estimated true time. ``clock_offset`` is what was added to the device's own time to get it;
    kinds add it to the times inside the payload, which are device times too.
    """

    op_id: str
    kind: str
    entity: str
    entity_id: str
    payload: dict[str, Any] | None
    was: dict[str, Any] | None
    set: dict[str, Any] | None
    occurred_at: datetime
    device_id: str
    crew_id: str
    clock_offset: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Situation:
    """What is on record around the job at the moment of judging.

    - ``job``: ``{id, kind, status, title, details, result, checkpoints, site_class, created_at, …}``; ``checkpoints``
      maps an item code to ``{"done": bool, …}`` (control points released by somebody other than the crew).
    - ``installation``: ``{meter_id, asset_no, digits, multiplier, installed_at, last_billed, last_billed_at,
      last_read, daily_kwh}`` of the meter now at the usage point. ``multiplier`` is a Decimal; ``last_billed`` and
      ``last_read`` map every register of the meter to a Decimal (before the first bill: the initial reading);
      ``last_billed_at`` and ``daily_kwh`` may be missing.
    - ``meter_by_asset``: asset number → ``{id, asset_no, digits, state, usage_point_id}`` for the asset numbers the
      operation names; ``usage_point_id`` is where the meter is installed now, or None.
    - ``seals``: ``{number, position, kind, …}`` now fitted at the usage point.
    - ``seal_numbers_in_use``: those of the numbers named by the operation that are fitted anywhere.
    - ``seals_elsewhere``: those of them that are fitted at another usage point now.
    - ``defects``: ``{id, item_code, job_id, found_at, state}`` of the usage point, open and closed.
    - ``checklist``: the checklist of the job's kind as :meth:`RuleBook.checklist` gives it, or None.
    - ``waived``: what a dispatcher decided in a review: ``completed_after_cancel``, ``energy_mismatch``,
      ``seal_in_use``, ``clock_suspect``, ``register_fell:wrap`` or ``register_fell:misread``. Empty on the first
      judgement.
    """

    job: dict[str, Any]
    rules: RuleBook
    now: datetime
    usage_point: dict[str, Any] | None = None
    customer: dict[str, Any] | None = None
    installation: dict[str, Any] | None = None
    meter_by_asset: dict[str, dict[str, Any]] = field(default_factory=dict)
    seals: tuple[dict[str, Any], ...] = ()
    seal_numbers_in_use: frozenset[str] = frozenset()
    seals_elsewhere: frozenset[str] = frozenset()
    defects: tuple[dict[str, Any], ...] = ()
    checklist: dict[str, Any] | None = None
    waived: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Move the job to the work status ``to``; ``reason`` and ``note`` are the crew's words for a stop."""

    to: str
    reason: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class SetResult:
    """Replace ``job.result``; whoever decides has carried over what stays."""

    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ExchangeMeter:
    """Take the old meter off and put the new one on, as one act at one time.

    Whoever applies it posts the ``final`` reading of the old meter (in state ``final_state``: ``posted`` or
    ``quarantined``) and the ``initial`` reading of the new one (``posted``). ``energy`` is the arithmetic as JSON.
    A new meter that is not in the register of assets yet is entered there.
    """

    old_asset_no: str
    new_asset_no: str
    at: datetime
    digits: int
    ct_ratio: int
    pt_ratio: int
    final: dict[str, Decimal]
    initial: dict[str, Decimal]
    energy: dict[str, Any]
    final_state: str = "posted"


@dataclass(frozen=True, slots=True)
class AddReadings:
    """Readings taken without an exchange. ``state`` is ``posted`` or ``quarantined``."""

    asset_no: str
    at: datetime
    reason: str
    values: dict[str, Decimal]
    state: str


@dataclass(frozen=True, slots=True)
class RemoveSeals:
    numbers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FitSeals:
    """Seals fitted now, each ``{number, position, kind, condition}`` (all but the number may be None)."""

    seals: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class OpenDefect:
    """A defect is born; ``deadline_at`` is None where no rule gives one for its grade and date."""

    item_code: str | None
    description: str
    grade_scheme: str
    grade: str
    found_at: datetime
    deadline_at: datetime | None


@dataclass(frozen=True, slots=True)
class CloseDefect:
    defect_id: str
    note: str


@dataclass(frozen=True, slots=True)
class AddContact:
    """One contact with the customer, for the service record."""

    channel: str
    subject: str
    outcome: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ReachStage:
    """A commitment clock's stage was reached: ``acceptance``, ``arrival``, ``restoration`` or ``completion``.

    The earliest time counts: a stage that has been reached at ``at`` or before stays as it is. A superseded decision
    may carry this effect, because an arrival that is synced late still counts at the time it happened.
    """

    clock: str
    at: datetime


@dataclass(frozen=True, slots=True)
class AddNote:
    """Append a remark to the job; never in conflict with anything."""

    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class MergeFields:
    """Merge an edit into the entity with ``base.merge`` and the rule pack's policies.

    The revision history that a three-way merge needs is not part of the situation, so the outcome of the operation
    is the merge's outcome, not the decision's.
    """

    entity: str
    was: dict[str, Any]
    set: dict[str, Any]


Effect = (
    SetStatus
    | SetResult
    | ExchangeMeter
    | AddReadings
    | RemoveSeals
    | FitSeals
    | OpenDefect
    | CloseDefect
    | AddContact
    | ReachStage
    | AddNote
    | MergeFields
)

Fault = dict[str, str]
"""``{"field": JSON pointer, "reason": words}``"""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an operation.

    ``effects`` are applied for ``applied`` and ``superseded`` (there only :class:`ReachStage`); ``parked`` and
    ``rejected`` have none. ``explanation`` is for the reviewer and for history.
    """

    outcome: str
    reason: str | None = None
    errors: tuple[Fault, ...] = ()
    effects: tuple[Effect, ...] = ()
    explanation: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"no such outcome: {self.outcome}")
        if self.reason is not None and self.reason not in REASONS:
            raise ValueError(f"no such reason: {self.reason}")
        if self.effects and self.outcome in ("parked", "rejected"):
            raise ValueError(f"a {self.outcome} operation changes nothing")


def applied(*effects: Effect, explanation: dict[str, Any] | None = None) -> Decision:
    return Decision("applied", effects=effects, explanation=explanation or {})


def parked(reason: str, explanation: dict[str, Any]) -> Decision:
    return Decision("parked", reason, explanation=explanation)


def rejected(reason: str, explanation: dict[str, Any] | None = None, errors: tuple[Fault, ...] = ()) -> Decision:
    return Decision("rejected", reason, errors=errors, explanation=explanation or {})


def superseded(reason: str | None, explanation: dict[str, Any], *effects: Effect) -> Decision:
    return Decision("superseded", reason, effects=effects, explanation=explanation)


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    :param operations: operation kind → Struct of its content (``payload``; for edits ``{"was", "set"}``).
    :param service_minutes: planning default for the time on site.
    :param result_type: Struct describing ``job.result`` once the job is completed, for the API's documentation.
    :param reconcile: ``(operation, situation) -> Decision``; pure, never raises on what a device sent.
    :param bulk: whether it is planned in bulk, by campaigns.
    :param interrupts_supply: whether the customer is without supply while it is done.
    :param needs_meter: whether it is done at a meter, and takes another one along.
    :param periodic: whether it falls due by the customer's inspection cycle.
    :param on_record: what is on record of the very things an operation speaks of, in the shape of its content, to be
        laid beside it; None: what the job's result has under the same names.
    """

    name: str
    title: str
    title_zh: str
    operations: Mapping[str, type[msgspec.Struct]]
    service_minutes: int
    skill: str
    result_type: type[msgspec.Struct]
    reconcile: Callable[[Operation, Situation], Decision]
    bulk: bool = False
    interrupts_supply: bool = False
    needs_meter: bool = False
    periodic: bool = False
    on_record: Callable[[Operation, Situation], dict[str, Any]] | None = None
