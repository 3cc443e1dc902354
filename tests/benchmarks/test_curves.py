"""The content of the pictures of runs."""

import pictures
import plot
import pytest
import ticks
import torch
from PIL import Image
from run_lines import figured

FD, SECONDS, ERROR = pictures.AXES


def labels(axis):
    return [text.get_text() for text in axis.get_ticklabels() if text.get_visible() and text.get_text()]


@pytest.fixture
def closed():
    yield
    pictures.plt.close("all")


@pytest.mark.parametrize(
    ("low", "high", "some"),
    [
        (0.14, 0.15, "0.146"),
        (1.7, 2.2, "2"),
        (0.003, 900.0, "100"),
        (9, 60, "20"),
        (1e-7, 1e-3, "0.0001"),
        (2e6, 3e9, "1e+08"),
    ],
)
def test_any_range_has_numbers_that_do_not_touch(low, high, some):
    found = ticks.ticks_within(low, high, 0.055)
    assert 3 <= len(found) <= 12
    assert some in map(ticks.number, found)
    assert all(low <= tick <= high for tick in found)


def test_budgets_are_marked_first_and_none_upon_another():
    found = ticks.ticks_within(4.0, 600.0, 0.055, [10, 11, 12, 50])
    assert 10 in found
    assert 50 in found
    assert 11 not in found
    assert max(found) > 100  # for the many calls of an adaptive solver


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize("axis", pictures.AXES)
def test_both_axes_have_plain_numbers_when_values_lie_within_a_decade(axis):
    made = [figured(nfe=n, nfe_requested=n, fd=1.8 - n / 100, seconds_per_1k_samples=n * 3.0) for n in (8, 9)]
    figure = pictures.curves_of(axis, made)
    for one in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        assert len(labels(one)) >= 2
        assert all(text.replace(",", "").replace(".", "").isdigit() for text in labels(one))


CROWD = [
    figured(solver=f"s{i}", fd=1.0 + i, rmse_to_converged=1.0 + i, nfe_requested=8, nfe=8) for i in range(40)
]


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize("axis", pictures.AXES)
def test_at_one_budget_every_solver_has_a_row_with_its_name_and_value(axis):
    overshoot = figured(solver="adaptive", fd=0.5, rmse_to_converged=0.5, nfe_requested=8, nfe=549)
    figure = pictures.picture_of(axis, [*CROWD, overshoot], [])
    left, right = figure.axes
    assert labels(left.yaxis) == ["adaptive   0.5", *(f"s{i}   {1 + i}" for i in range(40))]
    rows = [line for line in left.lines if len(line.get_xdata()) == 1]
    assert len(rows) == 41
    assert [line.get_markerfacecolor() for line in rows].count("white") == 1  # marked: it made more calls
    if axis.x == "nfe":
        assert [text.get_text() for text in right.texts] == ["549", *["8"] * 40]
    assert figure.get_size_inches()[1] > 40 * 0.18  # inches for each row, to be read


@pytest.mark.usefixtures("closed")
def test_a_run_that_made_more_calls_is_best_at_no_budget():
    made = [figured(solver=f"s{i}", fd=2.0 + i, nfe=n, nfe_requested=n) for i in range(14) for n in (8, 20)]
    adaptive = figured(solver="adaptive", fd=0.1, nfe=549, nfe_requested=8)
    (legend,) = pictures.curves_of(FD, [*made, adaptive]).legends
    assert [text.get_text() for text in legend.get_texts()] == ["s0", "converged run, 1"]
    by_distance, _ = plot.best([*made, adaptive], 2).split("\n\n")
    assert by_distance.splitlines()[-2] == "| 8 | `s0`, karras: 2 | `s1`, karras: 3 |"
    table = plot.markdown([*made, adaptive])
    assert "| `adaptive` | 0.1 (549 calls) |  |" in table
    assert "| `s0` | **2** | **2** |" in table


def test_calls_that_are_not_those_asked_for_stand_in_every_table(capsys):
    made = [figured(solver="few", nfe=8), figured(solver="many", nfe=549.5), figured(solver="kept")]
    plot.print_table(made)
    printed = capsys.readouterr().out
    assert "8 of 10" in printed
    assert "549.5 of 10" in printed
    assert "`few`, karras: 2 (8 calls)" in plot.best(made, 3)


@pytest.mark.usefixtures("closed")
def test_a_single_run_lies_over_the_published_ones_of_its_kind():
    behind = [figured(solver=f"p{i}", nfe=n, nfe_requested=n, fd=3.0 + i) for i in range(3) for n in (5, 20)]
    other = [figured(solver="other", problem="q"), figured(solver="clean", to_clean=True)]
    own = [figured(seconds_per_1k_samples=40.0)]
    figure = pictures.picture_of(FD, own, pictures.of_kind(FD, own, [*behind, *other]))
    (axes,) = figure.axes
    grey = [line for line in axes.lines if line.get_color() == "0.85"]
    assert len(grey) == 3
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["ddim, 2", "converged run, 1", "published runs (3),\n10 samples"]
    # with other numbers of samples only errors are comparable
    fewer = [record | {"n_samples": 5, "fd_features": "FD[x]@5"} for record in own]
    assert not pictures.of_kind(FD, fewer, behind)
    assert len(pictures.of_kind(ERROR, fewer, behind)) == len(behind)
    seconds = pictures.of_kind(SECONDS, own, behind)
    assert {record["seconds_per_1k_samples"] for record in seconds} == {
        20.0,
        80.0,
    }  # 4 s a call, as in this run


def test_the_published_runs_are_those_of_the_results():
    kinds = {(record["problem"], record["n_samples"]) for record in pictures.published()}
    assert ("mnist", 1000) in kinds


def test_groups_that_differ_in_anything_have_files_of_their_own(tmp_path):
    made = [figured(), figured(seed=1), figured(dtype="bfloat16"), figured(problem="p/" + "x" * 300)]
    files = pictures.draw_curves(made, tmp_path)
    assert len(files) == len(set(files)) == len(list(tmp_path.iterdir())) == 12
    assert tmp_path / "fd-nfe-p-FD-x-10-edm.png" in files
    assert tmp_path / "fd-nfe-p-FD-x-10-edm-seed=1.png" in files
    first = pictures.draw_curves(made[:1], tmp_path / "first")
    assert first[0].name == "fd-nfe-p-FD-x-10-edm.png"


@pytest.mark.parametrize("shape", [(100, 1, 28, 28), (9, 3, 64, 64), (4, 5, 8, 8), (30, 2), (30, 1)])
def test_samples_of_any_shape_have_a_picture_that_can_be_seen(shape, tmp_path):
    pictures.draw_samples(torch.rand(shape) * 2 - 1, tmp_path / "grid.png", "title")
    with Image.open(tmp_path / "grid.png") as image:
        width, height = image.size
    assert 450 < width < 1100
    assert 450 < height < 1100


def test_of_a_crowd_the_best_at_each_budget_stand_out():
    made = [
        {"problem": "p", "sde": "edm", "n_samples": 10, "spacing": "karras", "solver": f"s{i}"}
        | {"nfe": nfe, "nfe_requested": nfe, "fd": abs(nfe - i) + 1.0}
        for i in range(20)
        for nfe in (5, 12)
    ]
    made = [figured(**record) for record in made]
    figure = pictures.curves_of(pictures.Axis("fd-nfe", "nfe", "fd"), made)
    (legend,), (axis,) = figure.legends, figure.axes
    named = [text.get_text() for text in legend.get_texts()]
    assert named == ["s5", "s12", "converged run, 1"]
    assert (
        len([line for line in axis.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]) == 20
    )
    pictures.plt.close(figure)


def test_the_best_of_a_budget_come_with_their_better_spacing():
    same = dict.fromkeys(plot.SAME, 0) | {"problem": "p", "fd_features": "FD[x]@10", "nfe_requested": 5}
    made = [
        same | {"solver": solver, "spacing": spacing, "fd": fd, "rmse_to_converged": rmse, "nfe": 5}
        for solver, spacing, fd, rmse in [
            ("a", "karras", 3.0, 0.5),
            ("a", "beta", 2.0, 0.7),
            ("b", "beta", 2.5, 0.6),
            ("c", "beta", 1.0, None),
        ]
    ]
    by_distance, by_error = plot.best(made, 2).split("\n\n")
    assert by_distance.splitlines()[-1] == "| 5 | `c`, beta: 1 | `a`, beta: 2 |"
    assert by_error.splitlines()[-1] == "| 5 | `a`, karras: 0.5 | `b`, beta: 0.6 |"
