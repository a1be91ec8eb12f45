"""Verdicts on crews beside two others who judge: the checker of plans, and the planner itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from fieldsvc.geo.explain import Candidate, Day, Question, Verdict, explain
from fieldsvc.geo.model import Break, Goals, Plan, PlanCrew, PlanJob, Route, Stop, Window
from fieldsvc.geo.planner import plan
from fieldsvc.geo.routes import END, START, Ways, sets_out, walk
from fieldsvc.geo.travel import Geodesic, Place
from tests.plancheck import faults

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
TRAVEL = Geodesic()
KINDS = ("metering", "repair")
minutes = st.integers(0, 48).map(lambda number: NOW + timedelta(minutes=number * 10))


@st.composite
def jobs(draw: st.DrawFn, name: str) -> PlanJob:
    start = draw(minutes)
    window = Window(start, start + timedelta(minutes=draw(st.integers(0, 12)) * 20))
    skill = draw(st.sampled_from(KINDS))
    return PlanJob(
        name,
        111.5 + draw(st.integers(0, 20)) / 100,
        35.4 + draw(st.integers(0, 10)) / 100,
        territory_id=draw(st.sampled_from("AAAB")),
        kind=skill,
        skills=frozenset({skill}),
        number=name.upper(),
        service_min=draw(st.sampled_from((15, 30, 120))),
        windows=draw(st.sampled_from(((), (), (window,)))),
        due=draw(st.none() | minutes),
        load=draw(st.sampled_from((0, 0, 2))),
    )


@st.composite
def crews(draw: st.DrawFn) -> PlanCrew:
    pause = Break(NOW + timedelta(hours=2), NOW + timedelta(hours=draw(st.integers(2, 4))), 30)
    return PlanCrew(
        "c",
        111.55,
        35.45,
        home=frozenset("A"),
        reach=draw(st.sampled_from(({}, {"B": 500.0}))),
        skills=frozenset(draw(st.sampled_from((KINDS, KINDS[:1])))),
        shift=Window(NOW - timedelta(hours=1), NOW + timedelta(hours=draw(st.integers(1, 8)))),
        code="C",
        capacity=draw(st.sampled_from((None, 1, 4))),
        breaks=draw(st.sampled_from(((), (pause,)))),
        end_lon=111.55,
        end_lat=35.45,
    )


def verdict(job: PlanJob, crew: PlanCrew, held: list[PlanJob]) -> Verdict:
    question = Question(job, Goals(), NOW)
    found = explain(question, [Candidate("c", "C", days=(Day(crew, tuple(held)),))], TRAVEL).of("c")
    assert found is not None
    return found


def as_plan(crew: PlanCrew, route: list[PlanJob]) -> Plan:
    """The jobs in this order as a plan, by our own walk."""
    places = [Place(crew.lon or 0, crew.lat or 0), Place(crew.end_lon or 0, crew.end_lat or 0)]
    places += [Place(job.lon or 0, job.lat or 0) for job in route]
    ways = Ways(TRAVEL.matrix(places), {START: 0, END: 1} | {job.id: row for row, job in enumerate(route, 2)})
    walked = walk(crew, route, ways, Goals(), NOW)
    stops, here = [], START
    for number, visit in enumerate(walked.visits, 1):
        far, way = ways.metres(here, visit.job.id), (ways.seconds(here, visit.job.id) or 0) / 60
        stops.append(Stop(visit.job.id, "c", number, *visit[1:4], way, far, visit.late_min))
        here = visit.job.id
    whole = Route("c", tuple(stops), sets_out(crew, NOW), walked.end_at, walked.metres, walked.seconds / 60)
    return Plan((whole,), (), TRAVEL.matrix([]).report)


@settings(max_examples=40, deadline=None)
@given(
    jobs("j"),
    crews(),
    st.lists(st.integers(), max_size=3).flatmap(lambda n: st.tuples(*(jobs(f"h{i}") for i, _ in enumerate(n)))),
)
def test_where_a_crew_could_take_a_job_the_checker_finds_a_sound_plan(
    job: PlanJob, crew: PlanCrew, some: tuple[PlanJob, ...]
) -> None:
    held: list[PlanJob] = []
    for other in some:  # what the crew holds is itself sound
        if not faults([*held, other], [crew], NOW, TRAVEL, as_plan(crew, [*held, other])):
            held.append(other)
    found = verdict(job, crew, held)
    if found.possible:
        place = found.numbers["stop"] - 1
        route = [*held[:place], job, *held[place:]]
        assert faults(route, [crew], NOW, TRAVEL, as_plan(crew, route)) == []


@settings(max_examples=40, deadline=None)
@given(jobs("j"), crews())
def test_a_crew_that_holds_nothing_could_have_just_what_the_planner_gives_it(job: PlanJob, crew: PlanCrew) -> None:
    made = plan([job], [crew], NOW, TRAVEL)
    found = verdict(job, crew, [])
    assert found.possible == bool(made.stops), (found, made)
    if made.stops:
        assert found.numbers["begin_at"] == made.stops[0].begin_at
        assert found.numbers["late_min"] == round(made.stops[0].late_min, 1)
