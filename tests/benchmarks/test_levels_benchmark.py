"""The benchmark of default and measured levels: its errors, its peers and its tables, on small problems."""

import json
import math
import re
import shlex
from dataclasses import replace

import contest
import exact_ends
import level_pictures
import levels
import peer_runs
import pytest
import sde_levels
import shipped_levels
import torch
from exact_ends import LOST, figures_of, for_peers, paths_of
from level_tables import Cell, best_of, mean_ratio, summary, verdict
from mixture_distance import MixtureDistance
from peer_grids import GRIDS, FlowShifted, Stretched
from peer_runs import peer_ends, runs_of
from peer_samplers import PROJECTS, PeerSampler, noisy_samplers, samplers, versions
from problems import make_problem

from scoresde import EDM, ExactDenoiser, Level, Mixture, RectifiedFlow
from scoresde.spacings import AlignYourSteps, FlowTime, Grid, Measured, UniformLambda
from scoresde.spacings.measured import Choice, ends_of

FEW = "--part mixtures --problem gmm2 --sde vp --nfe 5 --n-samples 24 --converged 60 --quiet"


def test_the_error_of_planted_samples():
    """Three known distances over a spread of 2, and a sample that is not finite."""
    exact = torch.zeros(4, 2, 3, dtype=torch.float64)
    ends = exact.clone()
    ends[1, 0, 0] = 2 * 0.2 * math.sqrt(6)  # RMS over six numbers
    ends[2] = 2 * 0.6
    ends[3, 1, 2] = math.nan
    found = figures_of(ends, exact, spread=2.0)
    assert found["rmse"] == pytest.approx(math.sqrt((0.2**2 + 0.6**2 + LOST**2) / 4), rel=1e-12)
    assert found["median"] == pytest.approx((0.2 + 0.6) / 2, rel=1e-12)
    assert found["share"] == 0.5


@pytest.fixture
def one_normal(monkeypatch):
    """Problems whose data is one normal distribution, where every path is known."""
    mean, std = (
        torch.tensor([[0.5, -1.0, 0.2]], dtype=torch.float64),
        torch.tensor([0.3], dtype=torch.float64),
    )
    mixture = Mixture(mean, std, torch.ones(1, dtype=torch.float64))

    def made(name, sde):
        found = make_problem("gmm2", sde)
        return replace(found, shape=(3,), denoiser=ExactDenoiser(mixture, found.denoiser.sde))

    monkeypatch.setattr(exact_ends, "make_problem", made)

    def carried(x, t, s):
        """The state at the level s of the path through x at t."""
        wide, narrow = (math.hypot(level.alpha * 0.3, level.sigma) for level in (t, s))
        return s.alpha * mean + narrow / wide * (x - t.alpha * mean)

    return carried


@pytest.mark.parametrize("process", levels.PROCESSES)
def test_exact_ends_are_those_of_the_known_paths(process, one_normal):
    """The converged run of 200 calls has an error of 1e-7 at most, and says so within a factor of 10."""
    paths = paths_of("normal", process, 8, 0, 200)
    start, end = (paths.sde.level_at(t) for t in (paths.sde.t_max, paths.sde.t_min))
    assert paths.spread == pytest.approx(0.3, rel=1e-12)
    error = figures_of(one_normal(paths.x, start, end), paths.exact, paths.spread)["rmse"]
    assert error < 1e-7
    assert paths.own_error > error / 10
    theirs = for_peers(paths)
    first = theirs.sde.level_at(theirs.sde.t_max)
    assert first.sigma / first.alpha == pytest.approx(80, rel=1e-9)
    torch.testing.assert_close(theirs.x, one_normal(paths.x, start, first), rtol=0, atol=1e-7)
    assert theirs.exact is paths.exact


def test_a_run_under_the_flow_begins_at_alpha_0():
    paths = paths_of("gmm2", "rectified-flow", 2, 0, 20)
    assert (paths.sde.t_max, paths.sde.t_min) == (1.0, 1e-3)
    assert paths.x.std() > 0.1


def measured_by_hand(sde):
    choice = Choice(5, "velocity-p2c3", FlowTime(3.0, 2.0))
    return Measured(type(sde).__name__, ends_of(sde), (choice,))


@pytest.fixture
def planted(monkeypatch, tmp_path):
    """Peers that miss the exact ends by a known part of the spread; a dictionary from their names."""
    errors, asked = {"good": 0.004, "bad": 0.04}, []

    def peer(name, **options):
        def run(denoise, levels, x, noise):
            asked.append(name)
            for level in levels[:-1]:
                denoise(x, level)
            if name == "greedy":
                return denoise(x, levels[-1])
            ends = {len(p.x): p for p in paths}
            return ends[len(x)].exact + errors[name] * paths[0].spread

        return run

    paths = []
    whole = exact_ends.paths_of

    def remembered(*arguments):
        paths[:] = [whole(*arguments)]
        paths.append(paths[0].part(levels.EVERY))
        return paths[0]

    monkeypatch.setattr(levels, "paths_of", remembered)
    monkeypatch.setitem(PROJECTS, "planted", peer)
    monkeypatch.setattr(peer_runs, "GRIDS", {"uniform lambda": UniformLambda()})
    monkeypatch.setattr(
        contest, "samplers", lambda: [PeerSampler("planted", name) for name in (*errors, "greedy")]
    )
    monkeypatch.setattr(contest, "SCALES", (1.0,))
    monkeypatch.setattr(contest, "EXPONENTS", (2.0,))
    monkeypatch.setattr(levels, "draw_levels", lambda *_: None)
    monkeypatch.setattr(levels, "measured", lambda denoiser, *_, **__: measured_by_hand(denoiser.sde))
    for module in (contest, levels):
        monkeypatch.setattr(module, "versions", lambda: {"planted": "1"})
    return errors, asked, tmp_path / "out"


def run(out, arguments=FEW):
    """The records of the program's lines."""
    assert levels.main([*shlex.split(arguments), "--out", str(out)]) == 0
    return [json.loads(line) for line in (out / "levels.jsonl").read_text().splitlines()]


def best_peer(out):
    return best_of(r for r in run(out) if "rmse" in r)[Cell("gmm2", "vp", 5), "peer", "rmse"]


def test_a_better_or_worse_peer_changes_the_best_one(planted):
    errors, _, out = planted
    best = best_peer(out)
    assert (best["method"], best["nfe"]) == ("planted good", 5)
    for figure in ("rmse", "median"):
        assert best[figure] == pytest.approx(0.004, rel=1e-9)
    errors["worse"] = 0.4
    assert best_peer(out) == best
    errors["better"] = 0.001
    assert best_peer(out)["method"] == "planted better"


def test_a_peer_beyond_its_budget_never_counts(planted):
    _, asked, out = planted
    assert all(record.get("method") != "planted greedy" for record in run(out))
    assert "greedy" in asked


def test_the_same_command_repeats_no_run(planted, capsys):
    _, asked, out = planted
    before = run(out)
    printed = capsys.readouterr().out
    assert {record["role"] for record in before} == {
        "default",
        "measured",
        "candidate",
        "first round",
        "peer",
    }
    (ours,) = (record for record in before if record["role"] == "measured")
    assert (ours["method"], ours["spacing"]) == ("velocity-p2c3", "measured: e=3, c=2")
    asked.clear()
    assert run(out) == before
    assert capsys.readouterr().out == printed
    assert not asked


def test_other_noises_keep_the_first_round_alone(planted):
    _, _, out = planted
    before = len(run(out))
    roles = [record["role"] for record in run(out, FEW + " --seed 1")[before:]]
    assert "first round" not in roles
    assert roles.count("peer") == 2


def test_the_program_runs_without_peers(planted, monkeypatch, capsys):
    _, _, out = planted
    monkeypatch.setattr(levels, "draw_levels", level_pictures.draw_levels)
    for module in (contest, levels):
        monkeypatch.setattr(module, "versions", dict)
    assert not [record for record in run(out) if record["role"] == "peer"]
    printed = capsys.readouterr().out
    assert "not installed, so without rows: k-diffusion, diffusers, azula" in printed
    assert (out / "levels.png").read_bytes().startswith(b"\x89PNG")


def record(role, nfe, value, problem="gmm2", process="vp", made=None, spacing="karras 7"):
    about = {"problem": problem, "process": process, "nfe_requested": nfe, "nfe": made or nfe, "role": role}
    return about | {"method": "m", "spacing": spacing} | dict.fromkeys(("rmse", "median", "share"), value)


def test_means_over_problems_are_geometric_and_need_every_problem():
    cells = [("gmm2", "vp"), ("gmm64", "edm"), ("gmm2", "rectified-flow")]
    records = [record("peer", 5, 1.0, *cell) for cell in cells]
    records += [
        record("measured", 5, value, *cell) for value, cell in zip((0.5, 0.125, 2.0), cells, strict=True)
    ]
    records += [record("measured", 5, 1e-9, *cells[0], made=6)]  # beyond the budget
    best = best_of(records)
    assert mean_ratio(best, "measured", "rmse", 5) == pytest.approx(0.5, rel=1e-12)
    assert mean_ratio(best, "measured", "rmse", 5, flows=False) == pytest.approx(0.25, rel=1e-12)
    assert mean_ratio(best_of(records[1:]), "measured", "rmse", 5) is None
    shown = list(summary(best).columns[4].cells)
    assert shown.count("0.500 (0.65) holds") == 2
    assert verdict(0.66, {5: 0.65}, 5) == "0.660 (0.65) FAILS"


def test_a_grid_of_another_process_counts_for_the_best_peer_on_any_grid_alone():
    for process, value in (("vp", 0.1), ("edm", 0.5)):
        records = [
            record("peer", 5, 0.5, process=process),
            record("peer", 5, 0.1, process=process, spacing="quadratic t of vp"),
        ]
        best = best_of([*records, record("default", 5, 0.2, process=process)])
        assert mean_ratio(best, "default", "rmse", 5) == pytest.approx(0.2 / value, rel=1e-12)
        assert mean_ratio(best, "default", "rmse", 5, "any") == pytest.approx(2, rel=1e-12)


def test_the_names_of_samplers_differ():
    for found in (samplers(), list(noisy_samplers())):
        assert len({sampler.label for sampler in found}) == len(found)
    everywhere = {"k-diffusion": "1"}
    both = runs_of([PeerSampler("k-diffusion", "a"), PeerSampler("azula", "b")], everywhere)
    assert list(both) == [f"k-diffusion a on {grid}" for grid in GRIDS]


@pytest.mark.parametrize("project", PROJECTS)
def test_each_sampler_makes_the_calls_that_it_promises(project):
    """From four states of gmm2, in 5 calls, or in 13 if 5 are too few."""
    if project not in versions():
        pytest.skip(f"needs {project}")
    denoiser = make_problem("gmm2", "edm").denoiser
    x = 80 * torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for sampler in (*samplers(), *noisy_samplers()):
        if sampler.project != project:
            continue
        nfe = 5 if sampler.steps(5) else 13 if sampler.steps(13) else 6
        found = peer_ends(denoiser, x, (sampler, "karras 7"), nfe, lambda _: torch.zeros_like(x))
        if "adaptive" in sampler.name:
            assert found is None or found[1] <= nfe, sampler.label
            continue
        ends, calls = found
        assert calls == sampler.steps(nfe) * sampler.calls + sampler.more, sampler.label
        assert ends.isfinite().all(), sampler.label


@pytest.mark.parametrize("name", GRIDS)
def test_each_grid_falls_from_end_to_end(name):
    for process in levels.PROCESSES:
        sde = for_peers(paths_of("gmm2", process, 2, 0, 20)).sde
        for n in (5, 20) if name != "align your steps svd" else (5,):  # of 20 levels, one is above 80
            found = [level.t for level in Grid.build(sde, n, GRIDS[name]).levels]  # which must fall
            assert (found[0], found[-1], len(found)) == (sde.t_max, sde.t_min, n + 1)


def test_the_shift_of_flows_and_a_stretched_list():
    """t' = 3 t / (1 + 2 t) of equal steps; the inner levels of the list of 10 steps."""
    sde = RectifiedFlow(0.01, 0.9)
    t = torch.linspace(0.9 / (3 - 2 * 0.9), 0.01 / (3 - 2 * 0.01), 7, dtype=torch.float64)
    torch.testing.assert_close(FlowShifted(3.0)(sde, 6), 3 * t / (1 + 2 * t), rtol=1e-12, atol=0)
    sde = EDM()
    stretched, published = (spacing(sde, 10) for spacing in (Stretched(AlignYourSteps()), AlignYourSteps()))
    torch.testing.assert_close(stretched[1:-1], published[1:-1], rtol=1e-12, atol=0)
    assert (stretched[0], stretched[-1]) == (80.0, 0.002)
    with pytest.raises(ValueError, match="inside"):
        Stretched(AlignYourSteps())(EDM(t_max=5.0), 10)


def test_the_distances_to_a_mixture_are_exact_for_one_normal():
    """Scaled by 1 + e: W2 = e std. Shifted by d: the root mean square of d cos(angle).

    The samples are 2048 quantiles of the distance to the centre on 60 equal angles. Their projections differ
    from the law by 3e-3, and their covariance by 2e-4.
    """
    mixture = Mixture(torch.zeros(1, 2).double(), torch.ones(1).double(), torch.ones(1).double())
    level = Level(0.5, 0.6, 0.8, math.log(0.6 / 0.8))  # alpha^2 + sigma^2 = 1: the same law
    far = (-2 * torch.log1p(-(torch.arange(2048, dtype=torch.float64) + 0.5) / 2048)).sqrt()[:, None]
    angle = torch.arange(60, dtype=torch.float64) * (2 * math.pi / 60)
    x = torch.stack([far * angle.cos(), far * angle.sin()], -1).flatten(0, 1)
    distance = MixtureDistance(mixture, level)
    own = distance.sliced_w2(x)
    assert own < 4e-3
    assert distance.sliced_w2(1.2 * x) == pytest.approx(0.2, abs=own)
    shifted = distance.sliced_w2(x + torch.tensor([0.3, 0.0]))
    assert shifted == pytest.approx(0.3 / math.sqrt(2), abs=own)
    assert distance.covariance_error(x + 5) < 1e-3
    assert distance.covariance_error(1.2 * x) == pytest.approx(0.44, abs=1e-3)


def test_the_part_of_the_included_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shipped_levels, "measured", lambda denoiser, *_, **__: measured_by_hand(denoiser.sde))
    monkeypatch.setattr(shipped_levels, "LEVELS", "nowhere.json")
    records = run(tmp_path, "--part shipped --nfe 5 --n-samples 2 --converged 8 --quiet")
    assert [r["role"] for r in records] == [*shipped_levels.ROWS, "measured", "own error"]
    assert all(r["nfe"] == 5 for r in records[:-1])
    assert "1.000" in capsys.readouterr().out  # deis over itself
    assert run(tmp_path, "--part shipped --nfe 5 --n-samples 2 --converged 8 --quiet") == records


def test_the_part_with_noise(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sde_levels, "FIRST", 64)
    monkeypatch.setattr(sde_levels, "OURS", ("er-sde-2", "ancestral"))
    monkeypatch.setattr(sde_levels, "noisy_samplers", list)
    records = run(tmp_path, "--part sde --sde edm --nfe 5 --n-samples 256 --quiet")
    assert {r["method"] for r in records if r["role"] == "default"} <= {"er-sde-2", "ancestral"}
    assert "sliced W2" in capsys.readouterr().out
    assert run(tmp_path, "--part sde --sde edm --nfe 5 --n-samples 256 --quiet") == records


BAD = {
    "unknown part": ("--part mixture", "mixture.*mixtures"),
    "unknown problem": ("--problem gmm3", "gmm3.*gmm"),
    "unknown process": ("--sde vpp", "vpp.*vp"),
    "no budget": ("--nfe 1", "nfe.*1"),
    "one sample": ("--n-samples 1", "n-samples.*1"),
    "not converged": ("--converged 3", "converged.*3"),
    "a picture for lines": ("--out x.png", r"x\.png"),
    "a word for a number": ("--nfe many", "nfe.*many"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments, pattern = BAD[case]
    assert levels.main(shlex.split(arguments)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(pattern, said), said
    assert not list(tmp_path.iterdir())
