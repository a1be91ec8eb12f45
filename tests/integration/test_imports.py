"""``fieldsvc import jobs|customers``: in bulk, repeatable, and never silent about a row it leaves out."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from flask import Flask

from fieldsvc.base.clock import utc_now
from fieldsvc.base.errors import Invalid
from fieldsvc.base.sheet import Layout, Outcome, Sheet
from fieldsvc.cli import main
from fieldsvc.commands.imports import run
from fieldsvc.config import Settings
from fieldsvc.people.actors import SYSTEM
from fieldsvc.records import importing as customer_importing
from fieldsvc.records.importing import CustomerImport
from fieldsvc.work import importing as job_importing
from fieldsvc.work.importing import JobImport
from tests.factories import make_staff, make_territories


def import_jobs(app: Flask, text: str | bytes, layout: Layout | None = None, **options: Any) -> Outcome:
    data = text.encode() if isinstance(text, str) else text
    layout = layout or Layout(defaults={"kind": "repair"})
    with app.app_context():
        sheet = Sheet(data, layout, job_importing.COLUMNS)
        return run(sheet, JobImport(layout, **options), SYSTEM.source(utc_now()), batch=job_importing.BATCH)


def import_customers(app: Flask, text: str | bytes, layout: Layout | None = None, **options: Any) -> Outcome:
    data = text.encode() if isinstance(text, str) else text
    layout = layout or Layout()
    with app.app_context():
        sheet = Sheet(data, layout, customer_importing.COLUMNS)
        return run(sheet, CustomerImport(layout, **options), SYSTEM.source(utc_now()), batch=customer_importing.BATCH)


def counts(outcome: Outcome) -> tuple[int, int, int, int]:
    return outcome.created, outcome.updated, outcome.unchanged, len(outcome.refused)


def faults(outcome: Outcome) -> list[tuple[int, str]]:
    return [(refusal.line, refusal.column) for refusal in outcome.refused]


JOBS = """external_key,kind,priority,title,lon,lat,reported_at,hazards
k1,repair,3,One,111.55,35.45,2026-11-21T06:00:00Z,
k2,meter_change,,"Two, with
a line break",111.65,35.45,2026-11-21T14:00:00+08:00,
k3,,,Three,111.55,35.55,2026-11-21T06:00:00Z,wire_down; fire_risk
"""


def test_jobs_are_created_once_and_a_second_run_changes_nothing(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    assert counts(import_jobs(app, JOBS)) == (3, 0, 0, 0)
    before = client.get("/v1/jobs").json["items"]
    by_key = {job["external_key"]: job for job in before}
    assert [by_key[k]["territory_id"] for k in ("k1", "k2", "k3")] == [ids["A"], ids["B"], ids["C"]]
    assert by_key["k2"]["reported_at"] == "2026-11-21T06:00:00Z" and by_key["k2"]["title"] == "Two, with\na line break"
    assert (by_key["k3"]["priority"], by_key["k3"]["hazards"]) == (1, ["wire_down", "fire_risk"])
    assert by_key["k1"]["due_at"] == "2026-11-21T06:45:00Z"
    assert counts(import_jobs(app, JOBS)) == (0, 0, 3, 0)
    assert client.get("/v1/jobs").json["items"] == before
    history = client.get(f"/v1/jobs/{by_key['k1']['id']}/history").json["items"]
    assert [entry["action"] for entry in history] == ["job.imported"]
    assert len(client.get(f"/v1/jobs/{by_key['k1']['id']}").json["clocks"]) >= 1


def test_a_job_that_is_known_is_never_overwritten_by_a_file(app: Flask) -> None:
    client = make_staff(app)
    import_jobs(app, JOBS)
    job = next(j for j in client.get("/v1/jobs").json["items"] if j["external_key"] == "k1")
    client.patch(f"/v1/jobs/{job['id']}", json={"title": "Edited"}, headers={"If-Match": '"1"'})
    assert counts(import_jobs(app, JOBS.replace("One", "Other"))) == (0, 0, 3, 0)
    assert client.get(f"/v1/jobs/{job['id']}").json["title"] == "Edited"


BAD_ROWS = [
    (",1,2,2026-11-21T06:00:00Z,,", "external_key", "missing"),
    ("a,0.0,0.0,2026-11-21T06:00:00Z,,", "lon", "0/0 is not a place"),
    ("a,181,2,2026-11-21T06:00:00Z,,", "lon", "outside"),
    ("a,1,-90.5,2026-11-21T06:00:00Z,,", "lat", "outside"),
    ("a,one,2,2026-11-21T06:00:00Z,,", "lon", "not a number"),
    ("a,nan,2,2026-11-21T06:00:00Z,,", "lon", "not a number"),
    ("a,1,,2026-11-21T06:00:00Z,,", "lat", "together"),
    ("a,1,2,2026-11-21T06:00:00,,", "reported_at", "zone"),
    ("a,1,2,2026-02-30T06:00:00Z,,", "reported_at", "calendar"),
    ("a,1,2,yesterday,,", "reported_at", "RFC 3339"),
    ("a,1,2,2026-11-21T06:00:00Z,2026-11-21T05:59:59Z,", "closed_at", "closed before it was reported"),
    ("a,1,2,2026-11-21T06:00:00Z,,10", "priority", "whole number from 1 to 9"),
    ("a,1,2,2026-11-21T06:00:00Z,,high", "priority", "whole number"),
    ("a,1,2,2026-11-21T06:00:00Z,", "", "5 cells where the header has 6"),
    ("a,1,2,2026-11-21T06:00:00Z,,,", "", "7 cells"),
    ('a,1,2,"2026-11-21"T06:00:00Z,,', "", "broken quoting"),
    ("a\x00b,1,2,2026-11-21T06:00:00Z,,", "external_key", "NUL"),
]


@pytest.mark.parametrize(("row", "column", "reason"), BAD_ROWS)
def test_a_bad_row_is_named_with_its_reason_and_stops_no_other(app: Flask, row: str, column: str, reason: str) -> None:
    text = f"external_key,lon,lat,reported_at,closed_at,priority\n{row}\nok,1,2,2026-11-21T06:00:00Z,,\n"
    outcome = import_jobs(app, text)
    assert counts(outcome) == (1, 0, 0, 1)
    refusal = outcome.refused[0]
    assert (refusal.line, refusal.row, refusal.column) == (2, 1, column) and reason in refusal.reason


def test_lines_are_those_of_an_editor_even_after_quoted_line_breaks(app: Flask) -> None:
    text = 'external_key,title\nk1,"a\nb\nc"\n\n,missing\nk1,again\n'
    outcome = import_jobs(app, text)
    assert [(r.line, r.row, r.column) for r in outcome.refused] == [(6, 2, "external_key"), (7, 3, "external_key")]
    assert outcome.refused[1].reason == "the key stands on line 2 already"


def test_a_quote_that_is_never_closed_costs_one_row_not_the_rest_of_the_file(app: Flask) -> None:
    rows = "".join(f"k{n},fine\n" for n in range(600))
    outcome = import_jobs(app, f'external_key,title\nbad,"never closed\n{rows}')
    assert counts(outcome) == (600, 0, 0, 1)
    assert outcome.refused[0].reason == "a quote is never closed"


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_cell_of_megabytes_costs_one_row(app: Flask, quote: str) -> None:
    outcome = import_jobs(app, f"external_key,title\nbad,{quote}{'x' * 10_000_000}{quote}\nk-1,lamp\n")
    assert outcome.created == 1
    assert [(row.line, row.reason) for row in outcome.refused] == [(2, "a cell is longer than 131072 characters")]


def test_bytes_that_are_not_text_are_refused_row_by_row(app: Flask) -> None:
    outcome = import_jobs(app, b"external_key,title\nk1,caf\xe9\nk2,caf\xc3\xa9\n")
    assert counts(outcome) == (1, 0, 0, 1) and faults(outcome) == [(2, "title")]
    layout = Layout(defaults={"kind": "repair"}, encoding="cp1252")
    assert counts(import_jobs(app, b"external_key,title\nk1,caf\xe9\n", layout)) == (1, 0, 0, 0)
    chinese = "external_key,title\nk9,表箱焦味\n".encode("gb18030")
    assert import_jobs(app, chinese, Layout(defaults={"kind": "repair"}, encoding="gb18030")).created == 1


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(app: Flask) -> None:
    assert counts(import_jobs(app, b"\xef\xbb\xbfexternal_key,title\r\nk1,One\r\n")) == (1, 0, 0, 0)


def test_local_times_are_taken_in_the_zone_of_the_file(app: Flask) -> None:
    client = make_staff(app)
    layout = Layout(defaults={"kind": "repair"}, timezone=ZoneInfo("America/Chicago"))
    text = "external_key,reported_at\nk1,2018-01-01 00:48:30.5\nk2,2018-03-11 02:30:00\nk3,2018-07-01\n"
    outcome = import_jobs(app, text, layout)
    assert faults(outcome) == [(3, "reported_at")] and "does not exist" in outcome.refused[0].reason
    times = {job["external_key"]: job["reported_at"] for job in client.get("/v1/jobs").json["items"]}
    assert times == {"k1": "2018-01-01T06:48:30.500000Z", "k3": "2018-07-01T05:00:00Z"}


@pytest.mark.parametrize(
    ("layout", "data", "words"),
    [
        (Layout(columns={"nonsense": "a"}), b"external_key\nk\n", "nonsense is not one of our columns"),
        (Layout(columns={"title": "Titel"}), b"external_key\nk\n", "no column Titel"),
        (Layout(), b"a,b\n1,2\n", "none of the columns"),
        (Layout(), b"title,title\n1,2\n", "twice"),
        (Layout(), b"", "empty"),
        (Layout(), b"\n\n", "empty"),
        (Layout(encoding="klingon"), b"external_key\nk\n", "klingon"),
        (Layout(), "external_key\nk\n".encode("utf-16"), "is UTF-16 text: save it as CSV in UTF-8"),
        (Layout(), codecs.BOM_UTF16_BE + "external_key\n".encode("utf-16-be"), "is UTF-16 text"),
    ],
)
def test_a_file_that_cannot_be_used_at_all_says_why(layout: Layout, data: bytes, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        Sheet(data, layout, job_importing.COLUMNS)


CUSTOMERS = """number,name,name_local,importance,lon,lat,address,usage_point_number,transformer_area,meter_asset_no,\
meter_digits,ct_ratio,pt_ratio,installed_at,last_reading_total,last_reading_peak,last_reading_at
C-1,Household 1,一户,none,111.55,35.45,East lane 1,U-1,TA-1,M-1,6,1,1,2020-01-01T00:00:00Z,48213.6,1000.25,\
2023-11-01T00:00:00Z
C-2,Mill,磨坊,second,111.65,35.45,Mill road,U-2,TA-2,M-2,6,20,100,2020-01-01T00:00:00Z,99.0,,2023-11-01T00:00:00Z
C-3,Shop,店,none,111.55,35.55,Market,,,,,,,,,,
"""


def customer(client: Any, number: str) -> dict[str, Any]:
    ident = next(c["id"] for c in client.get(f"/v1/customers?q={number}").json["items"] if c["number"] == number)
    page: dict[str, Any] = client.get(f"/v1/customers/{ident}").json
    return page


def test_customers_come_with_usage_point_meter_and_last_readings(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    assert counts(import_customers(app, CUSTOMERS)) == (3, 0, 0, 0)
    page = customer(client, "C-1")
    assert page["name_local"] == "一户" and page["location"]["territory"]["id"] == ids["A"]
    assert page["usage_points"]["items"][0]["number"] == "U-1"
    assert page["installations"]["items"][0]["asset_no"] == "M-1"
    values = {r["register"]: (r["value"], r["read_at"], r["reason"]) for r in page["readings"]["items"]}
    assert values == {
        "total": ("48213.6", "2023-11-01T00:00:00Z", "import"),
        "peak": ("1000.25", "2023-11-01T00:00:00Z", "import"),
    }
    assert customer(client, "C-2")["location"]["site_class"] == "rural"
    assert customer(client, "C-3")["usage_points"]["items"][0]["number"] == "C-3"
    entries = client.get(f"/v1/history?customer={page['id']}").json["items"]
    assert [entry["action"] for entry in entries] == ["customer.imported"]


def test_a_second_run_of_customers_changes_nothing(app: Flask) -> None:
    make_territories(app)
    client = make_staff(app)
    import_customers(app, CUSTOMERS)
    before = [customer(client, number) for number in ("C-1", "C-2", "C-3")]
    seq = client.get("/v1/history?limit=1").json["items"][0]["seq"]
    assert counts(import_customers(app, CUSTOMERS)) == (0, 0, 3, 0)
    assert [customer(client, number) for number in ("C-1", "C-2", "C-3")] == before
    assert client.get("/v1/history?limit=1").json["items"][0]["seq"] == seq


def test_changed_master_data_is_brought_up_to_date_with_history(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    import_customers(app, CUSTOMERS)
    changed = CUSTOMERS.replace("Household 1,", "Household one,").replace("111.65,35.45,Mill", "111.55,35.55,Mill")
    changed = changed.replace("TA-1", "TA-9").replace("48213.6", "48213.6")
    assert counts(import_customers(app, changed)) == (0, 2, 1, 0)
    page = customer(client, "C-1")
    assert (page["name"], page["rev"]) == ("Household one", 2)
    assert page["usage_points"]["items"][0]["transformer_area"] == "TA-9"
    assert customer(client, "C-2")["location"]["territory"]["id"] == ids["C"]
    latest = client.get(f"/v1/history?customer={page['id']}&action=customer.imported").json["items"][0]
    assert (latest["before"], latest["after"]) == ({"name": "Household 1"}, {"name": "Household one"})


def test_a_newer_reading_is_added_and_another_value_for_a_known_one_refused(app: Flask) -> None:
    client = make_staff(app)
    import_customers(app, CUSTOMERS)
    newer = CUSTOMERS.replace("48213.6,1000.25,2023-11-01", "48300.0,1001.0,2023-11-15")
    assert counts(import_customers(app, newer)) == (0, 1, 2, 0)
    assert len(customer(client, "C-1")["readings"]["items"]) == 4
    other = import_customers(app, CUSTOMERS.replace("48213.6", "48213.7"))
    assert counts(other) == (0, 0, 2, 1) and "is on record as 48213.6" in other.refused[0].reason


@pytest.mark.parametrize(
    ("column", "now_in_the_file"), [("last_reading_at", "2023-11-01"), ("installed_at", "2020-01-01")]
)
def test_what_lies_in_the_future_has_not_happened(app: Flask, column: str, now_in_the_file: str) -> None:
    later = f"{utc_now().year + 1}-01-01"
    outcome = import_customers(app, CUSTOMERS.replace(now_in_the_file, later, 1))
    assert counts(outcome) == (2, 0, 0, 1)
    assert (outcome.refused[0].column, outcome.refused[0].reason) == (column, "lies in the future")


def test_a_file_does_not_exchange_a_meter(app: Flask) -> None:
    import_customers(app, CUSTOMERS)
    outcome = import_customers(app, CUSTOMERS.replace("M-1,", "M-7,"))
    assert counts(outcome) == (0, 0, 2, 1)
    assert "meter M-1 is on record here" in outcome.refused[0].reason
    stolen = import_customers(app, "number,name,meter_asset_no\nC-9,New,M-1\n")
    assert "installed at another usage point" in stolen.refused[0].reason


@pytest.mark.parametrize(
    ("header", "row", "column", "reason"),
    [
        ("number,name", ",x", "number", "missing"),
        ("number,name", "1,", "name", "missing"),
        ("number,name,importance", "1,x,high", "importance", "must be one of"),
        ("number,name,site_class", "1,x,moon", "site_class", "must be one of"),
        ("number,name,lon,lat", "1,x,0,0", "lon", "0/0"),
        ("number,name,last_reading_total", "1,x,5", "meter_asset_no", "needs the meter"),
        ("number,name,meter_asset_no,last_reading_total", "1,x,M,5", "last_reading_at", "needs its time"),
        (
            "number,name,meter_asset_no,meter_digits,last_reading_total,last_reading_at",
            "1,x,M,4,10000,2026-01-01T00:00:00Z",
            "last_reading_total",
            "more digits",
        ),
        ("number,name,meter_asset_no,ct_ratio", "1,x,M,0", "ct_ratio", "above 0"),
        ("number,name,meter_asset_no,ct_ratio", "1,x,M,1e3", "ct_ratio", "decimal"),
        ("number,name,inspection_cycle_months", "1,x,0", "inspection_cycle_months", "whole number"),
    ],
)
def test_a_bad_customer_row_is_named(app: Flask, header: str, row: str, column: str, reason: str) -> None:
    outcome = import_customers(app, f"{header}\n{row}\n")
    assert counts(outcome) == (0, 0, 0, 1)
    assert outcome.refused[0].column == column and reason in outcome.refused[0].reason


def test_the_same_number_usage_point_or_meter_twice_in_a_file_is_refused(app: Flask) -> None:
    text = "number,name,usage_point_number,meter_asset_no\n1,a,U,M\n1,b,U2,M2\n2,c,U,M3\n3,d,U4,M\n"
    outcome = import_customers(app, text)
    assert outcome.created == 1
    assert faults(outcome) == [(3, "number"), (4, "usage_point_number"), (5, "meter_asset_no")]


def test_jobs_find_their_customer_and_place_by_number(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    import_customers(app, CUSTOMERS)
    header = "external_key,kind,usage_point_number,customer_number\n"
    text = header + "a,meter_change,U-1,\nb,repair,,C-2\nc,repair,U-1,C-2\nd,repair,X,\n"
    outcome = import_jobs(app, text)
    assert outcome.created == 2 and faults(outcome) == [(4, "usage_point_number"), (5, "usage_point_number")]
    jobs = {job["external_key"]: job for job in client.get("/v1/jobs").json["items"]}
    assert (jobs["a"]["territory_id"], jobs["a"]["address"]) == (ids["A"], "East lane 1")
    assert jobs["b"]["customer_id"] == customer(client, "C-2")["id"]
    assert customer(client, "C-1")["jobs"]["items"][0]["id"] == jobs["a"]["id"]


def test_chinese_map_coordinates_are_converted_and_kept_as_given(app: Flask) -> None:
    client = make_staff(app)
    import_customers(app, "number,name,lon,lat\nC,Shop,111.57,35.49\n", crs="GCJ-02")
    location = customer(client, "C")["location"]
    lon, lat = location["position"]["coordinates"]
    assert 200 < ((lon - 111.57) ** 2 + (lat - 35.49) ** 2) ** 0.5 * 100_000 < 1000
    assert (location["source_crs"], location["source_xy"]) == ("GCJ-02", ["111.57", "35.49"])


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``command(*args)``: the command line in this process, on this test's database."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url or "")
    monkeypatch.setenv("FIELDSVC_SECRET_KEY", settings.secret_key)
    monkeypatch.setenv("FIELDSVC_DATA_DIR", str(settings.data_dir))
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


def test_the_command_reports_and_a_dry_run_keeps_nothing(app: Flask, command: Any, tmp_path: Path) -> None:
    client = make_staff(app, username="chief")
    file, report = tmp_path / "jobs.csv", tmp_path / "refused.csv"
    file.write_text("id,x\n1,a\n,b\n2,c\n", encoding="utf-8")
    args = ("import", "jobs", file, "--map", "external_key=id", "--default", "kind=repair", "--report", report)
    dry = command(*args, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "nothing was kept" in dry.output and "2 created" in dry.output
    assert client.get("/v1/jobs").json["items"] == []
    done = command(*args, "--external-prefix", "sf-", "--as", "chief")
    assert "3 rows" in done.output and "2 created" in done.output and "1 refused" in done.output
    assert "columns without a meaning here: x" in done.output
    assert list(csv.DictReader(io.StringIO(report.read_text()))) == [
        {"line": "3", "row": "2", "column": "external_key", "value": "", "reason": "missing"}
    ]
    jobs = client.get("/v1/jobs").json["items"]
    assert {job["external_key"] for job in jobs} == {"sf-1", "sf-2"}
    entry = client.get(f"/v1/jobs/{jobs[0]['id']}/history").json["items"][0]
    assert entry["actor"]["kind"] == "staff"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--crs", "EPSG:1"), "EPSG:1"),
        (("--timezone", "Mars/Base"), "Mars/Base"),
        (("--map", "title"), "OURS=THEIRS"),
        (("--as", "nobody"), "no active user"),
        (("--delimiter", ";;"), "one character"),
    ],
)
def test_an_option_that_cannot_be_meant_is_explained(
    app: Flask, command: Any, tmp_path: Path, options: tuple[str, str], words: str
) -> None:
    file = tmp_path / "jobs.csv"
    file.write_text("external_key\n1\n", encoding="utf-8")
    result = command("import", "jobs", file, *options)
    assert result.exit_code == 1 and words in result.output and "Traceback" not in result.output


@pytest.mark.shared_data
def test_the_messy_file_of_san_francisco_ends_in_the_report_where_it_is_bad(app: Flask, shared_data: Path) -> None:
    layout = Layout(
        columns={
            "external_key": "unique_key",
            "title": "descriptor",
            "description": "status_notes",
            "lon": "longitude",
            "lat": "latitude",
            "address": "incident_address",
            "reported_at": "created_date",
            "closed_at": "closed_date",
        },
        defaults={"kind": "repair"},
    )
    data = (shared_data / "sf_311_messy" / "requests_first4000.csv").read_bytes()
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    zero = sum(float(row["latitude"]) == 0 and float(row["longitude"]) == 0 for row in rows)
    early = sum(bool(row["closed_date"]) and row["closed_date"] < row["created_date"] for row in rows)
    first = import_jobs(app, data, layout, prefix="sf-")
    why = Counter((refusal.column, refusal.reason.split(" (")[0].split(":")[0]) for refusal in first.refused)
    assert first.rows == len(rows) == 4000
    assert why[("lon", "0/0 is not a place")] + why[("closed_at", "closed before it was reported")] == len(
        first.refused
    )
    assert zero <= len(first.refused) <= zero + early
    assert first.created == 4000 - len(first.refused)
    assert counts(import_jobs(app, data, layout, prefix="sf-")) == (0, 0, first.created, len(first.refused))


@pytest.mark.shared_data
def test_the_feet_of_saint_louis_become_degrees_and_its_gaps_are_named(app: Flask, shared_data: Path) -> None:
    layout = Layout(
        columns={
            "external_key": "requestid",
            "title": "problemcode",
            "description": "description",
            "lon": "srx",
            "lat": "sry",
            "address": "probaddress",
            "reported_at": "datetimeinit",
            "closed_at": "datetimeclosed",
            "due_at": "prjcompletedate",
        },
        defaults={"kind": "repair"},
        missing=frozenset({"NA"}),
        timezone=ZoneInfo("America/Chicago"),
    )
    data = (shared_data / "stl_csb" / "requests_2018-01-01_05.csv").read_bytes()
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    repeated = len(rows) - len({row["requestid"] for row in rows})
    outcome = import_jobs(app, data, layout, crs="ESRI:102696", prefix="stl-")
    assert outcome.rows == len(rows) and outcome.created + len(outcome.refused) == len(rows)
    why = Counter(refusal.column for refusal in outcome.refused)
    assert why["external_key"] == repeated > 0
    client = make_staff(app)
    placed = [job for job in client.get("/v1/jobs?limit=200").json["items"] if job["lon"] is not None]
    assert placed and all(-90.4 < job["lon"] < -90.1 and 38.5 < job["lat"] < 38.8 for job in placed)
    strict = replace(layout, missing=frozenset())
    outcome = import_jobs(app, data, strict, crs="ESRI:102696", prefix="again-")
    assert any(refusal.value == "NA" for refusal in outcome.refused)
