"""The comparison with other projects, on a problem of two dimensions."""

import importlib.util
import json
import re

import compare
import pytest

THERE = [name for name, package in compare.PACKAGES.items() if importlib.util.find_spec(package)]


def records(folder, *arguments):
    out = folder / "compare.jsonl"
    small = ["--problem", "gmm2", "--n-samples", "60", "--batch-size", "40", "--converged", "64"]
    assert compare.main([*small, *arguments, "--out", str(out), "--quiet"]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return records(tmp_path_factory.mktemp("compare"), "--nfe", "8")


def test_every_method_has_a_row_of_every_project_that_is_installed(found):
    rows = [(record["method"], record["project"]) for record in found]
    assert rows == [
        (name, project)
        for name, method in compare.METHODS.items()
        for project in ("scoresde", *(p for p in method.theirs if p in THERE))
    ]


def test_all_projects_make_the_same_number_of_calls(found):
    assert {record["nfe"] for record in found} == {8}


def test_deterministic_methods_of_one_formula_end_alike(found):
    """To the rounding of 8 steps in float32. Not 3M: the peers have another weight and another first step."""
    for name in ("euler", "heun", "dpm2", "lms", "deis", "unipc"):
        errors = [record["rmse_to_converged"] for record in found if record["method"] == name]
        assert errors == pytest.approx([errors[0]] * len(errors), rel=1e-3)


def test_stochastic_methods_have_no_distance_to_a_deterministic_run(found):
    for record in found:
        assert (record["rmse_to_converged"] is None) == (
            record["method"] in ("ancestral", "2m-sde", "3m-sde")
        )
        assert 0 < record["seconds_around"] < record["seconds"]
        assert record["fd"] > 0


def test_the_same_noise_is_drawn_by_all(found):
    """So the distance of a stochastic method is the same, to the rounding of float32."""
    for name in ("ancestral", "2m-sde"):
        distances = [record["fd"] for record in found if record["method"] == name]
        assert distances == pytest.approx([distances[0]] * len(distances), rel=1e-3)


def test_what_is_not_installed_has_no_row(tmp_path, monkeypatch):
    def absent(*_, **__):
        raise ModuleNotFoundError("No module named 'k_diffusion'", name="k_diffusion")

    euler = compare.Method("ddim", {"k-diffusion": absent})
    monkeypatch.setitem(compare.METHODS, "euler", euler)
    assert [r["project"] for r in records(tmp_path, "--method", "euler", "--nfe", "4")] == ["scoresde"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "eular"], "eular.*euler"),
        (["--nfe", "1"], "nfe.*1"),
        (["--n-samples", "0"], "n-samples.*0"),
        (["--problem", "mnits"], "mnits.*mnist"),
    ],
)
def test_bad_input_is_one_line(arguments, said, tmp_path, capsys):
    assert compare.main([*arguments, "--out", str(tmp_path / "out.jsonl")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(said, error)
    assert not list(tmp_path.iterdir())
