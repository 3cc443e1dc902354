"""The picture of measured levels: its densities, and the levels in its rows."""

import io
import math
import sys

import numpy as np
import pytest
from PIL import Image

from scoresde import EDM, VPSDE, RectifiedFlow
from scoresde.spacings import AtShares, FlowTime, Karras, UniformLambda
from scoresde.spacings.measured import Choice, Measured, ends_of
from scoresde.tuning.levels_picture import density, draw_levels

pytest.importorskip("matplotlib")


def levels_on(sde):
    """Choices of both forms; two of them share their levels."""
    first, last = ends_of(sde)
    shares = AtShares((first, 0.5, last), (0.0, 0.7, 1.0))
    spacings = {3: FlowTime(2.0, 1.0), 4: shares, 8: FlowTime(2.0, 1.0)}
    choices = tuple(Choice(calls, f"solver-{calls}", spacing) for calls, spacing in spacings.items())
    return Measured(type(sde).__name__, (first, last), choices)


@pytest.fixture
def drawn(monkeypatch):
    """Draw, and return the panels."""
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig

    def saving(figure, *arguments, **options):
        figures.append(figure)
        return save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", saving)

    def draw(levels, sde):
        content = draw_levels(levels, sde)
        return content, *figures[-1].axes

    return draw


def test_the_density_of_flow_time_is_its_closed_form():
    """u^(1/e) falls evenly, u = r / (c + r); over ln r its slope is u^(1/e) (1 - u) / e."""
    sde, e, c = EDM(), 3.0, 1.7
    r, found = density(FlowTime(e, c), sde)
    u, (first, last) = r / (c + r), (sde.t_max / (c + sde.t_max), sde.t_min / (c + sde.t_min))
    exact = math.log(10) * u ** (1 / e) * (1 - u) / e / (first ** (1 / e) - last ** (1 / e))
    # Differences over 80 steps: off by (h d)^2 / 24 of a step's h, some 1e-3, more in the two longest steps.
    assert np.abs(found[1:-1] / exact[1:-1] - 1).max() < 0.02


@pytest.mark.parametrize("spacing", [Karras(7.0), UniformLambda(), FlowTime(2.0, 4.0)])
def test_a_density_is_that_of_all_levels(spacing):
    sde = VPSDE()
    _, found = density(spacing, sde)
    lams = sde.lam(spacing(sde, len(found))).numpy()
    assert np.sum(found * np.diff(lams)) / math.log(10) == pytest.approx(1, abs=1e-12)


def test_uniform_lambda_is_flat():
    _, found = density(UniformLambda(), EDM())
    assert found == pytest.approx(1 / math.log10(EDM().t_max / EDM().t_min), rel=1e-9)


def test_the_rows_are_the_levels_and_equal_spacings_are_one_curve(drawn):
    sde = EDM()
    levels = levels_on(sde)
    content, top, rows = drawn(levels, sde)
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG"
    labels = [text.get_text() for text in top.get_legend().get_texts()]
    assert labels == ["karras, rho = 7", "uniform-lambda", "3, 8 calls", "4 calls"]
    for line, spacing in zip(top.lines, (Karras(7.0), UniformLambda(), FlowTime(2.0, 1.0)), strict=False):
        np.testing.assert_array_equal(line.get_xdata(), density(spacing, sde)[0])
        np.testing.assert_array_equal(line.get_ydata(), density(spacing, sde)[1])
    for i, choice in enumerate(levels.choices):
        own, stock = rows.lines[2 * i : 2 * i + 2]
        np.testing.assert_allclose(own.get_xdata(), choice.spacing(sde, choice.calls).numpy(), rtol=1e-9)
        np.testing.assert_allclose(stock.get_xdata(), Karras(7.0)(sde, choice.calls).numpy(), rtol=1e-9)
        assert set(own.get_ydata()) == {i}
    assert [text.get_text() for text in rows.get_yticklabels()] == [
        "3: solver-3",
        "4: solver-4",
        "8: solver-8",
    ]
    assert rows.get_ylim()[0] > 2.5 > 0 > rows.get_ylim()[1]  # the first row is on top, and all are inside
    noisy, clean = rows.get_xlim()
    assert noisy > sde.t_max > sde.t_min > clean
    assert rows.lines[0].get_color() == pytest.approx(rows.lines[4].get_color())
    assert rows.lines[0].get_color() != pytest.approx(rows.lines[2].get_color())


def test_a_run_from_pure_noise_is_drawn_without_what_is_not_defined_there(drawn):
    sde = RectifiedFlow()
    levels = levels_on(sde)
    _, top, rows = drawn(levels, sde)
    assert [text.get_text() for text in top.get_legend().get_texts()] == ["3, 8 calls", "4 calls"]
    for line in top.lines:
        assert np.isfinite(line.get_xdata()).all()
        assert np.isfinite(line.get_ydata()).all()
    assert len(rows.lines) == 3
    _, found = density(FlowTime(2.0, 1.0), sde)
    assert len(found) == 79  # of 80 steps, the first begins at infinity


def test_without_matplotlib_it_is_an_import_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError):
        draw_levels(levels_on(EDM()), EDM())
