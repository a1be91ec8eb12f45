"""Meters: what is installed where, exchanging one for another, readings and seals.

A swap is one act: the old installation ends at the moment the new one begins, and the readings of both ends are posted
with it. One meter is at one usage point at a time; unique indexes hold that even when two crews are wrong at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from fieldsvc.base.clock import new_id
from fieldsvc.base.db import db
from fieldsvc.base.errors import Conflict, Invalid
from fieldsvc.base.plain import plain
from fieldsvc.feed import publish
from fieldsvc.history.record import Source, record
from fieldsvc.kinds.base import AddReadings, ExchangeMeter
from fieldsvc.records import documents
from fieldsvc.records.documents import last_readings
from fieldsvc.records.models import Meter, MeterInstallation, MeterReading, Seal, ServiceLocation, UsagePoint


def installed_at(usage_point_id: str, *, hold: bool = False) -> MeterInstallation | None:
    """The open installation of a usage point; ``hold`` keeps its row until the transaction ends."""
    query = select(MeterInstallation).where(
        MeterInstallation.usage_point_id == usage_point_id, MeterInstallation.removed_at.is_(None)
    )
    if hold:
        query = query.with_for_update(of=MeterInstallation)
    return db.session.scalar(query)


def installation_facts(installation: MeterInstallation) -> dict[str, Any]:
    """What the rules need to know of the meter now installed (see ``kinds.base.Situation.installation``)."""
    last = {reading.register: reading for reading in last_readings(installation.meter_id)}
    initial: dict[str, MeterReading] = {}
    for reading in db.session.scalars(
        select(MeterReading)
        .where(MeterReading.meter_id == installation.meter_id, MeterReading.state == "posted")
        .order_by(MeterReading.read_at.desc(), MeterReading.id.desc())
        .limit(400)
    ):
        initial[reading.register] = reading
    facts: dict[str, Any] = {
        "meter_id": installation.meter_id,
        "asset_no": installation.meter.asset_no,
        "digits": installation.meter.digits,
        "multiplier": installation.ct_ratio * installation.pt_ratio,
        "installed_at": installation.installed_at,
        "last_billed": {register: reading.value for register, reading in last.items()},
        "last_read": {register: reading.value for register, reading in last.items()},
    }
    total, first = last.get("total"), initial.get("total")
    if total is not None:
        facts["last_billed_at"] = total.read_at
        if first is not None and (days := (total.read_at - first.read_at).days) >= 7 and total.value >= first.value:
            facts["daily_kwh"] = (total.value - first.value) * facts["multiplier"] / days
    return facts


def by_asset(asset_numbers: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Asset number -> ``{id, asset_no, digits, state, usage_point_id}`` of the meters on record among them."""
    rows = db.session.execute(
        select(Meter, MeterInstallation.usage_point_id)
        .outerjoin(MeterInstallation, (MeterInstallation.meter_id == Meter.id) & MeterInstallation.removed_at.is_(None))
        .where(Meter.asset_no.in_(list(asset_numbers)))
    )
    return {
        meter.asset_no: {
            "id": meter.id,
            "asset_no": meter.asset_no,
            "digits": meter.digits,
            "state": meter.state,
            "usage_point_id": usage_point_id,
        }
        for meter, usage_point_id in rows
    }


def register_meter(source: Source, asset_no: str, digits: int, **context: Any) -> Meter:
    """Enter a meter into the register of assets, in stock."""
    meter = Meter(id=new_id(), asset_no=asset_no, digits=digits, state="in_stock", rev=1)
    db.session.add(meter)
    record(source, "meter.registered", "meter", meter.id, after={"asset_no": asset_no, "digits": digits}, **context)
    return meter


def exchange(
    source: Source, usage_point: UsagePoint, act: ExchangeMeter, context: Mapping[str, Any]
) -> tuple[Meter, Meter]:
    """Take the old meter off and put the new one on, with the readings of both ends; answers the two.

    ``context`` names the job, customer and territory for history. The decision has been made: this does not judge
    again.
    """
    old = installed_at(usage_point.id, hold=True)
    assert old is not None and old.meter.asset_no == act.old_asset_no, "decided on another meter than is installed"
    old.removed_at = act.at
    old.removed_by_job_id = context.get("job_id")
    old.meter.state = "removed"
    old.meter.rev += 1
    new = db.session.scalar(select(Meter).where(Meter.asset_no == act.new_asset_no).with_for_update())
    if new is None:
        new = register_meter(source, act.new_asset_no, act.digits, **context)
    new.state = "installed"
    new.digits = act.digits
    new.rev += 1
    db.session.flush()  # the old installation is closed before the new one opens: one open per usage point
    db.session.add(
        MeterInstallation(
            id=new_id(),
            meter_id=new.id,
            usage_point_id=usage_point.id,
            installed_at=act.at,
            ct_ratio=Decimal(act.ct_ratio),
            pt_ratio=Decimal(act.pt_ratio),
            installed_by_job_id=context.get("job_id"),
        )
    )
    usage_point.rev += 1
    _post(source, old.meter_id, usage_point.id, act.at, "final", act.final, act.final_state, context)
    _post(source, new.id, usage_point.id, act.at, "initial", act.initial, "posted", context)
    record(
        source,
        "meter.exchanged",
        "usage_point",
        usage_point.id,
        before={"asset_no": act.old_asset_no, "final": plain(act.final)},
        after={
            "asset_no": act.new_asset_no,
            "initial": plain(act.initial),
            "at": plain(act.at),
            "energy": plain(act.energy),
        },
        **context,
    )
    return old.meter, new


def correct(
    source: Source,
    usage_point: UsagePoint,
    asset_no: str,
    *,
    digits: int,
    registers: Mapping[str, Decimal],
    read_at: datetime,
    note: str,
) -> None:
    """The record named the wrong meter: another one hangs at the usage point, and did all along.

    The wrong installation is closed at its own beginning, the right one takes its place with its ratios and with
    ``registers``, the values it is billed to. What crews sent meanwhile is judged again by whoever reviews it.

    :raises Invalid: ``read_at`` lies in the future.
    :raises Conflict: no meter is on record there, it is this one already, or this one is on record elsewhere.
    """
    if read_at > source.recorded_at:
        raise Invalid.field("/read_at", "lies in the future")
    wrong = installed_at(usage_point.id, hold=True)
    if wrong is None:
        raise Conflict("no meter is on record at this usage point")
    if wrong.meter.asset_no == asset_no:
        raise Conflict(f"meter {asset_no} is on record at this usage point already")
    location = db.session.get_one(ServiceLocation, usage_point.location_id)
    context = {"customer_id": usage_point.customer_id, "territory_id": location.territory_id}
    right = _meter_that_hangs_nowhere(source, asset_no, digits, context)
    wrong.removed_at = wrong.installed_at
    wrong.meter.state = "removed"
    wrong.meter.rev += 1
    right.state = "installed"
    right.rev += 1
    usage_point.rev += 1
    db.session.flush()
    installation = MeterInstallation(
        id=new_id(),
        meter_id=right.id,
        usage_point_id=usage_point.id,
        installed_at=wrong.installed_at,
        ct_ratio=wrong.ct_ratio,
        pt_ratio=wrong.pt_ratio,
        meter=right,
    )
    db.session.add(installation)
    _post(source, right.id, usage_point.id, read_at, "correction", registers, "posted", context)
    record(
        source,
        "meter.corrected",
        "usage_point",
        usage_point.id,
        before={"asset_no": wrong.meter.asset_no},
        after={"asset_no": asset_no, "registers": plain(registers), "read_at": plain(read_at)},
        note=note,
        **context,
    )
    db.session.flush()
    _show_corrected(usage_point, installation, wrong)


def _meter_that_hangs_nowhere(source: Source, asset_no: str, digits: int, context: Mapping[str, Any]) -> Meter:
    meter = db.session.scalar(select(Meter).where(Meter.asset_no == asset_no).with_for_update())
    if meter is None:
        return register_meter(source, asset_no, digits, **context)
    if by_asset([asset_no])[asset_no]["usage_point_id"] is not None:
        raise Conflict(f"meter {asset_no} is on record at another usage point")
    return meter


def _show_corrected(usage_point: UsagePoint, right: MeterInstallation, wrong: MeterInstallation) -> None:
    """Every crew that holds the usage point gets the right meter and lets go of the wrong one."""
    scopes = publish.holders("usage_point", [usage_point.id]).get(usage_point.id, set())
    publish.put(scopes, "usage_point", usage_point.id, usage_point.rev, documents.usage_point_doc(usage_point, right))
    publish.put(scopes, "meter", right.meter_id, right.meter.rev, documents.meter_doc(right))
    for scope in publish.holders("meter", [wrong.meter_id]).get(wrong.meter_id, ()):
        publish.leave(scope, "meter", wrong.meter_id, wrong.meter.rev, "corrected")


def add_readings(source: Source, usage_point: UsagePoint, act: AddReadings, context: Mapping[str, Any]) -> Meter | None:
    """Keep readings taken without an exchange; a meter that is not on record leaves them in history only."""
    meter = db.session.scalar(select(Meter).where(Meter.asset_no == act.asset_no).with_for_update())
    if meter is not None:
        meter.rev += 1
        _post(source, meter.id, usage_point.id, act.at, act.reason, act.values, act.state, context)
    record(
        source,
        "meter.read",
        "usage_point",
        usage_point.id,
        after={"asset_no": act.asset_no, "values": plain(act.values), "at": plain(act.at), "state": act.state},
        **context,
    )
    return meter


def _post(
    source: Source,
    meter_id: str,
    usage_point_id: str,
    at: datetime,
    reason: str,
    values: Mapping[str, Decimal],
    state: str,
    context: Mapping[str, Any],
) -> None:
    for register, value in sorted(values.items()):
        db.session.add(
            MeterReading(
                id=new_id(),
                meter_id=meter_id,
                usage_point_id=usage_point_id,
                read_at=at,
                reason=reason,
                register=register,
                value=value,
                state=state,
                job_id=context.get("job_id"),
                op_id=source.op_id,
            )
        )


def seals_at(usage_point_id: str) -> tuple[dict[str, Any], ...]:
    """The seals now fitted at a usage point."""
    rows = db.session.scalars(
        select(Seal).where(Seal.usage_point_id == usage_point_id, Seal.removed_at.is_(None)).order_by(Seal.number)
    )
    return tuple({"number": s.number, "position": s.position, "kind": s.kind, "condition": s.condition} for s in rows)


def seal_numbers_in_use(numbers: Iterable[str]) -> frozenset[str]:
    """Those of ``numbers`` that are on record already: a seal number is used once."""
    return frozenset(db.session.scalars(select(Seal.number).where(Seal.number.in_(list(numbers)))))


def seals_elsewhere(numbers: Iterable[str], usage_point_id: str) -> frozenset[str]:
    """Those of ``numbers`` that are fitted now, but at another usage point."""
    fitted = select(Seal.number).where(
        Seal.number.in_(list(numbers)), Seal.usage_point_id != usage_point_id, Seal.removed_at.is_(None)
    )
    return frozenset(db.session.scalars(fitted))


def remove_seals(source: Source, numbers: Iterable[str], at: datetime, context: Mapping[str, Any]) -> list[Seal]:
    """Seals taken off; one that was never on record is remembered as removed, because it was there."""
    known = _seals(numbers)
    removed: list[Seal] = []
    for number in numbers:
        seal = known.get(number)
        if seal is None:
            seal = Seal(id=new_id(), number=number, condition="not on record", rev=0)
            db.session.add(seal)
        seal.removed_at = at
        seal.removed_by_job_id = context.get("job_id")
        seal.rev += 1
        removed.append(seal)
        record(source, "seal.removed", "seal", seal.id, after={"number": number, "at": plain(at)}, **context)
    return removed


def _seals(numbers: Iterable[str]) -> dict[str, Seal]:
    rows = db.session.scalars(
        select(Seal).where(Seal.number.in_(list(numbers))).order_by(Seal.number).with_for_update()
    )
    return {seal.number: seal for seal in rows}


def fit_seals(
    source: Source,
    usage_point: UsagePoint,
    seals: Iterable[Mapping[str, Any]],
    at: datetime,
    context: Mapping[str, Any],
) -> list[Seal]:
    """Seals put on at a usage point, on the meter that is there now; one that was on record elsewhere is here now."""
    db.session.flush()
    seals = list(seals)
    installation = installed_at(usage_point.id)
    known = _seals(given["number"] for given in seals)
    fitted: list[Seal] = []
    for given in seals:
        seal = known.get(given["number"])
        before = None
        if seal is None:
            seal = Seal(id=new_id(), number=given["number"], rev=0)
            db.session.add(seal)
        else:
            before = {"usage_point_id": seal.usage_point_id, "removed_at": plain(seal.removed_at)}
        seal.kind, seal.position, seal.condition = given.get("kind"), given.get("position"), given.get("condition")
        seal.usage_point_id = usage_point.id
        seal.meter_id = installation.meter_id if installation else None
        seal.fitted_at, seal.fitted_by_job_id = at, context.get("job_id")
        seal.removed_at = seal.removed_by_job_id = None
        seal.rev += 1
        fitted.append(seal)
        after = {"number": seal.number, "position": seal.position}
        record(source, "seal.fitted", "seal", seal.id, before=before, after=after, **context)
    return fitted
