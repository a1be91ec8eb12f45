"""The board: what matters first."""

from __future__ import annotations

from flask import render_template

from fieldsvc.console.frame import page, pages


@pages.get("/")
@page()
def board() -> str:
    """The first page."""
    return render_template("board.html")
