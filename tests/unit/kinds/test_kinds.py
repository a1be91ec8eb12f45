from __future__ import annotations

from types import ModuleType

import msgspec
import pytest

from fieldsvc import kinds, rules
from fieldsvc.kinds.base import Decision, Kind, MergeFields, Operation, SetStatus, Situation, applied, parked
from fieldsvc.kinds.common import OPERATIONS, judge
from fieldsvc.kinds.payloads import Code
from tests.unit.kinds import conformance
from tests.unit.kinds.situations import NOON, fields, only, operation, situation


@pytest.mark.parametrize("name", sorted(kinds.discover()))
def test_every_kind_that_is_found_conforms(name):
    conformance.check(kinds.get(name))


@pytest.mark.parametrize("name", sorted(kinds.discover()))
def test_every_kind_has_its_planned_time_in_the_rules(name):
    kind = kinds.get(name)
    planned = rules.load().service(name, NOON.date()).value
    assert (planned["minutes"], planned["skill"]) == (kind.service_minutes, kind.skill)


def test_the_kinds_are_found():
    assert sorted(kinds.discover()) == ["assist", "meter_change", "repair", "safety_inspection"]


class TreeCut(msgspec.Struct):
    species: Code


def tree_kind(name: str = "tree_trimming") -> Kind:
    """A fourth kind, as its one file would be."""
    operations = {**OPERATIONS, "tree.cut": TreeCut}

    def cut(op: Operation, payload: TreeCut, around: Situation, moved: tuple) -> Decision:
        return applied(*moved, explanation={"species": payload.species})

    return Kind(
        name=name,
        title="Tree trimming",
        title_zh="树障清理",
        operations=operations,
        service_minutes=90,
        skill="climbing",
        result_type=TreeCut,
        reconcile=lambda op, around: judge(op, around, operations, {"tree.cut": cut}),
    )


def module_of(kind: Kind) -> ModuleType:
    module = ModuleType(kind.name)
    module.KIND = kind
    return module


def test_a_fourth_kind_is_one_file_and_conforms():
    found = kinds.discover([module_of(tree_kind())])
    assert "tree_trimming" in found
    conformance.check(found["tree_trimming"])
    assert "tree_trimming" not in kinds.discover()


def test_a_registered_kind_is_found_everywhere_until_it_is_taken_back():
    kinds.register(tree_kind())
    try:
        assert kinds.parse("tree_trimming", "tree.cut", {"species": "poplar"}).species == "poplar"
        assert kinds.operation_types()["tree.cut"] == {"tree_trimming": TreeCut}
        decision = kinds.get("tree_trimming").reconcile(
            operation("tree.cut", {"species": "poplar"}), situation("accepted", "tree_trimming")
        )
        assert only(decision, SetStatus).to == "in_progress"
        with pytest.raises(ValueError, match="two kinds"):
            kinds.register(tree_kind())
    finally:
        kinds.unregister("tree_trimming")
    with pytest.raises(kinds.UnknownKind):
        kinds.get("tree_trimming")


def test_two_kinds_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two kinds are called repair"):
        kinds.discover([module_of(tree_kind("repair"))])
    with pytest.raises(ValueError, match="two kinds are called repair"):
        kinds.register(tree_kind("repair"))
    with pytest.raises(ValueError, match="two kinds are called tree"):
        kinds.discover([module_of(tree_kind("tree")), module_of(tree_kind("tree"))])


def test_operation_types_cover_kinds_and_customers():
    types = kinds.operation_types()
    assert set(types["meter.exchange"]) == {"meter_change"}
    assert set(types["job.complete"]) == {"assist", "meter_change", "repair", "safety_inspection"}
    assert set(types["customer.update"]) == {"customer"}


def test_a_customer_edit_is_one_merge():
    op = operation(
        "customer.update", entity="customer", entity_id="K-1", was={"phone": "1"}, set={"phone": "2", "balance": "0"}
    )
    decision = kinds.reconcile_customer(op)
    assert decision.effects == (MergeFields("customer", {"phone": "1"}, {"phone": "2"}),)
    assert decision.explanation == {"ignored": ["balance"]}


@pytest.mark.parametrize(
    ("op", "field"),
    [
        (operation("customer.update", set={"phone": 5}), "/set/phone"),
        (operation("customer.update", set={"name": None}), "/set/name"),
        (operation("customer.update", set={}), "/set"),
        (operation("customer.update"), "/set"),
        (operation("job.update", set={"title": "x"}), "/kind"),
    ],
)
def test_a_malformed_customer_edit_names_the_member(op, field):
    decision = kinds.reconcile_customer(op)
    assert (decision.outcome, fields(decision)) == ("rejected", [field])


def test_a_decision_cannot_be_of_an_unknown_outcome_or_reason_or_change_what_it_refuses():
    with pytest.raises(ValueError, match="no such outcome"):
        Decision("done")
    with pytest.raises(ValueError, match="no such reason"):
        parked("bad_weather", {})
    with pytest.raises(ValueError, match="changes nothing"):
        Decision("parked", "wrong_meter", effects=(SetStatus("completed"),))
