"""Pages for people: for now the first page, which says what runs here and what to do next."""

from __future__ import annotations

from flask import Blueprint, Flask, Response, render_template, request

from fieldsvc import __version__

_CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

pages = Blueprint("console", __name__, template_folder="templates", static_folder="static", static_url_path="/static")


def init_app(app: Flask) -> None:
    """Put the pages on ``app``."""
    app.register_blueprint(pages)
    app.view_functions["console.static"].__dict__["__access__"] = "public: style sheets and pictures of the pages"


@pages.get("/")
def home() -> str:
    """The first page: what this is, that it runs, and the first three commands."""
    return render_template("home.html", version=__version__, address=request.host_url.rstrip("/"))


home.__access__ = "public: tells nothing but the version"  # type: ignore[attr-defined]


@pages.after_request
def _guard(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _CSP
    return response
