"""A problem of the user: a checkpoint of ``scoresde train``, and its training data."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import run
import torch
from converged import converged_plan
from own import problem_of
from small_levels import CHOICES, made_up

from scoresde import ExactDenoiser, RectifiedFlow, sample
from scoresde.spacings.default import SCALE
from scoresde.training import start
from scoresde.training.checkpoint import load_denoiser, save_training
from scoresde.training.configuration import validate


def checkpoint(folder, data, shape, network, **rest):
    """The checkpoint of an untrained network, with its data beside it."""
    np.savez(folder / "data.npz", **data)
    names = {"images": "x"} | ({"labels": "y"} if "y" in data else {})
    content = {
        "data": {"source": str(folder / "data.npz"), **names},
        "network": network,
        "prediction": {"name": "edm", "sigma_data": 0.5},
        "sde": {"name": "edm", "t_min": 0.01, "t_max": 20.0},
        "optimization": {"steps": 3},
    }
    configuration = validate(content | rest, "test")
    save_training(
        folder / "net", configuration, start(configuration.make_denoiser(), configuration.optimization), shape
    )
    return folder / "net"


@pytest.fixture
def vectors(tmp_path):
    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    y = np.array([0] * 48 + [2] * 16)
    return checkpoint(
        tmp_path, {"x": x, "y": y}, (2,), {"name": "mlp", "width": 8, "layers": 1, "classes": 3}
    )


FEW = ["--n-samples", "20", "--batch-size", "20", "--converged", "6", "--nfe", "4", "--quiet"]


def records(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_checkpoint_is_a_problem_and_a_retrained_one_is_another(vectors, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "draw_curves", lambda *_: [])
    out = tmp_path / "out.jsonl"
    asked = ["--problem", str(vectors), *FEW, "--out", str(out)]
    assert run.main(asked) == 0
    (record,) = records(out)
    assert (record["problem"], record["checkpoint"], record["sde"]) == (str(vectors), str(vectors), "edm")
    assert record["fd_features"] == "FD[vectors]@20"
    assert str(vectors) in capsys.readouterr().out.replace("\n", "")
    assert run.main(asked) == 0
    assert len(records(out)) == 1
    retrained = checkpoint(
        tmp_path,
        {"x": np.zeros((9, 2), np.float32), "y": np.zeros(9, int)},
        (2,),
        {"name": "mlp", "width": 8, "classes": 3},
    )
    assert retrained == vectors
    assert run.main(asked) == 0
    again, other = records(out)
    assert again == record
    assert other["key"] != record["key"]


def test_its_process_labels_and_data_are_its_own(vectors):
    problem = problem_of(str(vectors / "model.safetensors"))
    assert (problem.denoiser.sde.t_min, problem.denoiser.sde.t_max) == (0.01, 20.0)
    counts = torch.bincount(problem.labels(torch.arange(1000)), minlength=3).tolist()
    assert counts[1] == 0
    assert abs(counts[0] - 750) < 5
    under = problem_of(str(vectors), "vp").denoiser.sde
    begin, end = (
        under.lam(torch.tensor([t], dtype=torch.float64)).item() for t in (under.t_max, under.t_min)
    )
    assert begin == pytest.approx(-np.log(20), abs=1e-6)
    assert 4 < end < -np.log(0.01) + 1e-6


def test_other_data_may_be_named(vectors, tmp_path):
    np.save(tmp_path / "other.npy", np.full((30, 2), 3.0, np.float32) + np.eye(30, 2, dtype=np.float32))
    problem = problem_of(str(vectors), data=str(tmp_path / "other.npy"))
    assert problem.data.mean.min() > 2.9
    assert torch.bincount(problem.labels(torch.arange(999))).min() > 300  # no labels: equal shares
    np.save(tmp_path / "wide.npy", np.zeros((30, 3), np.float32))
    with pytest.raises(ValueError, match=r"--data .*\(2,\).*\(3,\)"):
        problem_of(str(vectors), data=str(tmp_path / "wide.npy"))


def test_large_images_are_compared_by_means_of_pixels(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (6, 1, 64, 32), dtype=np.uint8)
    unet = {"name": "unet", "in_channels": 1, "channels": [8], "blocks": 1}
    problem = problem_of(str(checkpoint(tmp_path, {"x": x}, (1, 64, 32), unet)))
    assert problem.features.name == "FD[pixels 32x32]"
    assert problem.data.mean.shape == (1024,)
    assert problem.labels is None
    assert problem.data.mean[0] == pytest.approx(x[:, 0, :2, 0].mean() / 127.5 - 1, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--problem", "nowhere/net"], "nowhere/net.*checkpoint"),
        (["--problem", "{net}", "--checkpoint", "x"], "--checkpoint.*net"),
        (["--problem", "{net}", "--features", "inception"], "--features.*inception"),
        (["--problem", "{net}", "--features", "pixels"], "--features.*pixels"),
        (["--problem", "{net}", "--data", "nothing"], "nothing"),
        (["--problem", "{net}", "--data", "digits"], r"\(2,\)"),
        (["--problem", "{net}/training.safetensors"], "training.safetensors"),
        (["--problem", "/"], "model.safetensors"),
    ],
)
def test_what_is_no_problem_is_one_line(arguments, said, vectors, tmp_path, capsys):
    out = tmp_path / "none"
    assert run.main([*(part.format(net=vectors) for part in arguments), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(said, error)
    assert not out.exists()


def test_a_flow_of_ones_own_runs_at_defaults(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "draw_curves", lambda *_: [])
    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    flow = {"sde": {"name": "rectified-flow"}, "prediction": {"name": "velocity"}}
    net = checkpoint(tmp_path, {"x": x}, (2,), {"name": "mlp", "width": 8, "layers": 1}, **flow)
    out = tmp_path / "out.jsonl"
    assert run.main(["--problem", str(net), *FEW, "--solver", "dpmpp-2m", "--out", str(out)]) == 0
    (record,) = records(out)
    assert (record["spacing"], record["sde"]) == (f"flow-time:scale={SCALE:g}", "rectified-flow")


def test_the_converged_run_of_a_flow_converges():
    sde = RectifiedFlow()
    problem = replace(problem_of("gmm2"), denoiser=ExactDenoiser(problem_of("gmm2").denoiser.mixture, sde))
    near, exact = (sample(problem.denoiser, converged_plan(problem, n), (64, 2)) for n in (512, 4096))
    assert (near - exact).square().mean().sqrt() < 2e-4


# ------------------------------------------------------------------------------------- measured levels


def runs(net, out, *arguments):
    """The solver, the spacing and the error of each line of some runs."""
    assert run.main(["--problem", str(net), *FEW, *arguments, "--out", str(out)]) == 0
    return [(r["solver"], r["spacing"], r["rmse_to_converged"]) for r in records(out)]


@pytest.mark.usefixtures("undrawn")
def test_auto_runs_on_the_levels_beside_the_network_and_other_solvers_do_not(vectors, tmp_path):
    denoiser = load_denoiser(vectors).denoiser
    plain = runs(vectors, tmp_path / "plain.jsonl", "--solver", "auto", "ddim")
    made_up(denoiser).save(vectors / "levels.json")
    found = runs(vectors, tmp_path / "found.jsonl", "--solver", "auto", "ddim")
    assert [line[:2] for line in found] == [("auto", "measured"), ("ddim", plain[1][1])]
    assert found[1] == plain[1]
    solver, spacing = CHOICES[0].solver, "flow-time:exponent=1.5,scale=0.7"  # the choice for 4 calls
    ((_, _, error),) = runs(vectors, tmp_path / "named.jsonl", "--solver", solver, "--spacing", spacing)
    assert found[0][2] == error != plain[0][2]
    asked = runs(vectors, tmp_path / "asked.jsonl", "--solver", solver, "--spacing", "measured")
    assert asked == [(solver, "measured", error)]


@pytest.mark.usefixtures("undrawn")
def test_a_run_on_other_levels_is_another_run(vectors, tmp_path):
    denoiser, out = load_denoiser(vectors).denoiser, tmp_path / "out.jsonl"
    made_up(denoiser).save(vectors / "levels.json")
    assert len(runs(vectors, out, "--solver", "auto")) == 1
    made_up(denoiser, seed=1).save(vectors / "levels.json")  # the same levels
    assert len(runs(vectors, out, "--solver", "auto")) == 1
    made_up(denoiser, CHOICES[1:]).save(vectors / "levels.json")
    assert len(runs(vectors, out, "--solver", "auto")) == 2


@pytest.mark.usefixtures("undrawn")
def test_levels_are_taken_under_another_process_too(vectors, tmp_path):
    made_up(load_denoiser(vectors).denoiser).save(vectors / "levels.json")
    ((_, spacing, error),) = runs(vectors, tmp_path / "vp.jsonl", "--solver", "auto", "--sde", "vp")
    assert spacing == "measured"
    named = ["--solver", CHOICES[0].solver, "--sde", "vp"]
    spacings = ["flow-time:exponent=1.5,scale=0.7", "flow-time"]  # whose formulas are in sigma / alpha
    same, other = runs(vectors, tmp_path / "named.jsonl", *named, "--spacing", *spacings)
    assert same[2] == error != other[2]


def test_levels_that_are_asked_for_must_be_those_of_the_network(vectors, tmp_path, capsys):
    asked = ["--problem", str(vectors), *FEW, "--out", str(tmp_path / "none"), "--spacing", "measured"]
    for content, said in ((None, "needs levels.json beside"), ("{}", "holds no measured levels")):
        if content:
            (vectors / "levels.json").write_text(content)
        assert run.main(asked) == 2
        assert said in capsys.readouterr().err
    assert (
        run.main(["--problem", "gmm2", *FEW, "--out", str(tmp_path / "none"), "--spacing", "measured"]) == 2
    )
    assert "gmm2 has none" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("undrawn")
def test_levels_of_another_network_are_left_aside_with_a_warning(vectors, tmp_path):
    made_up(load_denoiser(vectors).denoiser, weights="3:0123").save(vectors / "levels.json")
    with pytest.warns(UserWarning, match="measured levels are not used: .*measured on another network"):
        ((_, spacing, _),) = runs(vectors, tmp_path / "out.jsonl", "--solver", "auto")
    assert spacing != "measured"
