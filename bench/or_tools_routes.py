"""Routes by OR-Tools. A program of its own, run by the interpreter of OR-Tools' environment; it imports none of ours.

Reads a problem from the JSON file named first, with the matrix in the .npy file it names; writes routes and seconds as
JSON to standard output. All times are whole seconds from the start of the day.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
from ortools.constraint_solver import pywrapcp, routing_enums_pb2


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123
        problem = json.load(file)
    began = time.perf_counter()
    routes, cost = solve(problem, np.load(problem["matrix"]))
    print(json.dumps({"routes": routes, "cost": cost, "seconds": time.perf_counter() - began}))


def solve(problem: dict[str, Any], seconds: Any) -> tuple[list[list[int]], int | None]:
    """Rows of jobs in order, by vehicle; jobs are the first rows of the matrix.

    Hard: windows, shifts, capacity, which vehicles may do a job. Soft: a promise costs ``late_cost`` for each second it
    is missed by; a job left out costs ``drop_cost``; the rest is seconds of driving. Routes to begin with are those of
    ``first`` or its own cheapest insertion; then guided local search until ``limit_s``.
    """
    jobs, crews = problem["jobs"], problem["crews"]
    manager = pywrapcp.RoutingIndexManager(
        len(seconds), len(crews), [crew["start"] for crew in crews], [crew["end"] for crew in crews]
    )
    routing = pywrapcp.RoutingModel(manager)
    service = np.zeros(len(seconds), dtype=np.int64)
    service[: len(jobs)] = [job["service"] for job in jobs]
    driving = routing.RegisterTransitMatrix(seconds.astype(np.int64).tolist())
    busy = routing.RegisterTransitMatrix((seconds + service[:, None]).tolist())
    routing.SetArcCostEvaluatorOfAllVehicles(driving)
    horizon = max(crew["until"] for crew in crews)
    routing.AddDimension(busy, horizon, horizon, False, "time")
    clock = routing.GetDimensionOrDie("time")
    load = np.zeros(len(seconds), dtype=np.int64)
    load[: len(jobs)] = [job["load"] for job in jobs]
    routing.AddDimensionWithVehicleCapacity(
        routing.RegisterUnaryTransitVector(load.tolist()), 0, [crew["capacity"] for crew in crews], True, "load"
    )
    for number, crew in enumerate(crews):
        clock.CumulVar(routing.Start(number)).SetRange(crew["from"], crew["until"])
        clock.CumulVar(routing.End(number)).SetRange(crew["from"], crew["until"])
    for row, job in enumerate(jobs):
        index = manager.NodeToIndex(row)
        clock.CumulVar(index).SetRange(*job["window"])
        if job["due"] is not None:
            clock.SetCumulVarSoftUpperBound(index, job["due"], job["late_cost"])
        if job["crews"]:
            routing.VehicleVar(index).SetValues([-1, *job["crews"]])  # -1: left out
            routing.AddDisjunction([index], job["drop_cost"])
        else:
            routing.AddDisjunction([index], 0)
            routing.ActiveVar(index).SetValue(0)
    parameters = pywrapcp.DefaultRoutingSearchParameters()
    parameters.first_solution_strategy = routing_enums_pb2.FirstSolutionStrategy.PARALLEL_CHEAPEST_INSERTION
    parameters.local_search_metaheuristic = routing_enums_pb2.LocalSearchMetaheuristic.GUIDED_LOCAL_SEARCH
    parameters.time_limit.FromMilliseconds(int(problem["limit_s"] * 1000))
    if problem["first"]:
        routing.CloseModelWithParameters(parameters)
        first = routing.ReadAssignmentFromRoutes(problem["first"], True)
        assert first, "the routes to begin with break a rule"
        found = routing.SolveFromAssignmentWithParameters(first, parameters)
    else:
        found = routing.SolveWithParameters(parameters)
    if not found:
        return [[] for _ in crews], None
    return _read(manager, routing, found, len(jobs)), found.ObjectiveValue()


def _read(manager: Any, routing: Any, found: Any, jobs: int) -> list[list[int]]:
    """The rows of the jobs of each vehicle, in order."""
    routes = []
    for number in range(routing.vehicles()):
        index, route = routing.Start(number), []
        while not routing.IsEnd(index):
            node = manager.IndexToNode(index)
            if node < jobs:
                route.append(node)
            index = found.Value(routing.NextVar(index))
        routes.append(route)
    return routes


if __name__ == "__main__":
    main()
