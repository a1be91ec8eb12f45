"""Tables of work: tickets -> incidents -> jobs, who had a job when, promises, and dispatch runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fieldsvc.base.db import Base


class Incident(Base):
    """The underlying fault. Tickets point to it; none is deleted when they merge.

    ``state``: open, merged (into ``merged_into_id``; its tickets point there) or closed. ``kind`` is the kind of job
    that goes out for it, ``lead_job_id`` the one that does. Transformer area, feeder and place are those of the first
    call, ``areas`` all transformer areas with calls. ``calls`` counts its tickets, ``customers`` those who called, each
    once. ``opened_at`` and ``last_call_at`` are when the first and the last of them called. ``joinable``: a rule may
    put it together with others; what a dispatcher has parted no longer is. ``told_at``: when all who called were noted
    as told that it is over.
    """

    __tablename__ = "incident"
    __table_args__ = (
        Index("ix_incident_state_territory_id_last_call_at", "state", "territory_id", "last_call_at"),
        Index("ix_incident_opened_at_id", "opened_at", "id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    state: Mapped[str] = mapped_column(String(12), default="open")
    territory_id: Mapped[str | None] = mapped_column(ForeignKey("territory.id"))
    kind: Mapped[str | None] = mapped_column(String(30))
    transformer_area: Mapped[str | None] = mapped_column(String(80))
    areas: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    feeder: Mapped[str | None] = mapped_column(String(80))
    lon: Mapped[float | None]
    lat: Mapped[float | None]
    hazards: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    calls: Mapped[int] = mapped_column(default=1, server_default="1")
    customers: Mapped[int] = mapped_column(default=1, server_default="1")
    joinable: Mapped[bool] = mapped_column(default=False, server_default=false())
    lead_job_id: Mapped[str | None] = mapped_column(String(36), index=True)
    merged_into_id: Mapped[str | None] = mapped_column(ForeignKey("incident.id"), index=True)
    opened_at: Mapped[datetime]
    last_call_at: Mapped[datetime | None]
    told_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]


class IncidentMerge(Base):
    """Incidents taken for one fault. ``state``: proposed, merged, declined, undone or overtaken (the incidents merged
    otherwise or ended before anybody decided).

    ``reason`` is same_transformer_area, same_feeder, near_in_space_and_time or by_hand, ``words`` says it with its
    numbers, ``rule`` cites the rule. ``before`` is what undoing brings back.
    """

    __tablename__ = "incident_merge"
    __table_args__ = (
        Index("ix_incident_merge_state_territory_id", "state", "territory_id"),
        Index("ix_incident_merge_created_at_id", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    state: Mapped[str] = mapped_column(String(12))
    into_id: Mapped[str] = mapped_column(ForeignKey("incident.id"), index=True)
    from_ids: Mapped[list[Any]]
    territory_id: Mapped[str | None] = mapped_column(ForeignKey("territory.id"))
    reason: Mapped[str] = mapped_column(String(30))
    words: Mapped[str] = mapped_column(String(300))
    rule: Mapped[str | None] = mapped_column(String(300))
    automatic: Mapped[bool]
    created_at: Mapped[datetime]
    created_by: Mapped[str | None] = mapped_column(String(36))
    created_by_name: Mapped[str | None] = mapped_column(String(120))
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None] = mapped_column(String(36))
    decided_by_name: Mapped[str | None] = mapped_column(String(120))
    undone_at: Mapped[datetime | None]
    undone_by: Mapped[str | None] = mapped_column(String(36))
    undone_by_name: Mapped[str | None] = mapped_column(String(120))
    before: Mapped[dict[str, Any] | None]


class Ticket(Base):
    """One intake (CIM TroubleTicket): what a caller reported, kept as it came."""

    __tablename__ = "ticket"
    __table_args__ = (Index("ix_ticket_received_at", "received_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    number: Mapped[str] = mapped_column(String(40), unique=True)
    external_key: Mapped[str | None] = mapped_column(String(120), unique=True)
    reporting_kind: Mapped[str] = mapped_column(String(20))
    trouble_code: Mapped[str | None] = mapped_column(String(60))
    description: Mapped[str] = mapped_column(String(4000), default="")
    hazards: Mapped[list[Any]] = mapped_column(default=list)
    caller_name: Mapped[str | None] = mapped_column(String(120))
    caller_phone: Mapped[str | None] = mapped_column(String(40))
    customer_id: Mapped[str | None] = mapped_column(ForeignKey("customer.id"), index=True)
    usage_point_id: Mapped[str | None] = mapped_column(ForeignKey("usage_point.id"))
    lon: Mapped[float | None]
    lat: Mapped[float | None]
    address: Mapped[str | None] = mapped_column(String(300))
    territory_id: Mapped[str | None] = mapped_column(ForeignKey("territory.id"), index=True)
    incident_id: Mapped[str] = mapped_column(ForeignKey("incident.id"), index=True)
    job_id: Mapped[str | None] = mapped_column(String(36))
    received_at: Mapped[datetime]
    created_at: Mapped[datetime]


class Job(Base):
    """Dispatchable work (CIM Work). ``priority`` 1 is the most urgent; ``service_minutes`` is the planned time on site.

    ``details`` is what the kind needs to know before, ``result`` what the crew found. ``field_revs`` says per field at
    which revision and by whom it was last changed; ``assignment_rev`` grows with every change of crew. ``attention``
    lists what a dispatcher has to decide: ``{"op_id", "op_kind", "reason", "crew_id", "review_id"}`` each. ``evidence``
    is what has come of the files that applied work requires; None: it requires none.

    For planning: ``required_skills`` and ``required_equipment`` come on top of what the kind needs; ``load`` is how
    much of a crew's capacity it takes. ``pinned``: no dispatch run takes it from its crew; with ``pinned_start`` nor
    moves it in time. ``follows_job_id``: may not begin before that job is done. ``assists_job_id``: a second crew for
    that job, there at the same time. ``customers_affected`` weighs one fault against another.
    """

    __tablename__ = "job"
    __table_args__ = (
        Index("ix_job_status_created_at", "status", "created_at"),
        Index("ix_job_territory_id_status", "territory_id", "status"),
        Index("ix_job_crew_id_status", "crew_id", "status"),
        Index("ix_job_lon_lat", "lon", "lat"),
        Index("ix_job_created_at_id", "created_at", "id"),
        Index("ix_job_completed_at", "completed_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    number: Mapped[str] = mapped_column(String(40), unique=True)
    external_key: Mapped[str | None] = mapped_column(String(120), unique=True)
    kind: Mapped[str] = mapped_column(String(30), index=True)
    status: Mapped[str] = mapped_column(String(30))
    priority: Mapped[int] = mapped_column(default=5)
    title: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(String(4000), default="")
    hazards: Mapped[list[Any]] = mapped_column(default=list)
    access_note: Mapped[str | None] = mapped_column(String(1000))
    contact_phone: Mapped[str | None] = mapped_column(String(40))
    notes: Mapped[list[Any]] = mapped_column(default=list)
    tags: Mapped[list[Any]] = mapped_column(default=list)
    lon: Mapped[float | None]
    lat: Mapped[float | None]
    address: Mapped[str | None] = mapped_column(String(300))
    site_class: Mapped[str] = mapped_column(String(10), default="urban")
    territory_id: Mapped[str | None] = mapped_column(ForeignKey("territory.id"))
    territory_reason: Mapped[str | None] = mapped_column(String(200))
    customer_id: Mapped[str | None] = mapped_column(ForeignKey("customer.id"), index=True)
    usage_point_id: Mapped[str | None] = mapped_column(ForeignKey("usage_point.id"), index=True)
    incident_id: Mapped[str | None] = mapped_column(ForeignKey("incident.id"), index=True)
    crew_id: Mapped[str | None] = mapped_column(ForeignKey("crew.id"))
    assignment_rev: Mapped[int] = mapped_column(default=0)
    planned_start: Mapped[datetime | None]
    planned_order: Mapped[int | None]
    planned_end: Mapped[datetime | None]
    pinned: Mapped[bool] = mapped_column(default=False, server_default=false())
    pinned_start: Mapped[datetime | None]
    required_skills: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    required_equipment: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    load: Mapped[int] = mapped_column(default=0, server_default="0")
    follows_job_id: Mapped[str | None] = mapped_column(ForeignKey("job.id"), index=True)
    assists_job_id: Mapped[str | None] = mapped_column(ForeignKey("job.id"), index=True)
    customers_affected: Mapped[int | None]
    service_minutes: Mapped[int]
    window_start: Mapped[datetime | None]
    window_end: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    reported_at: Mapped[datetime | None]
    checklist: Mapped[str | None] = mapped_column(String(60))
    checklist_version: Mapped[int | None]
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    result: Mapped[dict[str, Any] | None]
    completed_at: Mapped[datetime | None]
    attention: Mapped[list[Any]] = mapped_column(default=list)
    evidence: Mapped[dict[str, Any] | None]
    rev: Mapped[int] = mapped_column(default=1)
    field_revs: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    clocks: Mapped[list[CommitmentClock]] = relationship(viewonly=True)


class Assignment(Base):
    """Which crew had a job, from when to when; ``assignment_rev`` is the job's at that time.

    ``planned_start`` and ``planned_end``: when the crew was to do it, as planned when it was taken away.
    """

    __tablename__ = "assignment"
    __table_args__ = (UniqueConstraint("job_id", "assignment_rev"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    crew_id: Mapped[str] = mapped_column(ForeignKey("crew.id"), index=True)
    assignment_rev: Mapped[int]
    assigned_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ended_reason: Mapped[str | None] = mapped_column(String(40))
    run_id: Mapped[str | None] = mapped_column(String(36))
    planned_start: Mapped[datetime | None]
    planned_end: Mapped[datetime | None]


class CommitmentClock(Base):
    """One promise of a job. ``verdict``: running, paused, met, missed or exempted; ``source`` cites the rule."""

    __tablename__ = "commitment_clock"
    __table_args__ = (UniqueConstraint("job_id", "kind"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    kind: Mapped[str] = mapped_column(String(20))
    started_at: Mapped[datetime]
    due_at: Mapped[datetime]
    verdict: Mapped[str] = mapped_column(String(10), default="running")
    reached_at: Mapped[datetime | None]
    known_at: Mapped[datetime | None]
    source: Mapped[str] = mapped_column(String(300))


class DispatchRun(Base):
    """One request to plan. ``state``: queued, running, done, failed or cancelled.

    ``mode``: ``fill`` gives what waits to crews and moves nothing else; ``replan`` plans everything anew that is not
    under way; ``insert`` puts ``job_id`` in and shows what it displaces; ``crew_out`` plans anew what
    ``without_crew_ids`` hold. A ``what_if`` run changes nothing until somebody accepts it. ``before`` and ``after`` are
    the totals of the plan in force and of this one: jobs, assigned, late, metres, travel_minutes, overtime_minutes.
    ``travel`` says where the travel times came from. ``waits_for`` is the run that is planning one of its territories
    while this one is queued.
    """

    __tablename__ = "dispatch_run"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    state: Mapped[str] = mapped_column(String(10), default="queued")
    mode: Mapped[str] = mapped_column(String(10), default="fill", server_default="fill")
    what_if: Mapped[bool] = mapped_column(default=False, server_default=false())
    territory_ids: Mapped[list[Any] | None]
    scope_territory_ids: Mapped[list[Any] | None]
    kinds: Mapped[list[Any] | None]
    job_id: Mapped[str | None] = mapped_column(String(36))
    without_crew_ids: Mapped[list[Any] | None]
    waits_for: Mapped[str | None] = mapped_column(String(36))
    plan_from: Mapped[datetime]
    plan_until: Mapped[datetime | None]
    requested_by: Mapped[str | None] = mapped_column(String(36))
    requested_by_name: Mapped[str | None] = mapped_column(String(120))
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    considered: Mapped[int] = mapped_column(default=0)
    assigned: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    failure: Mapped[str | None] = mapped_column(String(300))
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    travel: Mapped[dict[str, Any] | None]
    accepted_at: Mapped[datetime | None]
    accepted_by: Mapped[str | None] = mapped_column(String(36))
    accepted_by_name: Mapped[str | None] = mapped_column(String(120))


class DispatchArea(Base):
    """A part of a run that is planned by itself: some territories and the crews that work there in this run.

    ``stage``: ``area``, or ``border`` for the second pass, in which neighbours help out with what is left. ``state``:
    queued, running (it is being planned), planned (what was decided is being carried out), done, failed or cancelled.
    ``before`` and ``after`` are its share of the run's.
    """

    __tablename__ = "dispatch_area"

    run_id: Mapped[str] = mapped_column(ForeignKey("dispatch_run.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    stage: Mapped[str] = mapped_column(String(10), default="area")
    state: Mapped[str] = mapped_column(String(10), default="queued")
    territory_ids: Mapped[list[Any]]
    crew_ids: Mapped[list[Any]]
    attempts: Mapped[int] = mapped_column(default=0)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    considered: Mapped[int] = mapped_column(default=0)
    assigned: Mapped[int] = mapped_column(default=0)
    failure: Mapped[str | None] = mapped_column(String(300))
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    travel: Mapped[dict[str, Any] | None]


class DispatchClaim(Base):
    """A territory that a run is planning right now: one run per area at a time."""

    __tablename__ = "dispatch_claim"

    territory_id: Mapped[str] = mapped_column(ForeignKey("territory.id"), primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("dispatch_run.id"), index=True)
    claimed_at: Mapped[datetime]


class DispatchDecision(Base):
    """What a run decided for one job and why; ``crew_id`` is empty when it found nobody.

    ``why`` holds the numbers behind ``detail``. ``former_*`` is what the job had when the plan was made, ``seen`` what
    must not have changed when the decision is carried out. ``taken``: ``wanted`` (to be carried out), ``accepted``,
    ``changed_meanwhile`` or None (of a what-if run that nobody has accepted).
    """

    __tablename__ = "dispatch_decision"
    __table_args__ = (Index("ix_dispatch_decision_job_id", "job_id"),)

    run_id: Mapped[str] = mapped_column(ForeignKey("dispatch_run.id"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    area: Mapped[int | None]
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    crew_id: Mapped[str | None] = mapped_column(ForeignKey("crew.id"))
    reason: Mapped[str] = mapped_column(String(40))
    detail: Mapped[str] = mapped_column(String(500))
    why: Mapped[dict[str, Any] | None]
    planned_start: Mapped[datetime | None]
    planned_end: Mapped[datetime | None]
    planned_order: Mapped[int | None]
    distance_m: Mapped[float | None]
    late_minutes: Mapped[float | None]
    former_crew_id: Mapped[str | None] = mapped_column(String(36))
    former_start: Mapped[datetime | None]
    seen: Mapped[list[Any] | None]
    taken: Mapped[str | None] = mapped_column(String(20))


class PlannedOutage(Base):
    """When a transformer area is to be without supply. ``state``: planned or cancelled."""

    __tablename__ = "planned_outage"
    __table_args__ = (Index("ix_planned_outage_transformer_area_starts_at", "transformer_area", "starts_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    transformer_area: Mapped[str] = mapped_column(String(80))
    starts_at: Mapped[datetime] = mapped_column(index=True)
    ends_at: Mapped[datetime]
    reason: Mapped[str] = mapped_column(String(300), default="")
    state: Mapped[str] = mapped_column(String(10), default="planned")
    rev: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Campaign(Base):
    """Bulk work over some weeks. Days are local dates in ``zone``, ISO 8601.

    ``state``: planning, draft (a schedule to be looked at), releasing (jobs are being made), released, cancelling,
    cancelled or failed. ``asked`` is what was wanted: which usage points, which crews, days off. ``territory_ids`` are
    those of its usage points; who sees them all sees the campaign, unless some points lie in none (``beyond``).
    ``touched_at``: when a worker last did part of it.
    """

    __tablename__ = "campaign"
    __table_args__ = (Index("ix_campaign_created_at_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    kind: Mapped[str] = mapped_column(String(30))
    state: Mapped[str] = mapped_column(String(10), default="planning", index=True)
    from_day: Mapped[str] = mapped_column(String(10))
    until_day: Mapped[str] = mapped_column(String(10))
    zone: Mapped[str] = mapped_column(String(60))
    asked: Mapped[dict[str, Any]]
    territory_ids: Mapped[list[Any]]
    beyond: Mapped[bool] = mapped_column(default=False)
    items: Mapped[int] = mapped_column(default=0)
    done_items: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    failure: Mapped[str | None] = mapped_column(String(300))
    requested_by: Mapped[str | None] = mapped_column(String(36), index=True)
    requested_by_name: Mapped[str | None] = mapped_column(String(120))
    created_at: Mapped[datetime]
    touched_at: Mapped[datetime]


class CampaignItem(Base):
    """One usage point of a campaign: its day, when work may begin, and why then; or, without a day, why not.

    ``day`` is the local day its shift begins on. ``job_id`` is the job made of it.
    """

    __tablename__ = "campaign_item"
    __table_args__ = (
        Index("ix_campaign_item_usage_point_id", "usage_point_id"),
        Index("ix_campaign_item_job_id", "job_id"),
    )

    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    usage_point_id: Mapped[str] = mapped_column(ForeignKey("usage_point.id"))
    transformer_area: Mapped[str | None] = mapped_column(String(80))
    day: Mapped[str | None] = mapped_column(String(10))
    night: Mapped[bool] = mapped_column(default=False)
    window_start: Mapped[datetime | None]
    window_end: Mapped[datetime | None]
    outage_id: Mapped[str | None] = mapped_column(ForeignKey("planned_outage.id"), index=True)
    reason: Mapped[str] = mapped_column(String(30))
    detail: Mapped[str] = mapped_column(String(300))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("job.id"))


class Routine(Base):
    """When something that is done once in a while was last done."""

    __tablename__ = "routine"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    done_at: Mapped[datetime]
