"""``python -m tools.errors_page``: write docs/errors.md from the list of error codes. A test holds them together."""

from __future__ import annotations

from pathlib import Path

from fieldsvc.base.errors import CODES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "errors.md"

HEAD = """# Errors

Every refusal is an RFC 9457 problem (`application/problem+json`): `type` ends in the code below, `title` is its title,
`detail` is a sentence for a person, `errors` names each field at fault with its reason. Decide by the code, never by
the texts. Codes are never removed and never change their meaning.

This page is written by `python -m tools.errors_page`.

| code | status | title |
|---|---|---|
"""


def text() -> str:
    """The page as it should be."""
    rows = sorted(CODES.items(), key=lambda item: (item[1][0], item[0]))
    return HEAD + "".join(f"| `{code}` | {status} | {title} |\n" for code, (status, title) in rows)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text(), encoding="utf-8")
