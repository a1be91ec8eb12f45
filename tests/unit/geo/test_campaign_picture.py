"""The calendar of a campaign: well-formed whatever the names, the same for the same, the one in the documentation."""

from __future__ import annotations

from datetime import date, timedelta
from xml.etree import ElementTree

from fieldsvc.geo.campaign_picture import MOST_AREAS, Mark, svg
from tools.campaign_picture import PICTURE, picture

DAY = date(2027, 3, 1)


def texts(drawn: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]


def test_the_picture_in_the_documentation_is_what_the_code_draws() -> None:
    assert PICTURE.read_text("utf-8") == picture(), "run python -m tools.campaign_picture"


def test_names_are_text_and_long_ones_are_cut() -> None:
    drawn = svg('A<b>&"\x00\x0b', DAY, DAY, [Mark("台区 <script> & a name without an end", DAY, True, True, 3)], 2)
    assert 'A<b>&"\ufffd\ufffd' in texts(drawn) and "台区 <script> & a nam…" in texts(drawn)
    assert "3 usage points on a day, 2 on none" in texts(drawn)


def test_more_areas_than_anybody_looks_at_are_one_row() -> None:
    marks = [Mark(f"T{n:03}", DAY + timedelta(days=n % 5), False, False, 1) for n in range(MOST_AREAS + 30)]
    drawn = texts(svg("x", DAY, DAY + timedelta(days=4), marks, 0))
    assert "30 more areas" in drawn and sum(text.startswith("T") for text in drawn) == MOST_AREAS
    assert svg("x", DAY, DAY, [], 7), "nothing is on a day"
