"""The papers of every solver: those that its docstring names, as BibTeX."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

import scoresde
from scoresde import SOLVERS, VPSDE, Plan, citation
from scoresde.solvers import (
    DDIM,
    AnalyticalFirstStep,
    Churn,
    DPMSolver,
    ExponentialAdams,
    Heun,
    Midpoint,
    UniC,
)
from scoresde.solvers.citations import SOURCES, entries

# Solvers that no entry of the registry shows: outside of it, or with other options.
OTHERS = [
    AnalyticalFirstStep(DPMSolver(2)),
    Midpoint(variable="lambda"),
    ExponentialAdams(2, prediction="noise"),
]
# A source that is not on arXiv is known in a docstring by its author and year.
BY_NAME = {
    "crowson2022kdiffusion": "Crowson 2022",
    "hochbruck2005explicit": "Hochbruck and Ostermann 2005",
    "kutta1901beitrag": "Kutta 1901",
    "roessler2010rungekutta": "Roessler 2010",
}


def cited(text: str | None) -> set[str]:
    """The arXiv numbers of a text, and the names of other sources."""
    words = " ".join((text or "").split())
    return {*re.findall(r"\b\d{4}\.\d{5}\b", words), *(name for name in BY_NAME.values() if name in words)}


def of(solver: object) -> set[str]:
    """The same of a solver's citation."""
    text = citation(solver)  # type: ignore[arg-type]
    labels = re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE)
    return cited(text) | {BY_NAME[label] for label in labels if label in BY_NAME}


def test_a_citation_names_what_the_docstrings_name_and_no_more() -> None:
    """Of every class: all its solvers together cite all papers of its docstring."""
    found: dict[type, set[str]] = {}
    for solver in [*SOLVERS.values(), *OTHERS]:
        inside = getattr(solver, "solver", getattr(solver, "predictor", None))
        own = of(solver) - (of(inside) - cited(type(solver).__doc__) if hasattr(inside, "solve") else set())
        found[type(solver)] = found.get(type(solver), set()) | own
    assert set(found) == set(SOURCES)
    for kind, papers in found.items():
        assert papers
        assert papers == cited(kind.__doc__), kind


def test_every_entry_of_the_file_is_cited_and_whole() -> None:
    labels = {
        label
        for solver in [*SOLVERS.values(), *OTHERS]
        for label in re.findall(r"\{(\w+),\n", citation(solver))
    }
    assert labels == set(entries())
    for entry in entries().values():
        assert entry.startswith("@")
        assert entry.endswith("\n}")
        for name in ("author", "title", "year"):
            assert len(re.findall(rf"^  {name} = \{{.+\}},$", entry, re.MULTILINE)) == 1
        assert entry.count("{") == entry.count("}")


def test_a_name_its_options_and_an_instance_have_one_citation() -> None:
    for name, solver in SOLVERS.items():
        assert citation(name) == citation(solver)
    assert "2302.04867" in citation("unipc:predictor=2,corrector=3")
    assert "2302.04867" in citation("deis:corrector=4")
    assert "2309.05019" in citation("adams:tau=1.0")
    assert "2006.11239" in citation("ddim:eta=1.0")
    assert "2006.11239" not in citation("ddim")


def test_the_solver_inside_is_cited_after_the_one_around_it_and_once() -> None:
    karras, lu = "2206.00364", "2206.00927"
    assert re.findall(r"eprint = \{(.*)\}", citation("churn:solver=dpm2")) == [karras, lu]
    assert citation(Churn(Heun())) == citation(Heun())
    assert citation(UniC(DDIM())).count("@misc") == 2


def test_a_subclass_has_the_papers_of_its_class_and_others_have_none() -> None:
    class Mine(DDIM):
        pass

    @dataclass(frozen=True)
    class Theirs:
        order = 1
        solve = Heun.solve

    assert citation(Mine()) == citation("ddim")
    assert Plan.make(Theirs(), VPSDE(), 2).nfe == 4
    with pytest.raises(ValueError, match=r"solver must be a solver of scoresde, got .*Theirs\(\)"):
        citation(Theirs())
    with pytest.raises(ValueError, match="unknown solver 'unipcs'; did you mean 'unipc'"):
        citation("unipcs")


def test_an_installation_has_the_entries() -> None:
    project = tomllib.loads((Path(scoresde.__file__).parents[1] / "pyproject.toml").read_text())
    assert "solvers/*.bib" in project["tool"]["setuptools"]["package-data"]["scoresde"]
    assert "citation" in scoresde.__all__
