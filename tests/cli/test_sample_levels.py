"""``scoresde sample`` on levels that were measured on the network and lie beside it."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from small_commands import refused, trained_on_vectors
from small_levels import CHOICES, made_up

from scoresde import Transported, prepare, sample
from scoresde.cli.main import main
from scoresde.processes.catalogue import SDES
from scoresde.spacings import AtShares, Under
from scoresde.spacings.measured import Choice, Measured, ends_of
from scoresde.training.checkpoint import load_denoiser


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return trained_on_vectors(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A network of a range of sigma / alpha that no other process reaches as a whole."""
    return trained_on_vectors(tmp_path_factory.mktemp("wide"), "sde.t_max=1000.0", "sde.t_min=0.0005")


def with_levels(network, tmp_path):
    """A copy of a training run with levels beside it, of both forms."""
    folder = shutil.copytree(network, tmp_path / "run")
    denoiser = load_denoiser(folder).denoiser
    made_up(denoiser, (*CHOICES, curve(denoiser.sde))).save(folder / "levels.json")
    return folder


@pytest.fixture
def folder(network, tmp_path):
    return with_levels(network, tmp_path)


def curve(sde):
    first, last = ends_of(sde)
    return Choice(32, "velocity-p3c4", AtShares((first, 0.6, 0.3, last), (0.0, 0.2, 0.9, 1.0)))


def command(folder, out, *arguments):
    return ["sample", "--quiet", "--checkpoint", str(folder), "--out", str(out), "--n", "4", *arguments]


def drawn(folder, out, *arguments):
    assert main(command(folder, out, *arguments)) == 0
    return torch.tensor(json.loads((out / "samples.json").read_text()))


def levels_said(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("levels measured")]


AUTO = ["--solver", "auto"]


# ------------------------------------------------------------------------------------- what is taken


@pytest.mark.parametrize(("nfe", "choice"), [(3, 0), (7, 0), (9, 1), (20, 1), (40, 2), (None, 1)])
def test_auto_takes_the_levels_and_the_solver_beside_the_network(nfe, choice, folder, tmp_path, capsys):
    """Those of the number of calls that is nearest in proportion; 20 calls without --nfe."""
    calls = [] if nfe is None else ["--nfe", str(nfe)]
    capsys.readouterr()
    found = drawn(folder, tmp_path / "out", *AUTO, *calls)
    trained = load_denoiser(folder)
    taken = (*CHOICES, curve(trained.denoiser.sde))[choice]
    expected = sample(
        trained.denoiser,
        taken.solver,
        (4, 2),
        nfe=nfe or 20,
        spacing=taken.spacing,
        cond=torch.tensor([0, 1, 0, 1]),
    )
    assert torch.equal(found, expected)
    assert levels_said(capsys) == [
        f"levels measured on this network for {taken.calls} calls, with {taken.solver}: {folder}/levels.json"
    ]
    by_file = drawn(folder / "model.safetensors", tmp_path / "by file", *AUTO, *calls)
    assert torch.equal(found, by_file)


def test_levels_can_be_asked_for_by_name_and_by_file(folder, tmp_path, capsys):
    by_itself = drawn(folder, tmp_path / "a", *AUTO)
    assert torch.equal(by_itself, drawn(folder, tmp_path / "b", *AUTO, "--spacing", "measured"))
    assert len(levels_said(capsys)) == 2
    file = ["--spacing", f"measured:file={folder}/levels.json"]
    assert torch.equal(by_itself, drawn(folder, tmp_path / "c", *AUTO, *file))
    of_ddim = drawn(folder, tmp_path / "d", "--solver", "ddim", "--spacing", "measured")
    assert torch.equal(of_ddim, drawn(folder, tmp_path / "e", "--solver", "ddim", *file))
    assert not torch.equal(of_ddim, by_itself)


def test_another_solver_or_spacing_does_not_take_them(folder, network, tmp_path, capsys):
    for i, other in enumerate((["--solver", "ddim"], [*AUTO, "--spacing", "uniform-lambda"])):
        beside = drawn(folder, tmp_path / f"beside {i}", *other)
        assert torch.equal(beside, drawn(network, tmp_path / f"alone {i}", *other))
    assert levels_said(capsys) == []


def plan_of(folder, monkeypatch, tmp_path, *arguments):
    """The process and the plan of a command, which draws nothing."""
    runs = []

    def drawing(denoiser, run, shape, **options):
        runs.append((denoiser.sde, run))
        return torch.zeros(shape)

    monkeypatch.setattr("scoresde.cli.sample.sample", drawing)
    assert main(command(folder, tmp_path / f"out {arguments}", *AUTO, *arguments)) == 0
    return runs[-1]


def lams(plan):
    return torch.tensor([level.lam for level in (*plan.levels, plan.end)], dtype=torch.float64)


@pytest.mark.parametrize("sde", SDES)
def test_under_another_process_they_are_those_of_equal_sigma_over_alpha(sde, wide, tmp_path, monkeypatch):
    """On the part that the other process reaches."""
    folder = with_levels(wide, tmp_path)
    trained = load_denoiser(folder).denoiser
    for taken in CHOICES:
        asked = ["--nfe", str(taken.calls), "--sde", sde]
        process, run = plan_of(folder, monkeypatch, tmp_path, *asked)
        assert process == Transported(trained, sde).sde
        expected = prepare(taken.solver, process, taken.calls, Under(taken.spacing, trained.sde))
        assert len(run.lines) == len(expected.lines)
        # Each is mapped through times of a process, whose inverse is rounded.
        torch.testing.assert_close(lams(run), lams(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("sde", SDES)
def test_on_a_part_of_a_measured_density_the_levels_are_at_equal_shares_of_it(
    sde, wide, tmp_path, monkeypatch
):
    folder = with_levels(wide, tmp_path)
    density = curve(load_denoiser(folder).denoiser.sde)
    process, run = plan_of(folder, monkeypatch, tmp_path, "--nfe", "32", "--sde", sde)
    at = torch.sigmoid(-lams(run)).numpy()
    shares = np.interp(-at, np.negative(density.spacing.u), density.spacing.shares)
    np.testing.assert_allclose(np.diff(shares), (shares[-1] - shares[0]) / 32, rtol=1e-6)
    assert shares[-1] - shares[0] < 0.9999 or sde == "edm"  # a part, or this test would say little
    ends = torch.tensor(process.lam_ends(), dtype=torch.float64)
    torch.testing.assert_close(lams(run)[[0, -1]], ends, rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------- what is not taken


def test_levels_of_another_network_are_not_used(folder, network, tmp_path, capsys):
    default = drawn(network, tmp_path / "default", *AUTO)
    shutil.copy(trained_on_vectors(tmp_path, "seed=1") / "model.safetensors", folder)
    other = drawn(tmp_path.glob("run-*").__next__(), tmp_path / "other", *AUTO)
    capsys.readouterr()
    with pytest.warns(UserWarning, match=r"measured levels are not used: .* was measured on another network"):
        found = drawn(folder, tmp_path / "out", *AUTO)
    assert torch.equal(found, other)
    assert not torch.equal(found, default)
    assert levels_said(capsys) == []
    assert main(command(folder, tmp_path / "none", *AUTO, "--spacing", "measured")) == 2
    refused(capsys, r"levels\.json was measured on another network; measure again$")
    by_force = drawn(folder, tmp_path / "forced", *AUTO, "--spacing", f"measured:file={folder}/levels.json")
    assert not torch.equal(by_force, found)


@pytest.mark.parametrize("content", ["", "[" * 100_000, "{}", "\xff"])
def test_a_damaged_file_is_not_used(content, folder, network, tmp_path, capsys):
    (folder / "levels.json").write_bytes(content.encode("latin-1"))
    with pytest.warns(UserWarning, match=r"measured levels are not used: .* holds no measured levels"):
        found = drawn(folder, tmp_path / "out", *AUTO)
    assert torch.equal(found, drawn(network, tmp_path / "default", *AUTO))
    capsys.readouterr()
    for spacing in ("measured", f"measured:file={folder}/levels.json"):
        assert main(command(folder, tmp_path / "none", *AUTO, "--spacing", spacing)) == 2
        refused(capsys, r"levels\.json holds no measured levels")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("checkpoint", ["run", "run/model.safetensors"])
def test_levels_that_are_asked_for_must_be_there(checkpoint, folder, tmp_path, capsys):
    (folder / "levels.json").unlink()
    asked = command(tmp_path / checkpoint, tmp_path / "none", "--spacing", "measured")
    assert main(asked) == 2
    file = re.escape(str(folder / "levels.json"))
    refused(capsys, rf"needs {file}, which is not there; make it: scoresde measure")
    assert not (tmp_path / "none").exists()


def test_levels_of_another_process_or_range_are_refused(folder, tmp_path, capsys):
    file = f"measured:file={folder}/levels.json"
    for solver in ("auto", "ddim"):
        asked = ["--solver", solver, "--spacing", file, "--sde", "vp"]
        assert main(command(folder, tmp_path / "none", *asked)) == 2
        refused(capsys, "measured on EDM")
    levels = Measured.load(folder / "levels.json")
    wider = Measured("EDM", (levels.ends[0], levels.ends[1] / 2), CHOICES, levels.about)
    wider.save(folder / "levels.json")
    with pytest.warns(UserWarning, match="measured levels are not used: .*measured on EDM"):
        drawn(folder, tmp_path / "out", *AUTO)
    assert main(command(folder, tmp_path / "none", "--spacing", "measured")) == 2
    refused(capsys, "measured on EDM")
    assert not (tmp_path / "none").exists()


def test_a_tuned_plan_takes_no_levels(folder, tmp_path, capsys):
    tuned = ["--solver", "tuned", "--nfe", "4", "--spacing", "measured"]
    assert main(command(folder, tmp_path / "none", *tuned)) == 2
    refused(capsys, "spacing")


# ------------------------------------------------------------------------------------- the record


BY_FILE = "measured:file={}/levels.json"


@pytest.mark.parametrize("spacing", [None, "measured", BY_FILE, f"clipped:spacing={BY_FILE}"])
def test_samples_on_other_levels_do_not_share_a_folder(spacing, folder, tmp_path, capsys):
    out = tmp_path / "out"
    more = [] if spacing is None else ["--spacing", spacing.format(folder)]
    asked = command(folder, out, *AUTO, *more)
    assert main(asked) == 0
    record = json.loads((out / "run.json").read_text())
    levels = Measured.load(folder / "levels.json")
    about = Measured(levels.process, levels.ends, levels.choices, {**levels.about, "seed": 5})
    about.save(folder / "levels.json")  # the same levels
    assert main(asked) == 0
    assert json.loads((out / "run.json").read_text()) == record
    Measured(levels.process, levels.ends, levels.choices[1:], levels.about).save(folder / "levels.json")
    capsys.readouterr()
    assert main(asked) == 2
    refused(capsys, "holds samples of other settings")
    (folder / "levels.json").unlink()
    assert main(asked) == 2


def test_a_record_without_levels_is_as_before(network, tmp_path):
    drawn(network, tmp_path / "out", *AUTO)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    names = [
        "weights",
        "sde",
        "dtype",
        "solver",
        "nfe",
        "spacing",
        "to_clean",
        "seed",
        "first",
        "n",
        "labels",
    ]
    assert list(record) == names
