"""What a view module is made of: a :class:`Blueprint` whose views are strict and say honestly what they answer.

A view from top to bottom::

    blp = Blueprint("crews", __name__, url_prefix="/v1/crews", description="Crews, their shifts and codes")

    @blp.post("")
    @access.staff("supervisor")            # who may call; admins always may. Stands above everything that reads input
    @idempotency.creates                   # on POSTs that create: opens the transaction itself
    @blp.arguments(CrewNew)                # JSON body; location="query" for query parameters
    @blp.response(201, CrewAnswer)
    @blp.errors("already-exists")          # further codes of base.errors.CODES it may answer
    def create(body):
        \"\"\"Add a crew\"\"\"
        ...

Known from the decorators, so not to be listed: 401 and 403 of the access, 404 of path parameters, 400/413/415/422 of a
body, 422 of unknown query parameters, 412/428 of ``etag.if_match``, 409 of ``idempotency.creates``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import wraps
from typing import Any
from urllib.parse import unquote_to_bytes

import flask_smorest  # type: ignore[import-untyped]
import marshmallow as ma
import orjson
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask, request
from werkzeug.routing import BaseConverter

from fieldsvc.api import problems
from fieldsvc.api.schemas import ID_PATTERN, from_text
from fieldsvc.base.errors import CODES, FieldsvcError, Invalid

View = Callable[..., Any]


class IdConverter(BaseConverter):
    """``<id:job_id>`` in a route: anything that cannot be an id is no address of ours, so it is 404."""

    # Not the names of actions beside ids: GET /v1/territories/import would else be a territory that is not there.
    regex = r"(?!(?:import|locate)\Z)" + ID_PATTERN.strip("^$")
    part_isolating = True


class Api(flask_smorest.Api):
    """flask-smorest's, with problem documents as the only error answers and no default answer that hides others."""

    DEFAULT_ERROR_RESPONSE_NAME = None

    def _register_error_handlers(self) -> None:
        problems.init_app(self._app)

    def _register_responses(self) -> None:
        """None: every operation lists its own error answers."""

    def _register_etag_headers(self) -> None:
        """None: ``api.etag`` documents its own."""

    def _register_pagination_header(self) -> None:
        """None: ``api.paging`` has another form."""

    def init_app(self, app: Flask, *, spec_kwargs: Mapping[str, Any] | None = None) -> None:
        plugin = MarshmallowPlugin(schema_name_resolver=_SchemaNames())
        self._undescribed: list[Blueprint] = []
        self._describing = threading.Lock()
        super().init_app(app, spec_kwargs={**(spec_kwargs or {}), "marshmallow_plugin": plugin})
        self.register_converter(IdConverter, lambda _: {"type": "string", "pattern": ID_PATTERN})
        self.spec.components.schema("Problem", problems.SCHEMA)

    def register_blueprint(self, blp: Blueprint, **options: Any) -> None:
        """Put the room's routes on the application. Its part of the description is written when somebody asks for it:
        that takes twice as long as all the rest of a start."""
        self._app.extensions["flask-smorest"]["blp_name_to_api"][blp.name] = self
        self._app.register_blueprint(blp, **options)
        self._undescribed.append(blp)

    def described(self) -> dict[str, Any]:
        """The description of all rooms, as a JSON-ready OpenAPI document."""
        with self._describing:
            while self._undescribed:
                blp = self._undescribed.pop(0)
                blp.register_views_in_doc(self, self._app, self.spec, name=blp.name, parameters=None)
                self.spec.tag({"name": blp.name, "description": blp.description})
            document: dict[str, Any] = self.spec.to_dict()
        return document


class _SchemaNames:
    """Names schemas in the description after their class; a second class of that name gets its room before it."""

    def __init__(self) -> None:
        self._taken: dict[str, type] = {}

    def __call__(self, schema: Any) -> str:
        kind = schema if isinstance(schema, type) else type(schema)
        name = kind.__name__.removesuffix("Schema")
        room = kind.__module__.rpartition(".")[2].title().replace("_", "")
        for candidate in (name, room + name, *(f"{name}{number}" for number in range(2, 100))):
            if self._taken.setdefault(candidate, kind) is kind:
                return candidate
        raise ValueError(f"a hundred schemas are called {name}")


def document(
    view: View,
    *,
    parameters: Sequence[Mapping[str, Any]] = (),
    errors: Iterable[str] = (),
    access: str | None = None,
    **members: Any,
) -> View:
    """Add to what the OpenAPI document says of ``view``: parameters, error codes, who may call, other members."""
    info = view._apidoc = deepcopy(getattr(view, "_apidoc", {}))  # type: ignore[attr-defined]
    frame = info.setdefault("frame", {"parameters": [], "errors": [], "members": {}})
    frame["parameters"] += [dict(parameter) for parameter in parameters]
    frame["errors"] += list(errors)
    frame["members"].update(members | ({"x-access": access} if access else {}))
    return view


def takes_query(view: View) -> bool:
    """Whether ``view`` has declared any query parameters."""
    info = getattr(view, "_apidoc", {})
    declared = [p for p in info.get("arguments", {}).get("parameters", []) if p.get("in") == "query"]
    return bool(declared) or any(p.get("in") == "query" for p in info.get("frame", {}).get("parameters", []))


class Blueprint(flask_smorest.Blueprint):
    """A room of the API. Give each module one, named ``blp``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._prepare_doc_cbks.append(_frame_doc)

    def add_url_rule(
        self, rule: str, endpoint: str | None = None, view_func: View | None = None, *args: Any, **options: Any
    ) -> None:
        """Register a view; OPTIONS is not answered for it, as nothing here is meant for other origins."""
        if view_func is not None:
            view_func.provide_automatic_options = False  # type: ignore[attr-defined]  # read by Flask
            unknown = ["not-found"] if "<" in (self.url_prefix or "") + rule else []
            document(view_func, errors=unknown, operationId=f"{self.name}_{endpoint or view_func.__name__}")
        super().add_url_rule(rule, endpoint, view_func, *args, **options)

    def arguments(
        self, schema: type[ma.Schema] | ma.Schema, *, location: str = "json", required: bool = True, **_: Any
    ) -> Callable[[View], View]:
        """Load the body (``json``) or the query (``query``) by ``schema``; the result is passed as last argument."""
        instance = schema() if isinstance(schema, type) else schema
        if location not in ("json", "query"):
            raise ValueError("location must be json or query")
        of_body = ["bad-request", "too-large", "unsupported-media-type"] if location == "json" else []

        def decorate(view: View) -> View:
            @wraps(view)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                loaded = query(instance) if location == "query" else load(instance, json_body(required=required))
                return view(*args, loaded, **kwargs)

            document(wrapper, errors=of_body)
            parameters = wrapper._apidoc.setdefault("arguments", {}).setdefault("parameters", [])  # type: ignore[attr-defined]
            parameters.insert(0, {"in": location, "required": required, "schema": instance})
            return wrapper

        return decorate

    def errors(self, *codes: str) -> Callable[[View], View]:
        """Say which further error codes the view may answer."""
        unknown = [code for code in codes if code not in CODES]
        if unknown:
            raise KeyError(f"no such error codes: {unknown}")
        return lambda view: document(view, errors=codes)

    def raw_body(
        self, schema: Mapping[str, Any], *, content_types: Sequence[str] = ("application/json",)
    ) -> Callable[[View], View]:
        """Document a body that the view itself reads (bytes, msgspec): ``schema`` is a JSON schema."""
        body = {"required": True, "content": {name: {"schema": dict(schema)} for name in content_types}}
        return lambda view: document(
            view, errors=["bad-request", "too-large", "unsupported-media-type"], requestBody=body
        )


def json_body(*, required: bool = True, content_types: Sequence[str] = ("application/json",)) -> Any:
    """The decoded JSON body; ``{}`` when there is none and none is required.

    :raises FieldsvcError: ``unsupported-media-type``, ``bad-request`` (not JSON), ``too-large``.
    """
    if not required and not request.content_length and "Transfer-Encoding" not in request.headers:
        return {}
    if request.mimetype not in content_types:
        raise FieldsvcError("unsupported-media-type", f"send the body as {' or '.join(content_types)}")
    raw = request.get_data(cache=True)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        what = f"{error.msg} at character {error.pos}" if raw else "there is no body"
        raise FieldsvcError("bad-request", f"the body is not JSON: {what}") from None


def load(schema: ma.Schema, data: Any) -> Any:
    """Load ``data``; a fault becomes 422 with a JSON pointer per field."""
    try:
        return schema.load(data)
    except ma.ValidationError as error:
        raise problems.invalid(error.messages) from None


def check_query_text() -> None:
    """Refuse query text that is not UTF-8: Werkzeug would silently keep or replace it."""
    try:
        unquote_to_bytes(request.query_string).decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid.field("query", "must be UTF-8") from None


def refuse_query() -> None:
    """Refuse any query parameter, for views that have none."""
    if request.query_string:
        check_query_text()
        names = sorted(request.args) or ["query"]
        raise problems.invalid({name: ["is not known here"] for name in names}, where="query")


def query(schema: ma.Schema) -> Any:
    """The query parameters of this request as ``schema`` reads them; what is unknown, repeated or wrong is 422."""
    check_query_text()
    data: dict[str, Any] = {}
    repeated = {}
    for name in request.args:
        field = schema.fields.get(name)
        values = request.args.getlist(name)
        if getattr(field, "query_list", False):
            data[name] = values
        elif len(values) > 1:
            repeated[name] = ["is given more than once"]
        else:
            data[name] = values[0]
    if repeated:
        raise problems.invalid(repeated, where="query")
    try:
        with from_text():
            return schema.load(data)
    except ma.ValidationError as error:
        raise problems.invalid(error.messages, where="query") from None


def _frame_doc(doc: dict[str, Any], doc_info: dict[str, Any], *, spec: Any, **_: Any) -> dict[str, Any]:
    """Put parameters, error answers and security of an operation into its documentation."""
    frame = doc_info.get("frame", {"parameters": [], "errors": [], "members": {}})
    if frame["parameters"]:
        doc["parameters"] = [*doc.get("parameters", []), *frame["parameters"]]
    doc.update(frame["members"])
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys([*frame["errors"], "invalid"]):
        by_status.setdefault(CODES[code][0], []).append(code)
    responses = doc.setdefault("responses", {})
    for status, codes in sorted(by_status.items()):
        responses[status] = error_answer(codes)
    return doc


def error_answer(codes: Sequence[str]) -> dict[str, Any]:
    """The OpenAPI response object for ``codes`` (of one status)."""
    headers: dict[str, Any] = {}
    status = CODES[codes[0]][0]
    if status == 401:
        headers["WWW-Authenticate"] = {"required": True, "schema": {"type": "string"}}
    if status in (429, 503):
        headers["Retry-After"] = {"required": True, "schema": {"type": "string", "pattern": "^[0-9]+$"}}
    answer: dict[str, Any] = {
        "description": "; ".join(f"`{code}`: {CODES[code][1]}" for code in sorted(codes)),
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    return answer | ({"headers": headers} if headers else {})
