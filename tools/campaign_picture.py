"""Writes docs/pictures/campaign.svg: a bulk meter change in the demo's county, planned without a database.

python -m tools.campaign_picture
"""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from fieldsvc import rules
from fieldsvc.demo import county
from fieldsvc.geo import campaign, hours
from fieldsvc.geo.campaign_picture import Mark, svg
from fieldsvc.geo.model import Window

PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "campaign.svg"
FIRST, LAST = date(2027, 3, 1), date(2027, 3, 26)
DISTRICTS = ("JX", "HM")
OUTAGES = (("JX01-T1", 3), ("JX02-T2", 9), ("HM01-T2", 10), ("HM03-T3", 16))
"""Transformer areas with a planned outage, and how many days after the first."""


def picture() -> str:
    """The calendar as text; the same text every time."""
    zone = ZoneInfo(county.TIMEZONE)
    people = [row for row in county.build().customers if row["transformer_area"].startswith(DISTRICTS)]
    points = [_point(row) for row in people]
    outages = [campaign.Outage(area, area, _morning(FIRST + timedelta(days=after), zone)) for area, after in OUTAGES]
    days = campaign.working_days(FIRST, LAST, {5, 6}, ())
    made = campaign.schedule(points, outages, [campaign.Pool(None, 1, 1)], days, _terms(zone))
    area_of = {point.id: point.area or "" for point in points}
    counted = Counter((area_of[one.point_id], one.day, one.night, one.outage_id is not None) for one in made.placed)
    marks = [Mark(*key, count) for key, count in sorted(counted.items())]
    return svg("Smart meters for Jiang and Houma, March 2027", FIRST, LAST, marks, len(made.left))


def _point(row: dict[str, str]) -> campaign.Point:
    answer = rules.load().windows("meter_change", row["customer_class"], row["importance"], FIRST)
    own = tuple(hours.read(one) for one in answer.value) if answer else ()
    number = row["usage_point_number"]
    minutes = int(rules.load().service("meter_change", FIRST).value["minutes"])
    lon, lat = float(row["lon"]), float(row["lat"])
    return campaign.Point(number, number, row["number"], row["transformer_area"], None, minutes, own, (), lon, lat)


def _morning(day: date, zone: ZoneInfo) -> Window:
    begin = datetime.combine(day, time(8), zone)
    return Window(begin, begin + timedelta(hours=5))


def _terms(zone: ZoneInfo) -> campaign.Terms:
    def rule(name: str) -> int:
        return int(rules.load().planned_work(name, FIRST).value)

    def shift(name: str) -> hours.Hours:
        begin, _, end = str(rules.load().planned_work(name, FIRST).value).partition("-")
        return hours.read({"from": begin, "to": end})

    return campaign.Terms(
        zone=zone,
        day_shift=shift("day_shift"),
        night_shift=shift("night_shift"),
        crew_minutes=rule("crew_minutes"),
        to_area=rule("minutes_to_an_area"),
        between=rule("minutes_between_customers"),
        days_between_cuts=rule("days_between_cuts"),
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
