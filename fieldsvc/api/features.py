"""Layers for maps (OGC API Features)."""

from fieldsvc.api.frame import Blueprint

blp = Blueprint("features", __name__)
