from __future__ import annotations

import csv
import io
from collections import Counter
from datetime import date
from decimal import Decimal

import pytest
import shapely

from fieldsvc import kinds
from fieldsvc.base.clock import parse_time
from fieldsvc.demo import county
from fieldsvc.demo.scenario import CUSTOMER_COLUMNS, DEFAULT_DAY, JOB_COLUMNS, Scenario, skills_for
from fieldsvc.geo.territories import TerritoryIndex, read_geojson


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return county.build()


def test_the_same_seed_gives_the_same_data_and_another_seed_other_data(scenario: Scenario) -> None:
    assert county.build(seed=7) == scenario
    assert county.build(seed=8).customers != scenario.customers


def test_another_day_moves_the_work_to_that_day() -> None:
    moved = county.build(day=date(2027, 3, 1))
    assert {c["shift_start"] for c in moved.crews} == {"2027-03-01T00:00:00Z"}
    assert max(row["reported_at"] for row in moved.jobs) < "2027-03-01T00:00:00Z"


def test_the_territories_need_no_repair_and_do_not_overlap(scenario: Scenario) -> None:
    shapes, report = read_geojson(scenario.territories_geojson)
    assert report == []
    assert len(shapes) == 51
    assert {s.site_class for s in shapes} == {"urban", "rural", "remote"}
    together = shapely.union_all([s.geometry for s in shapes]).area
    assert sum(s.geometry.area for s in shapes) == pytest.approx(together, rel=1e-4)
    names = [feature["properties"]["name"] for feature in scenario.territories_geojson["features"]]
    assert len(set(names)) == 51
    assert all(s.name_local for s in shapes)


def test_every_township_lies_in_its_own_territory(scenario: Scenario) -> None:
    index = TerritoryIndex(read_geojson(scenario.territories_geojson).shapes)
    for place in county.places():
        assert index.locate(place.lon, place.lat).territory_id == place.code


def test_the_crews_cover_every_territory_with_every_skill(scenario: Scenario) -> None:
    codes = {feature["properties"]["code"] for feature in scenario.territories_geojson["features"]}
    assert len(scenario.crews) == 12
    for kind in kinds.discover().values():
        (skill,) = skills_for([kind.name], DEFAULT_DAY)
        assert codes == {code for crew in scenario.crews if skill in crew["skills"] for code in crew["territory_codes"]}


def test_customers_have_one_usage_point_and_one_meter_each(scenario: Scenario) -> None:
    rows = scenario.customers
    assert 380 <= len(rows) <= 440
    for column in ("number", "usage_point_number", "meter_asset_no"):
        assert len({row[column] for row in rows}) == len(rows)
    assert {row["importance"] for row in rows} == {"special", "first", "second", "none"}
    assert all(row["name_local"] for row in rows)


def test_the_four_rates_add_up_to_the_total_exactly(scenario: Scenario) -> None:
    with_rates = [row for row in scenario.customers if row["last_reading_sharp"]]
    assert 100 < len(with_rates) < len(scenario.customers)
    for row in with_rates:
        parts = [Decimal(row[f"last_reading_{rate}"]) for rate in ("sharp", "peak", "flat", "valley")]
        assert sum(parts) == Decimal(row["last_reading_total"]) < 10**6


def test_customers_lie_in_the_territory_their_transformer_area_names(scenario: Scenario) -> None:
    index = TerritoryIndex(read_geojson(scenario.territories_geojson).shapes)
    for row in scenario.customers:
        found = index.locate(float(row["lon"]), float(row["lat"]))
        assert found.territory_id == row["transformer_area"].split("-")[0]


def test_jobs_are_as_many_as_promised_and_all_but_two_lie_in_a_territory(scenario: Scenario) -> None:
    counts = Counter(row["kind"] for row in scenario.jobs)
    assert counts == {"repair": 120, "meter_change": 80, "safety_inspection": 40}
    assert len({row["external_key"] for row in scenario.jobs}) == 240
    index = TerritoryIndex(read_geojson(scenario.territories_geojson).shapes)
    found = [index.locate(float(row["lon"]), float(row["lat"])) for row in scenario.jobs]
    assert sum(where.territory_id is None for where in found) == 2


def test_jobs_name_customers_that_exist_and_no_meter_is_changed_twice(scenario: Scenario) -> None:
    points = {row["number"]: row["usage_point_number"] for row in scenario.customers}
    for row in (*scenario.jobs, *scenario.tickets):
        if row["customer_number"]:
            assert row.get("usage_point_number", points[row["customer_number"]]) == points[row["customer_number"]]
    changed = [row["usage_point_number"] for row in scenario.jobs if row["kind"] == "meter_change"]
    assert len(set(changed)) == 80
    stock = {meter["asset_no"] for meter in scenario.new_meters}
    assert len(stock) == 100
    assert not stock & {row["meter_asset_no"] for row in scenario.customers}


def test_every_time_is_one_the_service_can_read_and_windows_are_in_order(scenario: Scenario) -> None:
    for row in scenario.jobs:
        for column in ("due_at", "window_start", "window_end", "reported_at"):
            if row[column]:
                parse_time(row[column])
        if row["window_start"]:
            assert parse_time(row["window_start"]) < parse_time(row["window_end"])
    for row in scenario.customers:
        assert parse_time(row["installed_at"]) < parse_time(row["last_reading_at"])


def test_the_csv_texts_read_back_as_the_same_rows(scenario: Scenario) -> None:
    customers = list(csv.DictReader(io.StringIO(scenario.customers_csv())))
    assert customers == scenario.customers
    assert list(customers[0]) == CUSTOMER_COLUMNS
    jobs = list(csv.DictReader(io.StringIO(scenario.jobs_csv())))
    assert jobs == scenario.jobs
    assert list(jobs[0]) == JOB_COLUMNS


def test_the_source_of_the_places_is_named(scenario: Scenario) -> None:
    assert "GeoNames" in scenario.attribution
    assert "CC BY 4.0" in scenario.attribution
