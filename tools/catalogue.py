"""``python -m tools.catalogue``: gather what the console says into its catalogues; ``--check`` says what is missing.

Texts of templates and modules come from ``_()``; new ones are added to every catalogue, ones nobody uses are removed. A
catalogue without a translation of some text, or with other placeholders than the text has, does not pass the check.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parents[1]
CONSOLE = ROOT / "fieldsvc" / "console"
TRANSLATIONS = CONSOLE / "translations"
LANGUAGES = ("zh",)

_METHODS = [("**.py", "python"), ("templates/**.html", "jinja2")]
_KEYWORDS = {"_": None, "gettext": None, "_l": None, "lazy_gettext": None, "ngettext": (1, 2)}
_OPTIONS = {"templates/**.html": {"trimmed": "true", "silent": "false", "extensions": "jinja2.ext.do"}}
_PLACEHOLDER = re.compile(r"%\(\w+\)[sd]")


def gathered() -> Catalog:
    """Everything the console says, by place."""
    catalogue = Catalog(project="fieldsvc", charset="utf-8", fuzzy=False)
    found = extract_from_dir(
        CONSOLE, _METHODS, _OPTIONS, keywords=_KEYWORDS, strip_comment_tags=True,
        directory_filter=lambda folder: Path(folder).name not in ("node_modules", "translations", "__pycache__"),
    )  # fmt: skip
    for _file, _line, message, _comments, context in sorted(found, key=lambda entry: (entry[0], entry[1])):
        catalogue.add(message, None, context=context)
    return catalogue


def catalogue_of(language: str) -> tuple[Path, Catalog]:
    """The file of a language, and what it says so far."""
    path = TRANSLATIONS / language / "LC_MESSAGES" / "messages.po"
    if not path.exists():
        return path, Catalog(locale=language)
    with path.open("rb") as file:
        return path, read_po(file, locale=language)


def compile_all() -> None:
    """Write the compiled catalogues, which the service reads, beside the ones people write."""
    for language in LANGUAGES:
        path, catalogue = catalogue_of(language)
        with path.with_suffix(".mo").open("wb") as file:
            write_mo(file, catalogue)


def faults(language: str, wanted: Catalog) -> Iterator[str]:
    """What is missing, left over or wrong in the catalogue of ``language``."""
    _, catalogue = catalogue_of(language)
    there = {message.id: message for message in catalogue if message.id}
    for message in wanted:
        if not message.id:
            continue
        known = there.pop(message.id, None)
        if known is None or not _texts(known.string) or "fuzzy" in known.flags:
            yield f"{language}: no translation of {message.id!r}"
        elif not _same_placeholders(known):
            yield f"{language}: other placeholders in the translation of {message.id!r}"
    yield from (f"{language}: nobody says {ident!r}" for ident in there)


def _texts(strings: str | list[str] | tuple[str, ...]) -> list[str]:
    return [text for text in ([strings] if isinstance(strings, str) else strings) if text]


def _same_placeholders(message: Message) -> bool:
    wanted = set(_PLACEHOLDER.findall(" ".join(_texts(message.id))))
    return all(set(_PLACEHOLDER.findall(text)) <= wanted for text in _texts(message.string))


def update() -> None:
    """Bring every catalogue in step with what the console says."""
    wanted = gathered()
    for language in LANGUAGES:
        path, catalogue = catalogue_of(language)
        catalogue.update(wanted, no_fuzzy_matching=True)
        catalogue.obsolete.clear()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            write_po(file, catalogue, width=120, sort_output=True, no_location=True, omit_header=True)


def main() -> int:
    if sys.argv[1:] == ["--compile"]:
        compile_all()
        return 0
    if sys.argv[1:] == ["--check"]:
        wanted = gathered()
        found = [fault for language in LANGUAGES for fault in faults(language, wanted)]
        print("\n".join(found) or "the catalogues have everything the console says")
        return 1 if found else 0
    update()
    compile_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
