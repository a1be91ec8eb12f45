from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from fieldsvc.kinds.base import ExchangeMeter, FitSeals, RemoveSeals, SetResult, SetStatus
from fieldsvc.kinds.meter_change import KIND
from tests.unit.kinds.situations import (
    NOON,
    exchange,
    fields,
    installation,
    meter_situation,
    only,
    operation,
    reached,
)

REGISTERS = ("sharp", "peak", "flat", "valley")


def judge(payload=None, **around):
    return KIND.reconcile(operation("meter.exchange", payload or exchange()), meter_situation(**around))


def test_an_exchange_is_one_act_at_one_time():
    decision = judge()
    assert decision.outcome == "applied"
    act = only(decision, ExchangeMeter)
    assert (act.old_asset_no, act.new_asset_no, act.at) == ("OLD-1", "NEW-1", NOON)
    assert (act.digits, act.ct_ratio, act.pt_ratio, act.final_state) == (6, 1, 1, "posted")
    assert act.final == {"total": Decimal("48213.6")}
    assert act.initial == {"total": Decimal("0.0")}
    assert only(decision, RemoveSeals).numbers == ("S-1",)
    assert [seal["number"] for seal in only(decision, FitSeals).seals] == ["S-9"]
    assert only(decision, SetStatus).to == "in_progress"
    assert only(decision, SetResult).result["exchange"]["at"] == "2026-11-21T12:00:00Z"


def test_seals_come_off_before_the_meter_and_go_on_after_it():
    kinds = [type(effect).__name__ for effect in judge().effects]
    assert kinds == ["SetStatus", "RemoveSeals", "ExchangeMeter", "FitSeals", "SetResult"]


def test_the_arithmetic_is_shown():
    step = judge(installation=installation(multiplier=Decimal(40))).explanation["energy"]["total"]
    assert step == {
        "last_billed": "48000",
        "final": "48213.6",
        "difference": "213.6",
        "multiplier": "40",
        "energy_kwh": "8544",
        "new_part_kwh": "0",
        "wrapped": False,
    }


def test_an_exchange_from_the_road_implies_the_arrival():
    assert reached(judge(status="dispatched")) == {"arrival": NOON}


def test_seals_may_be_given_by_number_alone():
    fitted = only(judge(exchange(new={"seals": ["S-9"]})), FitSeals)
    assert fitted.seals == ({"number": "S-9", "position": None, "kind": None, "condition": None},)


def test_a_meter_that_is_not_the_one_on_record_is_parked_with_both():
    decision = judge(
        exchange(old={"asset_no": "ODD-7"}), meter_by_asset={"ODD-7": {"id": "M-7", "usage_point_id": "U-2"}}
    )
    assert (decision.outcome, decision.reason) == ("parked", "wrong_meter")
    assert decision.explanation["on_site"] == {
        "asset_no": "ODD-7",
        "final": {"total": "48213.6"},
        "known": True,
        "installed_at_usage_point": "U-2",
    }
    assert decision.explanation["on_record"]["asset_no"] == "OLD-1"
    assert decision.explanation["energy_if_the_record_were_meant"] == {"total": "213.6"}


def test_a_place_without_a_meter_on_record_parks_the_exchange():
    decision = judge(installation=None)
    assert decision.reason == "wrong_meter"
    assert decision.explanation["on_record"] is None


def test_a_wrong_meter_cannot_be_waved_through():
    waived = frozenset({"wrong_meter"})
    assert judge(exchange(old={"asset_no": "ODD-7"}), waived=waived).outcome == "parked"
    installed = {"NEW-1": {"id": "M-2", "usage_point_id": "U-2"}}
    assert judge(meter_by_asset=installed, waived=waived).outcome == "parked"


@pytest.mark.parametrize(("place", "outcome"), [(None, "applied"), ("U-2", "parked")])
def test_a_meter_is_on_one_usage_point_at_a_time(place, outcome):
    decision = judge(meter_by_asset={"NEW-1": {"id": "M-2", "state": "in_stock", "usage_point_id": place}})
    assert decision.outcome == outcome
    if place:
        assert decision.reason == "wrong_meter"
        assert decision.explanation["problems"][0]["new_meter_installed_elsewhere"]["usage_point_id"] == "U-2"


def test_the_old_meter_is_not_its_own_replacement():
    decision = judge(exchange(new={"asset_no": "OLD-1"}))
    assert (decision.outcome, decision.reason, fields(decision)) == (
        "rejected",
        "bad_payload",
        ["/payload/new/asset_no"],
    )


@pytest.mark.parametrize(("final", "outcome"), [("48100.0", "applied"), ("48099.9", "parked")])
def test_a_register_below_its_last_reading_is_parked(final, outcome):
    decision = judge(exchange(old={"registers": {"total": final}}))
    assert decision.outcome == outcome
    assert decision.reason == (None if outcome == "applied" else "register_fell")


def test_a_fall_lists_wrap_and_misread_with_their_plausibility():
    record = installation(
        last_billed={"total": Decimal("999900.0")}, last_read={}, daily_kwh=Decimal("7"), multiplier=Decimal(1)
    )
    decision = judge(exchange(old={"registers": {"total": "110.0"}}), installation=record)
    assert decision.reason == "register_fell"
    wrap, misread = decision.explanation["problems"][0]["registers"]["total"]
    assert (wrap["kind"], wrap["energy_kwh"]) == ("wrap", "210")
    assert wrap["arithmetic"] == "(10^6 - 999900 + 110) x 1"
    assert (wrap["typical_kwh"], wrap["days"], wrap["plausibility"]) == ("210", 30, "1")
    assert (misread["kind"], misread["fell_by"], misread["plausibility"]) == ("misread", "999790", "0")


def test_a_wrap_that_typical_use_contradicts_is_hardly_plausible():
    record = installation(daily_kwh=Decimal("7"))
    decision = judge(exchange(old={"registers": {"total": "47900.0"}}), installation=record)
    wrap, misread = decision.explanation["problems"][0]["registers"]["total"]
    assert Decimal(wrap["plausibility"]) < Decimal("0.001")
    assert Decimal(misread["plausibility"]) > Decimal("0.999")


def test_even_a_perfect_wrap_is_never_assumed():
    record = installation(last_billed={"total": Decimal("999990")}, last_read={}, daily_kwh=Decimal("1"))
    assert judge(exchange(old={"registers": {"total": "20"}}), installation=record).outcome == "parked"


def test_without_known_use_the_position_on_the_register_speaks():
    record = installation(last_billed={"total": Decimal("990000")}, last_read={})
    decision = judge(exchange(old={"registers": {"total": "10000"}}), installation=record)
    wrap, _misread = decision.explanation["problems"][0]["registers"]["total"]
    assert (wrap["basis"], wrap["plausibility"]) == ("position on the register", "0.9801")


def test_a_dispatcher_who_decides_for_a_wrap_gets_its_energy_posted():
    record = installation(last_billed={"total": Decimal("999900")}, last_read={})
    payload = exchange(old={"registers": {"total": "110"}})
    decision = judge(payload, installation=record, waived=frozenset({"register_fell:wrap"}))
    act = only(decision, ExchangeMeter)
    assert (act.energy["energy"]["total"]["energy_kwh"], act.final_state) == ("210", "posted")
    assert act.energy["energy"]["total"]["wrapped"] is True


def test_a_dispatcher_who_decides_for_a_misread_gets_the_reading_quarantined():
    payload = exchange(old={"registers": {"total": "110"}})
    act = only(judge(payload, waived=frozenset({"register_fell:misread"})), ExchangeMeter)
    assert (act.energy["energy"]["total"]["energy_kwh"], act.final_state) == (None, "quarantined")


def four_rates(total, last_read=None, multiplier=1):
    """An exchange of a meter of four rates that used 10 of each, with ``total`` as the total's use."""
    record = installation(
        last_billed={name: Decimal(100) for name in (*REGISTERS, "total")},
        last_read=last_read or {},
        multiplier=Decimal(multiplier),
    )
    final = dict.fromkeys(REGISTERS, "110") | {"total": str(Decimal(100) + Decimal(total))}
    new = {"registers": dict.fromkeys((*REGISTERS, "total"), "0")}
    return judge(exchange(old={"registers": final}, new=new), installation=record)


@pytest.mark.parametrize(
    ("total", "outcome"), [("39", "applied"), ("41", "applied"), ("38.9", "parked"), ("41.1", "parked")]
)
@pytest.mark.parametrize("multiplier", [1, 40])
def test_the_rates_must_add_up_to_the_total_within_tolerance(total, outcome, multiplier):
    decision = four_rates(total, multiplier=multiplier)
    assert decision.outcome == outcome
    sums = decision.explanation["sum"]
    assert sums["checked"]
    assert sums["sum"] == str(40 * multiplier)
    if outcome == "parked":
        assert decision.reason == "energy_mismatch"
        assert decision.explanation["problems"][0]["sum"]["within"] is False


def test_a_large_total_may_differ_by_its_share():
    record = installation(last_billed={name: Decimal(0) for name in (*REGISTERS, "total")}, last_read={})
    new = {"registers": {"total": "0"}}

    def with_total(total):
        final = dict.fromkeys(REGISTERS, "2500") | {"total": total}
        return judge(exchange(old={"registers": final}, new=new), installation=record).outcome

    assert with_total("9981") == "applied"
    assert with_total("9980") == "parked"


def test_three_rates_are_checked_and_two_are_not():
    def outcome(names):
        record = installation(last_billed={name: Decimal(0) for name in (*names, "total")}, last_read={})
        final = dict.fromkeys(names, "10") | {"total": "500"}
        return judge(exchange(old={"registers": final}), installation=record).outcome

    assert outcome(("peak", "flat", "valley")) == "parked"
    assert outcome(("peak", "valley")) == "applied"


def test_the_new_meter_must_start_with_rates_that_add_up():
    new = {"registers": {"total": "100", "peak": "0", "flat": "0", "valley": "0"}}
    decision = judge(exchange(new=new))
    assert decision.reason == "energy_mismatch"
    assert "new_sum" in decision.explanation["problems"][0]


def test_a_register_that_was_not_read_parks_the_exchange():
    record = installation(last_billed={"total": Decimal(1), "peak": Decimal(1)})
    decision = judge(installation=record)
    assert decision.reason == "energy_mismatch"
    assert decision.explanation["problems"][0]["missing_registers"] == ["peak"]


def test_a_register_that_the_record_does_not_have_parks_the_exchange():
    decision = judge(exchange(old={"registers": {"total": "48213.6", "peak": "1"}}))
    assert decision.explanation["problems"][0]["registers_not_on_record"] == ["peak"]


def test_a_sum_that_a_dispatcher_let_pass_is_posted_with_its_arithmetic():
    record = installation(last_billed={"total": Decimal(1), "peak": Decimal(1)}, last_read={})
    decision = judge(installation=record, waived=frozenset({"energy_mismatch"}))
    assert decision.outcome == "applied"
    assert decision.explanation["energy"]["total"]["energy_kwh"] == "48212.6"


@pytest.mark.parametrize(("in_use", "outcome"), [(frozenset(), "applied"), (frozenset({"S-9"}), "parked")])
def test_a_seal_is_fitted_once(in_use, outcome):
    decision = judge(seal_numbers_in_use=in_use)
    assert decision.outcome == outcome
    if in_use:
        assert decision.reason == "seal_in_use"
        assert decision.explanation["problems"][0]["seals"] == ["S-9"]


def test_a_removed_seal_that_is_still_on_record_is_no_seal_in_use():
    assert judge(seal_numbers_in_use=frozenset({"S-1"}), seals=({"number": "S-1"},)).outcome == "applied"


def test_a_seal_removed_here_that_is_on_record_elsewhere_is_no_seal_of_this_place():
    decision = judge(seals_elsewhere=frozenset({"S-1"}))
    assert decision.reason == "seal_in_use"
    assert decision.explanation["problems"][0]["seals_removed_here_and_fitted_elsewhere"] == ["S-1"]
    assert judge(seals_elsewhere=frozenset({"S-1"}), waived=frozenset({"seal_in_use"})).outcome == "applied"


def test_a_meter_is_not_taken_off_before_it_was_put_on():
    record = installation(installed_at=NOON)
    late = operation("meter.exchange", exchange(), occurred_at=NOON - timedelta(seconds=1))
    decision = KIND.reconcile(late, meter_situation(installation=record))
    assert decision.reason == "clock_suspect"
    (problem,) = decision.explanation["problems"]
    assert problem["old_meter_installed_at"] > problem["occurred_at"]
    let_pass = KIND.reconcile(late, meter_situation(installation=record, waived=frozenset({"clock_suspect"})))
    (act,) = [effect for effect in let_pass.effects if isinstance(effect, ExchangeMeter)]
    assert (let_pass.outcome, act.at) == ("applied", NOON), "at the earliest moment it can have been"
    in_time = operation("meter.exchange", exchange(), occurred_at=NOON)
    assert KIND.reconcile(in_time, meter_situation(installation=record)).outcome == "applied"


def test_seals_that_do_not_agree_with_the_record_are_remarked():
    explanation = judge(seals=({"number": "S-2"},)).explanation
    assert explanation["seals_removed_not_on_record"] == ["S-1"]
    assert explanation["seals_on_record_not_removed"] == ["S-2"]


def test_all_problems_are_listed_the_gravest_first():
    decision = judge(
        exchange(old={"registers": {"total": "47000"}}),
        meter_by_asset={"NEW-1": {"usage_point_id": "U-2"}},
        seal_numbers_in_use=frozenset({"S-9"}),
    )
    reasons = [problem["reason"] for problem in decision.explanation["problems"]]
    assert (decision.reason, reasons) == ("wrong_meter", ["wrong_meter", "register_fell", "seal_in_use"])


@pytest.mark.parametrize(("value", "outcome"), [("999999.9", "applied"), ("1000000", "rejected")])
def test_a_value_the_old_meter_cannot_show_is_refused(value, outcome):
    decision = judge(exchange(old={"registers": {"total": value}}))
    assert decision.outcome == outcome
    assert fields(decision) == ([] if outcome == "applied" else ["/payload/old/registers/total"])


@pytest.mark.parametrize(("value", "outcome"), [("99999", "applied"), ("100000", "rejected")])
def test_a_value_the_new_meter_cannot_show_is_refused(value, outcome):
    decision = judge(exchange(new={"digits": 5, "registers": {"total": value}}))
    assert decision.outcome == outcome
    assert fields(decision) == ([] if outcome == "applied" else ["/payload/new/registers/total"])


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (exchange(old={"registers": {"total": 48213.6}}), "/payload/old/registers/total"),
        (exchange(old={"registers": {"total": "1e5"}}), "/payload/old/registers/total"),
        (exchange(old={"registers": {"total": "-1"}}), "/payload/old/registers/total"),
        (exchange(old={"registers": {"total": "1\n"}}), "/payload/old/registers/total"),
        (exchange(old={"registers": {"total": "١٢"}}), "/payload/old/registers/total"),
        (exchange(old={"registers": {"total": "1234567890123"}}), "/payload/old/registers/total"),
        (exchange(old={"registers": {"total": "1.1234567"}}), "/payload/old/registers/total"),
        (exchange(old={"registers": {"night": "1"}}), "/payload/old/registers/night"),
        (exchange(old={"registers": {}}), "/payload/old/registers"),
        (exchange(old={"asset_no": ""}), "/payload/old/asset_no"),
        (exchange(old={"asset_no": "A" * 61}), "/payload/old/asset_no"),
        (exchange(old={"seals": ["S-1", "S-1"]}), "/payload/old/seals/1"),
        (exchange(new={"seals": ["S-1", {"number": "S-1"}]}), "/payload/new/seals/1"),
        (exchange(new={"seals": [3]}), "/payload/new/seals/0"),
        (exchange(new={"seals": ["S"] * 41}), "/payload/new/seals"),
        (exchange(new={"registers": {"peak": "0"}}), "/payload/new/registers/total"),
        (exchange(new={"digits": 0}), "/payload/new/digits"),
        (exchange(new={"digits": 13}), "/payload/new/digits"),
        (exchange(new={"digits": True}), "/payload/new/digits"),
        (exchange(new={"digits": 10**30}), "/payload/new/digits"),
        (exchange(new={"ct_ratio": 0}), "/payload/new/ct_ratio"),
        (exchange(new={"pt_ratio": 100_001}), "/payload/new/pt_ratio"),
    ],
)
def test_a_malformed_exchange_names_the_member(payload, field):
    decision = judge(payload)
    assert (decision.outcome, decision.reason, fields(decision)) == ("rejected", "bad_payload", [field])
    assert decision.errors[0]["reason"]


def test_a_payload_that_is_no_object_is_refused():
    decision = KIND.reconcile(operation("meter.exchange", None), meter_situation())
    assert sorted(fields(decision)) == ["/payload/new", "/payload/old"]


def test_a_second_exchange_on_one_job_is_duplicate_work():
    first = only(judge(), SetResult).result
    decision = judge(exchange(new={"asset_no": "NEW-2"}), status="in_progress", result=first)
    assert (decision.outcome, decision.reason) == ("parked", "duplicate_work")
    assert decision.explanation["recorded"]["new"]["asset_no"] == "NEW-1"
    assert decision.explanation["second"]["new"]["asset_no"] == "NEW-2"


def test_an_exchange_after_completion_is_duplicate_work_and_after_cancel_kept():
    assert judge(status="completed").reason == "duplicate_work"
    assert judge(status="cancelled").reason == "completed_after_cancel"


def test_a_meter_change_is_completed_only_after_its_exchange():
    op = operation("job.complete", {"work_done": "meter changed"})
    early = KIND.reconcile(op, meter_situation("in_progress"))
    assert (early.outcome, early.reason) == ("rejected", "state_not_allowed")
    assert "meter.exchange" in early.explanation["text"]
    done = KIND.reconcile(op, meter_situation("in_progress", result=only(judge(), SetResult).result))
    assert only(done, SetStatus).to == "completed"
    assert only(done, SetResult).result["exchange"]["new"]["asset_no"] == "NEW-1"


def test_an_unknown_new_meter_is_said_to_be_entered():
    key = "new_meter_entered_in_register_of_assets"
    assert judge().explanation[key] == "NEW-1"
    assert key not in judge(meter_by_asset={"NEW-1": {"usage_point_id": None}}).explanation


@pytest.mark.parametrize("year", [1, 1970, 9999])
def test_a_clock_far_off_does_not_stop_the_judgement(year):
    op = operation("meter.exchange", exchange(old={"registers": {"total": "5"}}), occurred_at=NOON.replace(year=year))
    assert KIND.reconcile(op, meter_situation()).reason == "register_fell"


def test_the_typical_use_counts_from_the_installation_where_no_bill_was_made():
    record = installation(
        last_billed={"total": Decimal("999990")},
        last_read={},
        last_billed_at=None,
        installed_at=NOON - timedelta(days=10),
        daily_kwh=Decimal(2),
    )
    decision = judge(exchange(old={"registers": {"total": "10"}}), installation=record)
    wrap, _misread = decision.explanation["problems"][0]["registers"]["total"]
    assert (wrap["days"], wrap["plausibility"]) == (10, "1")
