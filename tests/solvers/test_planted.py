"""Right values that wrong changes, planted one at a time over the core, showed to be unseen; by subject."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from scoresde import EDM, SOLVERS, VPSDE, Denoiser, Plan, SubVPSDE, predict, sample, solver_of
from scoresde.data import load_data
from scoresde.data.pictures import save_image
from scoresde.solvers import Churn, ExponentialAdams, Heun, Restart
from scoresde.solvers.stochastic import SDEDPMSolver
from scoresde.training import weighting
from scoresde.tuning.gits import gits

# Defaults


def test_defaults_are_the_papers():
    assert VPSDE() == VPSDE(beta_min=0.1, beta_max=20.0)
    assert SubVPSDE() == SubVPSDE(beta_min=0.1, beta_max=20.0)
    assert EDM() == EDM(t_min=0.002, t_max=80.0)
    level = EDM().level(torch.tensor([0.01, 0.5, 70.0], dtype=torch.float64))
    assert all(torch.equal(a, b) for a, b in zip(predict.edm()(level), predict.edm(0.5)(level), strict=True))
    denoiser = Denoiser(torch.nn.Identity(), EDM(), predict.edm())
    edm = weighting.EDMWeighting
    assert torch.equal(edm()(denoiser, level), edm(0.5)(denoiser, level))
    assert (Restart().s_noise, Churn().s_noise) == (1, 1)
    assert SDEDPMSolver() == SDEDPMSolver(order=2)


# Data


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
def test_one_number_of_a_vector_that_is_not_finite_is_refused(wrong, tmp_path):
    x = np.zeros((5, 3), np.float32)
    x[2, 1] = wrong
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match="finite"):
        load_data(str(tmp_path / "x.npy"))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_channels_may_come_last(channels, tmp_path):
    x = np.arange(2 * 6 * 5 * channels, dtype=np.uint8).reshape(2, 6, 5, channels)
    np.save(tmp_path / "x.npy", x)
    read = load_data(str(tmp_path / "x.npy")).x
    assert read.shape == (2, channels, 6, 5)
    assert np.array_equal(read.permute(0, 2, 3, 1).numpy(), x)


def test_a_picture_of_colour_has_its_pixels_where_they_were(tmp_path):
    x = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5)
    save_image(tmp_path / "x.png", x)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), x.permute(1, 2, 0).numpy())


# Solvers

FIRST = "ancestral ddim dpm1 em er-sde-1 euler exponential-em pc reverse-diffusion sde-dpm-1 seeds-1"


def test_solvers_of_order_one_say_so_and_none_is_below():
    orders = {name: getattr(solver, "order", None) for name, solver in SOLVERS.items()}
    assert {name for name, order in orders.items() if order == 1} == set(FIRST.split())
    assert all(order is None or order >= 1 for order in orders.values())


def test_what_several_steps_need_is_held_and_not_summed_anew():
    plan = Plan.make(SDEDPMSolver(2), EDM(), 6)
    assert sum(line.kind == "point" for line in plan.lines) == 6
    assert max(len(line.row) for line in plan.lines) <= 4
    assert not any(line.kind == "point" for line in Plan.make(SDEDPMSolver(1), EDM(), 6).lines)


def test_a_step_of_one_output_holds_nothing_for_later_ones():
    for rule, held in (
        (ExponentialAdams(1, prediction="noise"), 0),
        (ExponentialAdams(2, prediction="noise"), 5),
    ):
        plan = Plan.make(rule, EDM(), 5)
        assert sum(line.kind == "point" for line in plan.lines) == held


def test_no_churn_is_the_solver_alone():
    assert Plan.make(Churn(Heun(), s_churn=0.0), EDM(), 5) == Plan.make(Heun(), EDM(), 5)
    with pytest.raises(ValueError, match="s_churn"):
        Churn(Heun(), s_churn=-1e-9)


def test_an_interval_of_no_length_is_refused():
    with pytest.raises(ValueError, match="rho_min < rho_max"):
        Restart(Heun(), ((0.3, 0.3, 4, 2),))


# Errors


def test_one_sample_that_is_not_finite_is_the_networks_not_an_overflow():
    def denoise(x, level, cond=None):
        return torch.where(torch.arange(len(x))[:, None] == 1, torch.nan, x)

    denoise.sde = EDM()
    with pytest.raises(FloatingPointError, match="network's output is not finite in call 1,"):
        sample(denoise, "ddim", (3, 2), nfe=3)


def changed_plan(path, change):
    """A file of a plan with a measured line, after a change to its content."""
    Plan.within(4, solver_of("pc:measured=true"), VPSDE()).save(path)
    content = json.loads(path.read_text())
    change(content, next(line for line in content["lines"] if line["measured"]))
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ([], "x[0-9]+ is made of nothing"),
        ([["d77", 1.0]], "x[0-9]+ is made of d77, which no line before it makes"),
        ([["x0", float("inf")]], "x[0-9]+ has the weight inf on x0"),
    ],
)
def test_measured_noise_is_sized_by_a_row_that_can_be_made(row, named, tmp_path):
    def change(content, line):
        line["measured"][0] = row

    with pytest.raises(ValueError, match=named):
        Plan.load(changed_plan(tmp_path / "plan.json", change))


@pytest.mark.parametrize("place", [1, 2])
def test_a_level_of_a_file_has_no_negative_alpha_or_sigma(place, tmp_path):
    def change(content, line):
        content["end"][place] = (-0.5).hex()

    with pytest.raises(ValueError, match="a level must be of numbers that a process can have"):
        Plan.load(changed_plan(tmp_path / "plan.json", change))


@pytest.mark.parametrize("name", ["heun", "dpmpp-2m", "unipc", "em"])
def test_a_network_may_return_its_input_from_the_second_call_on(name):
    def after_first(later):
        calls = []

        def denoise(x, level, cond=None):
            calls.append(level)
            return later(x) if len(calls) > 1 else 0.5 * x

        denoise.sde = VPSDE()
        return denoise

    runs = [sample(after_first(later), name, (2, 3), nfe=8) for later in (lambda x: x, torch.clone)]
    assert torch.equal(*runs)


def test_a_spacing_may_be_fitted_on_a_single_step():
    denoiser = Denoiser(lambda x, t: x, VPSDE(), predict.v)
    spacing = gits(denoiser, torch.ones(2, 3), VPSDE(), fine=np.int64(1))
    assert spacing(VPSDE(), 1).tolist() == pytest.approx([1.0, VPSDE().t_min])
