"""Tuned plans by name, and what they say of the network that they were made for."""

import json
import random
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # before tests/problems.py

import run
from problems import make_problem

from scoresde import EDM, VPSDE, ExactDenoiser, Karras, Mixture, Plan, prepare, sample
from scoresde.cli.main import main
from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import edm
from scoresde.denoisers.transported import Transported
from scoresde.plans.fingerprint import fingerprint
from scoresde.sampling import tuned
from scoresde.solvers import DPMSolverPP

SDE = EDM(t_min=0.02, t_max=20.0)
EXACT = ExactDenoiser(
    Mixture(torch.tensor([[1.0, 0.2], [-0.8, 0.6]]), torch.tensor([0.1, 0.2]), torch.tensor([0.6, 0.4])), SDE
)


def made_for(denoiser, nfe=4):
    plan = Plan.make(DPMSolverPP(2), denoiser.sde, nfe, Karras())
    return replace(plan, about=fingerprint(denoiser) | {"nfe": nfe})


@pytest.fixture
def file(tmp_path):
    made_for(EXACT).save(tmp_path / "a,b:4.json")
    return tmp_path / "a,b:4.json"


def test_a_plan_keeps_what_it_was_made_for(file):
    plan = Plan.load(file)
    assert plan == made_for(EXACT)
    assert plan.about == made_for(EXACT).about
    assert plan == replace(plan, about=None)  # no part of the numbers
    assert hash(plan) == hash(replace(plan, about=None))
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"about": 3}))
    with pytest.raises(ValueError, match=r"about.*3"):
        Plan.load(file)


def test_a_file_is_a_solver_wherever_one_is_named(file):
    expected = sample(EXACT, made_for(EXACT), (5, 2))
    for nfe in (None, 4):
        assert torch.equal(sample(EXACT, f"tuned:{file}", (5, 2), nfe=nfe), expected)
        assert prepare(f"tuned:{file}", SDE, nfe) == made_for(EXACT)


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"nfe": 5}, "nfe must be 4.*5"),
        ({"spacing": Karras()}, "own levels"),
        ({"to_clean": True}, "own levels"),
    ],
)
def test_a_plan_has_its_own_budget_levels_and_end(file, options, pattern):
    with pytest.raises(ValueError, match=pattern):
        sample(EXACT, f"tuned:{file}", (1, 2), **options)


@pytest.mark.parametrize(
    "other", [VPSDE(), EDM(t_min=0.02, t_max=10.0), EDM(t_min=0.002, t_max=20.0)], ids=str
)
def test_another_sde_is_refused(file, other):
    there = replace(EXACT, sde=other)
    for solver in (f"tuned:{file}", Plan.load(file)):
        with pytest.raises(ValueError, match="another SDE"):
            sample(there, solver, (1, 2))


def test_no_file_and_what_is_no_plan_are_errors(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    for name in ("x.json", "y.json"):
        with pytest.raises(ValueError, match="no plan"):
            sample(EXACT, f"tuned:{tmp_path / name}", (1, 2))


HEX = ("nan", "inf", "0x1p1023", "-0x1p0", "0x0p0", "x", "", [], None, {}, 3, "z0", "x9", "d1", True, 10**400)


def test_a_table_with_any_one_thing_wrong_is_refused_by_its_file_or_runs(tmp_path):
    """Whatever stands in the place of a name, a number, a row or a level."""
    file, generator, refused = tmp_path / "four.json", random.Random(0), 0
    made_for(EXACT).save(file)
    whole = file.read_text()
    for _ in range(600):
        content = json.loads(whole)
        holder, key = generator.choice(list(held(content)))
        holder[key] = generator.choice(HEX)
        text = json.dumps(content)
        file.write_text(text[: generator.randrange(len(text))] if generator.random() < 0.1 else text)
        try:
            plan = prepare(f"tuned:{file}", SDE, 4)
        except ValueError as error:
            message = str(error)
            refused += 1
        else:
            plan.save(tmp_path / "again.json")
            assert Plan.load(tmp_path / "again.json") == plan
            message = f"{file}"
        assert f"{file}" in message
    assert refused > 480
    file.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="no plan"):
        prepare(f"tuned:{file}", SDE, 4)


def held(value):
    """All places in JSON, as what holds them and their key."""
    for key, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(part, dict | list):
            yield from held(part)


def test_those_that_ship_are_found_by_their_budget(tmp_path, monkeypatch):
    monkeypatch.setattr(tuned, "SHIPPED", tmp_path)
    with pytest.raises(ValueError, match="there is none"):
        prepare("tuned", SDE, 4)
    for nfe in (10, 4):
        made_for(EXACT, nfe).save(tmp_path / f"tuned-{nfe}.json")
    assert prepare("tuned", SDE, 10) == made_for(EXACT, 10)
    for nfe in (5, None):
        with pytest.raises(ValueError, match=r"4, 10; got (5|None)"):
            prepare("tuned", SDE, nfe)


class Guided(nn.Module):
    """A network with a scale in an attribute, or wherever else."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.inner, self.scale = nn.Linear(2, 2), scale
        for value in self.inner.parameters():
            nn.init.constant_(value, 0.1)

    def forward(self, x, t):
        return self.scale * self.inner(x)


@dataclass
class Scale:
    scale: float


def closure(scale):
    return lambda x, t: scale * x


def default(scale):
    def net(x, t, by=scale):
        return by * x

    return net


def scaled(x, t, scale):
    return scale * x


class Plain:
    def __init__(self, scale):
        self.settings = {"deep": [Scale(scale)]}

    def __call__(self, x, t):
        return self.settings["deep"][0].scale * x


HOLDERS = {
    "attribute": Guided,
    "module within": lambda scale: nn.Sequential(Guided(scale)),
    "closure": closure,
    "default": default,
    "partial": lambda scale: partial(scaled, scale=scale),
    "object": Plain,
    "method": lambda scale: Plain(scale).__call__,
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: Transported(d, VPSDE())], ids=["own", "transported"])
def test_another_guidance_is_noticed_wherever_its_scale_is_held(holder, wrap):
    one, same, other = (
        fingerprint(wrap(Denoiser(HOLDERS[holder](scale), SDE, edm()).eval())) for scale in (1.0, 1.0, 2.0)
    )
    assert one == same
    assert {key for key in one if one[key] != other[key]} == {"weights"}


def test_weights_sde_prediction_and_precision_are_told_apart():
    net, wider = Guided(), Guided()
    nn.init.constant_(wider.inner.bias, 0.2)
    low = fingerprint(Denoiser(net, SDE, edm(), dtype=torch.bfloat16))
    one = fingerprint(Denoiser(net, SDE, edm()))
    assert one == fingerprint(Denoiser(net, SDE, edm(), dtype=torch.float32).eval())
    assert low | {"dtype": one["dtype"]} == one
    assert low["dtype"] == "torch.bfloat16"
    assert fingerprint(Denoiser(wider, SDE, edm()))["weights"] != one["weights"]
    assert fingerprint(Denoiser(net, SDE, edm(0.4)))["weights"] != one["weights"]
    assert fingerprint(Denoiser(net, VPSDE(), edm()))["sde"] != one["sde"]


def test_another_network_or_precision_is_a_warning_that_says_what_to_do():
    denoiser = Denoiser(Guided(), SDE, edm())
    plan = made_for(denoiser)
    sample(denoiser, plan, (1, 2))  # a warning would be an error
    with pytest.warns(UserWarning, match="another guidance.*tune again"):
        sample(Denoiser(Guided(2.0), SDE, edm()), plan, (1, 2))
    with pytest.warns(UserWarning, match="another precision.*float32"):
        sample(Denoiser(Guided(), SDE, edm(), dtype=torch.bfloat16), plan, (1, 2))


def test_the_command_takes_a_tuned_plan(tmp_path, capsys):
    from scoresde.pretrained import pretrained

    made_for(pretrained("mnist").denoiser, 2).save(tmp_path / "two.json")
    common = ["sample", "--quiet", "--n", "1", "--out", str(tmp_path / "out"), "--solver"]
    assert main([*common, f"tuned:{tmp_path / 'two.json'}"]) == 0
    assert (tmp_path / "out" / "images" / "000000.png").exists()
    for more, what in ((["--spacing", "karras"], "own levels"), (["--nfe", "3"], "nfe must be 2")):
        assert main([*common, f"tuned:{tmp_path / 'two.json'}", *more]) == 2
        assert what in capsys.readouterr().err


def test_the_benchmark_takes_a_tuned_plan_beside_others(tmp_path):
    made_for(make_problem("gmm2", "edm").denoiser).save(tmp_path / "four.json")
    command = (
        f"--problem gmm2 --solver ddim tuned:{tmp_path / 'four.json'} --nfe 4 --spacing karras uniform-t"
    )
    command += f" --n-samples 20 --converged 8 --quiet --out {tmp_path / 'out'}"
    assert run.main(command.split()) == 0
    records = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [record["spacing"] for record in records] == ["karras", "uniform-t", "own"]
    assert run.main([*command.split(), "--nfe", "5"]) == 2
