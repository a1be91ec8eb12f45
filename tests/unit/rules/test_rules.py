from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from fieldsvc import rules
from fieldsvc.base.merge import POLICIES
from fieldsvc.kinds.common import GRADES
from fieldsvc.rules import NoRule, RuleBook, RuleError
from fieldsvc.rules.book import kilovolts, version_numbers
from fieldsvc.rules.loader import PACKS

TODAY = date(2026, 11, 21)


@pytest.fixture(scope="module")
def book() -> RuleBook:
    return rules.load()


def written(folder: Path, text: str, name: str = "pack.toml") -> RuleBook:
    (folder / name).write_text(text, "utf-8")
    return rules.load_folder(folder)


def entry(value: object = 45, **other: object) -> str:
    members = {"promise": "arrival_minutes", "site_class": "urban", "edition": "first", "source": "a source"} | other
    lines = [f'{name} = "{text}"' for name, text in members.items() if text is not None and name != "effective_from"]
    lines += [f"effective_from = {other.get('effective_from', '2020-01-01')}", f"value = {value}"]
    return "[[entry]]\n" + "\n".join(lines) + "\n"


# -- the packs that come with the package ---------------------------------------------------------------------------


@pytest.mark.parametrize(("site_class", "minutes"), [("urban", 45), ("rural", 90), ("remote", 120)])
def test_the_arrival_promise_is_the_published_one(book, site_class, minutes):
    answer = book.promises(TODAY, site_class)["arrival_minutes"]
    assert answer.value == minutes
    assert "State Grid" in answer.source


def test_promises_include_those_for_every_place(book):
    promises = book.promises(TODAY, "rural")
    assert promises["dispute_answer_working_days"].value == 7
    assert promises["new_supply_visit_days"].value == 30
    assert promises["reconnection_days"].value == 0


@pytest.mark.parametrize(
    ("entity", "field", "policy"),
    [
        ("job", "title", "server_wins"),
        ("job", "access_note", "latest_occurred"),
        ("job", "contact_phone", "latest_occurred"),
        ("job", "notes", "append"),
        ("job", "tags", "set_union"),
        ("job", "priority", "server_wins"),
        ("job", "parts_estimate", "review"),
        ("job", "status", "state_machine"),
        ("job", "something_new", "review"),
        ("customer", "phone", "latest_occurred"),
        ("customer", "name", "review"),
        ("customer", "name_local", "review"),
        ("customer", "access_note", "latest_occurred"),
        ("customer", "notes", "append"),
        ("customer", "number", "must_match"),
    ],
)
def test_each_field_has_its_merge_policy(book, entity, field, policy):
    assert book.policy(entity, field, TODAY).value == policy
    policies = book.policies(entity, TODAY)
    assert policies.get(field, policies["*"]) == policy


def test_a_kind_of_job_may_have_a_policy_of_its_own_for_a_field(book):
    assert book.policy("job", "priority", TODAY).value == "server_wins"
    assert book.policy("job", "priority", TODAY, "safety_inspection").value == "min"
    assert book.policies("job", TODAY, "safety_inspection") == book.policies("job", TODAY) | {"priority": "min"}
    assert book.policy("job", "tags", TODAY, "safety_inspection").value == "set_union"
    assert book.policies("job", TODAY, "repair") == book.policies("job", TODAY)


def policy(value, **other):
    keys = {"entity": "job", "kind": "*", "field": "tags", "promise": None, "site_class": None}
    return entry(f'"{value}"', **(keys | other))


def test_an_edition_of_the_policies_has_a_name_that_stays(tmp_path):
    packs = 'pack = "policies"\n' + policy("append") + policy("review", field="*")
    old = written(tmp_path, packs)
    first = old.policy_version(TODAY)
    assert re.fullmatch(r"2020-01-01\.[0-9a-f]{8}", first)
    assert old.policy_version(date(2019, 12, 31)) == "none"
    new = written(tmp_path, packs + policy("set_union", effective_from="2026-11-01"))
    assert new.policy_version(date(2026, 10, 31)) == first, "an old date keeps its edition"
    assert new.policy_version(date(2026, 11, 1)) == new.policy_version(TODAY) != first
    changed = written(tmp_path, packs.replace('"append"', '"max"'))
    assert changed.policy_version(TODAY) != first, "the same date with other words is another edition"


def test_an_operator_puts_editions_beside_the_package(tmp_path):
    (tmp_path / "ours.toml").write_text('pack = "policies"\n' + policy("append", effective_from="2026-06-01"), "utf-8")
    try:
        book = rules.read_also(tmp_path)
        assert rules.load() is book
        assert book.policy("job", "tags", TODAY).value == "append"
        assert book.policy("job", "tags", date(2026, 5, 31)).value == "set_union"
        assert book.policies("customer", TODAY), "what the package brings stays"
        again = policy("append", effective_from="2000-01-01")
        (tmp_path / "more.toml").write_text('pack = "policies"\n' + again, "utf-8")
        assert rules.load() is book, "read once per process"
        with pytest.raises(RuleError, match=r"more.toml entry 1: says the same as policies.toml entry"):
            rules.load_folder(PACKS, tmp_path)
    finally:
        rules.read_also(None)
    with pytest.raises(RuleError, match="no rule packs here"):
        rules.load_folder(PACKS, tmp_path / "nothing")


def test_an_entity_without_policies_is_said_to_have_none(book):
    with pytest.raises(NoRule, match="spaceship"):
        book.policy("spaceship", "colour", TODAY)


@pytest.mark.parametrize(
    ("importance", "voltage", "customer_class", "months"),
    [
        ("special", "220V", "hospital", 3),
        ("first", "10kV", "industrial", 6),
        ("none", "35kV", "industrial", 6),
        ("none", "34.9 kV", "residential", 12),
        ("none", "9.9kV", "residential", 36),
        ("none", "220V", "residential", 36),
        ("none", None, "school", 12),
        ("none", "unreadable", "commercial", 24),
        ("second", None, "residential", 12),
    ],
)
def test_the_strictest_cycle_that_applies_is_the_customers(book, importance, voltage, customer_class, months):
    assert book.cycle_months(importance, voltage, customer_class, TODAY).value == months


def test_a_cycle_says_which_entry_decided(book):
    assert "hospitals" in book.cycle_months("none", "220V", "hospital", TODAY).source


@pytest.mark.parametrize(
    ("text", "kv"),
    [
        ("10kV", 10),
        ("10 KV", 10),
        ("10", 10),
        (10, 10),
        (0.4, 0.4),
        ("220V", 0.22),
        ("", None),
        ("ten", None),
        (None, None),
    ],
)
def test_voltage_levels_are_read_as_people_write_them(text, kv):
    assert kilovolts(text) == kv


def test_every_grade_of_both_schemes_has_a_deadline(book):
    for scheme, grades in GRADES.items():
        assert book.grades(scheme, TODAY) == grades
        assert all(book.defect_deadline_days(scheme, grade, TODAY).value >= 1 for grade in grades)


def test_a_grade_of_the_other_scheme_has_none(book):
    with pytest.raises(NoRule, match="grade emergency"):
        book.defect_deadline_days("grid", "emergency", TODAY)


def test_tolerances_service_and_speeds_answer(book):
    assert book.tolerance("energy_sum_relative", TODAY).value == "0.002"
    assert book.tolerance("reading_window_days", TODAY).value == 2
    assert book.service("repair", TODAY).value == {"minutes": 60, "skill": "repair"}
    assert book.speed_kmh("urban", TODAY).value == 25
    assert book.driving("detour_factor", TODAY).value == "1.3"
    with pytest.raises(NoRule):
        book.tolerance("patience", TODAY)


@pytest.mark.parametrize("kind", ["repair", "meter_change", "safety_inspection"])
def test_each_kind_has_a_checklist_in_both_languages(book, kind):
    checklist = book.checklist(kind, TODAY).value
    assert (checklist["kind"], checklist["version"]) == (kind, 1)
    assert book.checklist_version(checklist["name"], 1).value == checklist
    for line in [checklist, *checklist["stages"], *(item for stage in checklist["stages"] for item in stage["items"])]:
        assert re.search("[\u4e00-\u9fff]", line["title_zh"])
        assert not re.search("[\u4e00-\u9fff]", line["title"])


def test_the_inspection_uses_all_four_control_points(book):
    stages = book.checklist("safety_inspection", TODAY).value["stages"]
    points = {item["point"] for stage in stages for item in stage["items"]}
    assert (len(stages), points) == (3, set("HWSR"))
    assert sum(len(stage["items"]) for stage in stages) >= 12


def test_all_checklists_are_listed_for_devices(book):
    names = {answer.value["name"] for answer in book.checklists()}
    assert names == {"repair_briefing", "meter_change", "safety_inspection"}


def test_a_version_that_never_was_is_said_to_be_unknown(book):
    with pytest.raises(NoRule, match="version 9"):
        book.checklist_version("meter_change", 9)
    with pytest.raises(NoRule, match="kind dancing"):
        book.checklist("dancing", TODAY)


def test_every_answer_says_where_it_comes_from(book):
    answers = [*book.promises(TODAY, "urban").values(), *book.checklists(), book.speed_kmh("rural", TODAY)]
    assert all(answer.source and answer.edition and answer.effective_from <= TODAY for answer in answers)


def test_every_entry_of_every_pack_has_an_honest_source():
    for file in PACKS.glob("*.toml"):
        sources = re.findall(r'^source = "(.*)"$', file.read_text("utf-8"), re.MULTILINE)
        assert sources
        for source in sources:
            assert source.startswith(("public commitment", "seed paper", "illustrative")), (file.name, source)


def test_the_packs_are_read_once():
    assert rules.load() is rules.load()


def test_the_merge_policies_are_those_the_merge_knows(book):
    for entity in ("job", "customer"):
        assert set(book.policies(entity, TODAY).values()) <= POLICIES


# -- editions ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_editions(tmp_path):
    first = entry(60, edition="first", effective_from="2010-01-01")
    second = entry(45, edition="second", effective_from="2022-07-01")
    return written(tmp_path, 'pack = "promises"\n' + second + first)


@pytest.mark.parametrize(
    ("on", "minutes", "edition"),
    [
        (date(2010, 1, 1), 60, "first"),
        (date(2022, 6, 30), 60, "first"),
        (date(2022, 7, 1), 45, "second"),
        (date(2030, 1, 1), 45, "second"),
    ],
)
def test_an_old_date_gets_the_old_edition(two_editions, on, minutes, edition):
    answer = two_editions.promises(on, "urban")["arrival_minutes"]
    assert (answer.value, answer.edition) == (minutes, edition)


def test_before_the_first_edition_there_is_no_promise(two_editions):
    assert two_editions.promises(date(2009, 12, 31), "urban") == {}


def test_a_promise_for_one_class_goes_before_that_for_all(tmp_path):
    text = 'pack = "promises"\n' + entry(60, site_class="*") + entry(45)
    book = written(tmp_path, text)
    assert book.promises(TODAY, "urban")["arrival_minutes"].value == 45
    assert book.promises(TODAY, "rural")["arrival_minutes"].value == 60


CHECKLIST = """pack = "checklists"
[[entry]]
kind = "repair"
effective_from = {since}
edition = "x"
source = "illustrative"
[entry.value]
name = "briefing"
version = {version}
title = "Briefing"
title_zh = "交底"
stages = [{{ code = "a", title = "A", title_zh = "甲", items = [{items}] }}]
"""
ITEM = '{ code = "i", title = "I", title_zh = "乙", point = "H" }'


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("3.2.0", (3, 2)),
        ("v2.10", (2, 10)),
        ("2.10.1-rc1 (build 7)", (2, 10, 1)),
        ("0", ()),
        ("", None),
        (None, None),
        ("nightly", None),
        ("-1", None),
    ],
)
def test_versions_are_compared_number_by_number(version, numbers):
    assert version_numbers(version) == numbers


APPS = """pack = "apps"
[[entry]]
of = "app"
platform = "{platform}"
level = "{level}"
value = "{value}"
effective_from = {since}
edition = "x"
source = "illustrative"
"""


def test_an_app_ends_softly_then_hard_from_a_date_on_and_by_platform(tmp_path):
    entries = [("*", "soft_eol", "2.10", "2026-01-01"), ("*", "hard_eol", "2.0", "2027-01-01")]
    entries += [("ios", "soft_eol", "1.5", "2026-01-01")]
    text = 'pack = "apps"\n'
    for platform, level, value, since in entries:
        one = APPS.format(platform=platform, level=level, value=value, since=since)
        text += one.removeprefix('pack = "apps"\n')
    book = written(tmp_path, text)
    before, soon, later = date(2025, 12, 31), date(2026, 12, 31), date(2027, 1, 1)
    for version, platform, on, life in (
        ("1.0", "android", before, "ok"),
        ("1.0", "android", soon, "soft_eol"),
        ("2.9.9", "android", soon, "soft_eol"),
        ("2.10", "android", soon, "ok"),
        ("1.9", "android", later, "hard_eol"),
        ("2.0", "android", later, "soft_eol"),
        ("1.4", "ios", soon, "soft_eol"),
        ("1.5", "ios", soon, "ok"),
        ("1.5", "ios", later, "hard_eol"),
        ("nightly", "android", later, "ok"),
        (None, "android", later, "ok"),
    ):
        assert book.end_of_life("app", version, platform, on) == life, (version, platform, on)
        assert book.end_of_life("schema", version, platform, on) == "ok"


def test_a_new_version_of_a_checklist_leaves_the_old_one_readable(tmp_path):
    (tmp_path / "one.toml").write_text(CHECKLIST.format(since="2020-01-01", version=1, items=ITEM), "utf-8")
    text = CHECKLIST.format(since="2025-01-01", version=2, items=ITEM)
    book = written(tmp_path, text, "two.toml")
    assert book.checklist("repair", date(2024, 12, 31)).value["version"] == 1
    assert book.checklist("repair", date(2025, 1, 1)).value["version"] == 2
    assert book.checklist_version("briefing", 1).value["version"] == 1


# -- packs with faults ------------------------------------------------------------------------------------------------

P = 'pack = "promises"\n'


def pack(name: str, keys: str, value: str) -> str:
    head = f'pack = "{name}"\n[[entry]]\n{keys}\nvalue = {value}\n'
    return head + 'effective_from = 2020-01-01\nedition = "e"\nsource = "s"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pack = ", "pack.toml: cannot be read"),
        ("", "pack.toml: pack must be one of"),
        ('pack = "poems"', "not 'poems'"),
        ("pack = 3", "not 3"),
        (P, r"needs at least one \[\[entry\]\]"),
        (P + "entry = 3", "needs at least one"),
        (P + "entry = [3]", "entry 1: must be a table"),
        (P + 'author = "x"\n' + entry(), "unknown member 'author'"),
        (P + entry() + entry(source=None, site_class="rural"), "pack.toml entry 2: source must be given"),
        (P + entry(source="  "), "source must be given"),
        (P + entry(edition=None), "edition must be given"),
        (P + entry(colour="red"), "unknown member 'colour'"),
        (P + entry(site_class=None), "site_class must be given"),
        (P + entry(site_class="lunar"), "site_class must be one of remote, rural, urban, not 'lunar'"),
        (P + entry(promise="arrival"), "must end in its unit"),
        (P + entry(effective_from='"2020-01-01"'), "effective_from must be a date"),
        (P + entry(effective_from="2020-01-01T00:00:00Z"), "effective_from must be a date"),
        (P + entry('"45"'), "value must be a whole number"),
        (P + entry("true"), "value must be a whole number"),
        (P + entry(-1), "from 0 to 1000000, not -1"),
        (P + entry(1_000_001), "not 1000001"),
        (P + entry().replace("value = 45\n", ""), "value is missing"),
        (P + entry() + entry(60), "entry 2: says the same as pack.toml entry 1"),
        (pack("policies", 'entity = "job"\nkind = "*"\nfield = "f"', '"coin_toss"'), "not 'coin_toss'"),
        (pack("policies", 'entity = "job"\nkind = "*"\nfield = "f"', "3"), "must name a policy"),
        (pack("cycles", 'importance = "high"\nmin_kv = "*"\ncustomer_class = "*"', "3"), "importance must be one of"),
        (pack("cycles", 'importance = "*"\nmin_kv = "ten"\ncustomer_class = "*"', "3"), "min_kv must be a number"),
        (pack("cycles", 'importance = "*"\nmin_kv = "10"\ncustomer_class = "*"', "0"), "from 1 to 600"),
        (pack("defects", 'scheme = "moon"\ngrade = "general"', "3"), "scheme must be one of"),
        (
            pack("defects", 'scheme = "grid"\ngrade = "emergency"', "3"),
            "grade must be one of critical, general, serious",
        ),
        (pack("tolerances", 'name = "t"', '"a little"'), "value must be a decimal"),
        (pack("tolerances", 'name = "t"', '"-1"'), "value must be a decimal"),
        (pack("tolerances", 'name = "t"', '"NaN"'), "value must be a decimal"),
        (pack("tolerances", 'name = "t"', "0.5"), "whole number"),
        (pack("service", 'kind = "repair"', "60"), "{minutes, skill}"),
        (pack("service", 'kind = "repair"', '{ minutes = 0, skill = "x" }'), "from 1 to 1440"),
        (pack("service", 'kind = "repair"', '{ minutes = 5, skill = "" }'), "skill must be a name"),
        (pack("speeds", 'site_class = "*"', "30"), "site_class must be one of"),
        (pack("speeds", 'site_class = "urban"', "151"), "from 1 to 150"),
        (pack("driving", 'name = "luck"', "1"), "name must be one of access_kmh, detour_factor"),
        (pack("driving", 'name = "detour_factor"', '"0.99"'), "detour_factor must be at least 1"),
        (pack("driving", 'name = "free_flow_factor"', '"0"'), "must be at least 0.1"),
        (pack("driving", 'name = "access_kmh"', "0"), "must be at least 1"),
        (pack("driving", 'name = "network_reach_m"', '"far"'), "value must be a decimal"),
        (pack("apps", 'of = "app"\nplatform = "*"\nlevel = "soft_eol"', '"new"'), "must be a version in text"),
        (pack("apps", 'of = "app"\nplatform = "*"\nlevel = "soft_eol"', "2"), "must be a version in text"),
        (pack("apps", 'of = "phone"\nplatform = "*"\nlevel = "soft_eol"', '"2"'), "of must be one of app, schema"),
        (pack("apps", 'of = "app"\nplatform = "*"\nlevel = "old"', '"2"'), "level must be one of hard_eol, soft_eol"),
        (pack("checklists", 'kind = "repair"', "3"), "value must be a table"),
        (pack("checklists", 'kind = "repair"', '{ name = "b" }'), "value.title must be given"),
        (CHECKLIST.format(since="2020-01-01", version=0, items=ITEM), "version: value must be"),
        (CHECKLIST.format(since="2020-01-01", version=1, items=""), "every stage needs items"),
        (CHECKLIST.format(since="2020-01-01", version=1, items=f"{ITEM}, {ITEM}"), "code 'i' stands twice"),
        (
            CHECKLIST.format(since="2020-01-01", version=1, items=ITEM.replace('"H"', '"X"')),
            "point must be H, W, S or R",
        ),
        (
            CHECKLIST.format(since="2020-01-01", version=1, items=ITEM.replace('title_zh = "乙", ', "")),
            "title_zh must be given",
        ),
        (
            CHECKLIST.format(since="2020-01-01", version=1, items=ITEM.replace(" }", ', grade = "major" }')),
            "do not fit",
        ),
        (
            CHECKLIST.format(
                since="2020-01-01", version=1, items=ITEM.replace(" }", ', grade_scheme = "grid", grade = "major" }')
            ),
            "do not fit",
        ),
    ],
)
def test_a_fault_is_named_with_file_and_entry(tmp_path, text, says):
    with pytest.raises(RuleError, match=says) as caught:
        written(tmp_path, text)
    assert str(caught.value).startswith("pack.toml")


def test_one_version_of_a_checklist_cannot_stand_twice(tmp_path):
    (tmp_path / "one.toml").write_text(CHECKLIST.format(since="2020-01-01", version=1, items=ITEM), "utf-8")
    with pytest.raises(RuleError, match=r"two.toml entry 1: briefing version 1 is in one.toml entry 1 already"):
        written(tmp_path, CHECKLIST.format(since="2021-01-01", version=1, items=ITEM), "two.toml")


def test_a_folder_without_packs_is_refused(tmp_path):
    with pytest.raises(RuleError, match="no rule packs"):
        rules.load_folder(tmp_path)


def test_a_pack_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "pack.toml").write_bytes('pack = "promises"\n# 交底'.encode("gbk"))
    with pytest.raises(RuleError, match="cannot be read"):
        rules.load_folder(tmp_path)
