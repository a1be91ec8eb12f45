"""Dispatch runs: who gets what, decided by a plan, carried out job by job, explained.

A run is a row before anybody is rung (``request``). It is divided into areas that are planned side by side
(``conduct``, ``area``, ``solving``) on what stands in the tables (``basis``, ``days``, ``rules``). What was decided is
kept, looked at (``difference``), accepted whole or with what goes along (``together``), and carried out in short
transactions, each job only if nothing about it has changed since (``carry_out``). Every step can be repeated at any
point and does nothing twice.
"""

from fieldsvc.work.dispatch.area import plan_area
from fieldsvc.work.dispatch.carry_out import carry_out
from fieldsvc.work.dispatch.conduct import conduct, due
from fieldsvc.work.dispatch.difference import about, chosen
from fieldsvc.work.dispatch.queries import area_row, areas, changes, decision_row, decisions, find, row, rows, runs
from fieldsvc.work.dispatch.request import MODES, accept, cancel, request
from fieldsvc.work.dispatch.together import along

__all__ = [
    "MODES",
    "about",
    "accept",
    "along",
    "area_row",
    "areas",
    "cancel",
    "carry_out",
    "changes",
    "chosen",
    "conduct",
    "decision_row",
    "decisions",
    "due",
    "find",
    "plan_area",
    "request",
    "row",
    "rows",
    "runs",
]
