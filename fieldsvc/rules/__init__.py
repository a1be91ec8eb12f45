"""Rule packs: numbers and policies with an effective date and a source, read from TOML.

A rule is never a constant in code. A new edition is a new entry with a later ``effective_from``; questions about an
old date keep getting the old answer. :func:`load` gives the packs that come with the package, and an operator's.
"""

from __future__ import annotations

from fieldsvc.rules.book import NoRule, RuleAnswer, RuleBook, RuleError
from fieldsvc.rules.loader import load, load_folder, read_also

__all__ = ["NoRule", "RuleAnswer", "RuleBook", "RuleError", "load", "load_folder", "read_also"]
