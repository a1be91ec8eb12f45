from __future__ import annotations

import csv
import shutil
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from fieldsvc.base.clock import parse_time
from fieldsvc.demo import newyork
from fieldsvc.demo.scenario import CUSTOMER_COLUMNS, JOB_COLUMNS, Scenario
from fieldsvc.geo.territories import TerritoryIndex, read_geojson
from fieldsvc.geo.travel import distance_m

pytestmark = pytest.mark.shared_data


@pytest.fixture(scope="module")
def scenario(shared_data: Path) -> Scenario:
    return newyork.build(shared_data)


def test_the_same_files_give_the_same_data(scenario: Scenario, shared_data: Path) -> None:
    assert newyork.build(shared_data) == scenario


def test_the_districts_need_no_repair_and_the_crews_cover_them(scenario: Scenario) -> None:
    shapes, report = read_geojson(scenario.territories_geojson)
    assert (len(shapes), report) == (59, [])
    assert len(scenario.crews) == 12
    covered = {code for crew in scenario.crews if "repair" in crew["skills"] for code in crew["territory_codes"]}
    assert covered == {shape.code for shape in shapes}
    index = TerritoryIndex(shapes)
    for crew in scenario.crews:
        assert index.locate(crew["base_lon"], crew["base_lat"]).territory_id in crew["territory_codes"]


def test_the_repairs_are_real_complaints_each_once_from_every_district(scenario: Scenario, shared_data: Path) -> None:
    repairs = [row for row in scenario.jobs if row["kind"] == "repair"]
    assert len(repairs) == 640
    with (shared_data / newyork.COMPLAINTS).open(encoding="utf-8", newline="") as file:
        real = {f"NYC-{row['src_row']}": row for row in csv.DictReader(file)}
    sources = [real[row["external_key"]] for row in repairs]
    assert [row["title"] for row in repairs] == [source["descriptor"] for source in sources]
    assert all("  " not in row["address"] for row in repairs)
    assert len({tuple(list(source.values())[1:]) for source in sources}) == 640
    index = TerritoryIndex(read_geojson(scenario.territories_geojson).shapes)
    where = Counter(index.locate(float(row["lon"]), float(row["lat"])).territory_id for row in repairs)
    assert where.pop(None) == 8
    assert len(where) == 59
    assert max(where.values()) - min(where.values()) <= 1


def test_no_place_is_a_customer_twice(scenario: Scenario) -> None:
    places = [row for row in scenario.customers if not row["number"].startswith("SGSC")]
    assert 200 < len(places) < 263
    assert all(row["name"] for row in places)
    for i, one in enumerate(places):
        for other in places[i + 1 :]:
            if (one["name"], one["importance"]) == (other["name"], other["importance"]):
                away = distance_m(float(one["lon"]), float(one["lat"]), float(other["lon"]), float(other["lat"]))
                assert away > 100


def test_hospitals_are_inspected_first(scenario: Scenario) -> None:
    grades = {row["number"]: row["importance"] for row in scenario.customers}
    inspected = [grades[row["customer_number"]] for row in scenario.jobs if row["kind"] == "safety_inspection"]
    assert len(inspected) == 60
    assert inspected[:9] == ["special"] * 9
    assert set(inspected[9:]) == {"first"}


def test_the_registers_are_the_sums_of_the_real_days(scenario: Scenario, shared_data: Path) -> None:
    homes = {row["meter_asset_no"]: row for row in scenario.customers if row["number"].startswith("SGSC")}
    assert len(homes) == 6
    total: dict[str, Decimal] = {meter: Decimal(0) for meter in homes}
    with (shared_data / newyork.METERS).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            total[row["customer_id"]] += Decimal(row["kwh"])
    assert {meter: Decimal(row["last_reading_total"]) for meter, row in homes.items()} == total
    changes = [row for row in scenario.jobs if row["kind"] == "meter_change"]
    assert {row["customer_number"] for row in changes} == {row["number"] for row in homes.values()}
    for row in homes.values():
        before_shift = parse_time(scenario.crews[0]["shift_start"]) - parse_time(row["last_reading_at"])
        assert 0 < before_shift.total_seconds() < 8 * 86400


def test_rows_have_the_importers_columns(scenario: Scenario) -> None:
    assert all(list(row) == CUSTOMER_COLUMNS for row in scenario.customers)
    assert all(list(row) == JOB_COLUMNS for row in scenario.jobs)
    assert len({row["external_key"] for row in scenario.jobs}) == len(scenario.jobs)


def test_repeated_filings_become_tickets_at_the_same_light(scenario: Scenario) -> None:
    lights = {(float(row["lon"]), float(row["lat"])) for row in scenario.jobs if row["kind"] == "repair"}
    assert scenario.tickets
    assert all((ticket["lon"], ticket["lat"]) in lights for ticket in scenario.tickets)
    assert len({ticket["external_key"] for ticket in scenario.tickets}) == len(scenario.tickets)


@pytest.mark.parametrize("name", [newyork.DISTRICTS, newyork.COMPLAINTS, newyork.PLACES, newyork.METERS])
def test_a_missing_file_is_named_together_with_its_folder(name: str, shared_data: Path, tmp_path: Path) -> None:
    for other in {newyork.DISTRICTS, newyork.COMPLAINTS, newyork.PLACES, newyork.METERS} - {name}:
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared_data / other, tmp_path / other)
    with pytest.raises(ValueError, match="is missing in the data folder") as caught:
        newyork.build(tmp_path)
    assert name in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_file_of_another_kind_is_named_too(shared_data: Path, tmp_path: Path) -> None:
    for name in (newyork.DISTRICTS, newyork.COMPLAINTS, newyork.PLACES, newyork.METERS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared_data / name, tmp_path / name)
    (tmp_path / newyork.PLACES).chmod(0o644)
    (tmp_path / newyork.PLACES).write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"important_places.csv .* has no column osm_type"):
        newyork.build(tmp_path)
    (tmp_path / newyork.DISTRICTS).chmod(0o644)
    (tmp_path / newyork.DISTRICTS).write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="is not the districts' GeoJSON"):
        newyork.build(tmp_path)
