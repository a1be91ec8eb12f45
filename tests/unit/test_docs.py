"""The documentation held to the code: generated pages, words of the protocol, links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fieldsvc import kinds
from fieldsvc.kinds.base import REASONS
from fieldsvc.sync.receive import TERMINAL
from fieldsvc.sync.reviews import CHOICES, READINGS
from fieldsvc.sync.verdict import GAVE_UP
from tools import protocol_page

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")])
PROTOCOL = ROOT / "docs" / "sync-protocol" / "README.md"


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text(page), flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_page_of_operations_is_what_the_code_judges_by() -> None:
    assert text(protocol_page.PAGE) == protocol_page.text(), "run `python -m tools.protocol_page`"


def test_the_protocol_names_every_reason_outcome_and_choice() -> None:
    named = set(re.findall(r"`([a-z_]+)`", text(PROTOCOL)))
    assert {*REASONS, GAVE_UP, *CHOICES, *READINGS} - named == set()
    assert TERMINAL - named == set()


def test_every_reason_in_the_protocols_table_is_one_the_service_gives() -> None:
    table = text(PROTOCOL).split("\n## Reasons\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z_]+)` \|", table, flags=re.M)) == {*REASONS, GAVE_UP}


def test_every_operation_has_its_section() -> None:
    page = text(protocol_page.PAGE)
    assert [kind for kind in kinds.operation_types() if f"### `{kind}`\n" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", text(page), flags=re.M | re.S)):
        address, _, anchor = target.partition("#")
        if address.startswith(("http://", "https://", "mailto:")):
            continue
        file = (page.parent / address).resolve() if address else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []
