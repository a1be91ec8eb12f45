"""Browser libraries, served from where npm puts them; what scripts of ours import; what a page may load (its CSP)."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, send_from_directory, url_for
from werkzeug.exceptions import NotFound

from fieldsvc.console.frame import pages, public

_HERE = Path(__file__).parent
_NPM = _HERE / "node_modules"

SERVED = {
    "htmx": ("htmx.org", "dist"),
    "leaflet": ("leaflet", "dist"),
    "markercluster": ("leaflet.markercluster", "dist"),
    "geoman": ("@geoman-io/leaflet-geoman-free", "dist"),
    "uplot": ("uplot", "dist"),
    "vis-timeline": ("vis-timeline", ""),
}
"""Name in our addresses → the npm package and the folder in it; nothing else of it is served."""
_IMPORT = r'(?:^import |\bfrom |(?<!\{)\bimport\()"\./([\w-]+\.js)"'


def init_app(app: Flask) -> None:
    """Let templates name a file of a library, ``library("leaflet", "leaflet.js")``, and what a script of ours imports,
    ``imported("board.js")``.
    """
    app.jinja_env.globals |= {"library": address, "libraries_are_there": are_there, "imported": imported}


@cache
def versions() -> dict[str, str]:
    """The version of each library, as locked."""
    packages = json.loads((_HERE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    return {name: packages[f"node_modules/{package}"]["version"] for name, (package, _) in SERVED.items()}


@cache
def are_there() -> bool:
    """Whether npm has been here; without it there are no maps and no timeline."""
    return all((_NPM / package).is_dir() for package, _ in SERVED.values())


def address(name: str, file: str) -> str:
    """Where a browser gets ``file`` of a library; another version has another address."""
    return url_for("console.library", name=name, version=versions()[name], file=file)


@cache
def imported(script: str) -> tuple[str, ...]:
    """The files of ``static`` that a script of ours imports, at once or on demand, themselves and through others.

    A page that names them beforehand has them all fetched together; else a browser learns of each from the one before.
    """
    found, new = {script}, [script]
    while new:
        text = (_HERE / "static" / new.pop()).read_text(encoding="utf-8")
        for name in re.findall(_IMPORT, text, re.MULTILINE):
            if name not in found:
                found.add(name)
                new.append(name)
    return tuple(sorted(found - {script}))


@pages.get("/lib/<name>/<version>/<path:file>")
@public("libraries anybody can get from npm")
def library(name: str, version: str, file: str) -> Response:
    """A file of a library. Its address names the version, so a browser may keep it for a year."""
    if name not in SERVED or version != versions()[name]:
        raise NotFound
    package, folder = SERVED[name]
    response = send_from_directory(_NPM / package / folder, file, max_age=365 * 86400)
    response.cache_control.immutable = True
    return response


@pages.after_request
def guard(response: Response) -> Response:
    """Say what the page may do, who may show it in a frame, and that a page is not kept."""
    response.headers.setdefault("Content-Security-Policy", policy())
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Referrer-Policy"] = "same-origin"
    if response.mimetype == "text/html":
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def policy() -> str:
    """The Content-Security-Policy of a page: scripts and styles of ours only, none of them inline."""
    tiles = urlsplit(current_app.extensions["fieldsvc.settings"].map_tiles)
    images = f"'self' data: blob: {tiles.scheme}://{tiles.netloc}" if tiles.netloc else "'self' data: blob:"
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {images}; connect-src 'self'; "
        "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
