"""``scoresde tune`` on small networks that ``scoresde train`` made."""

import shutil
import sys
from dataclasses import replace
from functools import partial, wraps
from itertools import groupby

import pytest
import torch
from small_commands import refused, trained_on_vectors
from small_levels import made_up

from scoresde import Plan, Transported
from scoresde.cli.main import main
from scoresde.files import locked
from scoresde.networks import MLP, NETWORKS
from scoresde.spacings import FlowTime
from scoresde.spacings.measured import Choice, ends_of
from scoresde.training.checkpoint import load_denoiser
from scoresde.tuning.report import Report


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return trained_on_vectors(tmp_path_factory.mktemp("network"))


def tuned(network, folder, *arguments):
    few = ["--samples", "32", "--held-out", "64", "--starts", "1", "--quiet"]
    return main(["tune", "--checkpoint", str(network), "--out", str(folder), *few, *arguments])


@pytest.fixture(scope="module")
def of_two_calls(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    assert tuned(network, folder, "--nfe", "2") == 0
    return folder


@pytest.fixture
def folder(of_two_calls, tmp_path):
    """A folder with a tuning of two calls."""
    return shutil.copytree(of_two_calls, tmp_path / "tuned")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_plan_its_report_and_its_picture_are_written(folder):
    assert contents(folder).keys() == {"tuned-2.json", "report-2.json", "tuned-2.png"}
    plan, report = Plan.load(folder / "tuned-2.json"), Report.load(folder / "report-2.json")
    assert (plan.nfe, report.nfe) == (2, 2)
    assert {name: plan.about[name] for name in ("dtype", "seed", "labels", "samples", "starts")} == {
        "dtype": "torch.float32",
        "seed": 0,
        "labels": [0, 1],
        "samples": 32,
        "starts": 1,
    }


def test_a_plan_that_exists_is_shown_and_not_changed(network, folder, capsys):
    before = contents(folder)
    assert tuned(network, folder, "--nfe", "2") == 0
    said = capsys.readouterr().out
    assert "tuned-2.json is there already" in said
    assert str(Report.load(folder / "report-2.json")) in said
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seed", "1"], r"seed 0, here 1"),
        (["--samples", "48"], r"samples 32, here 48"),
        (["--gamma", "0.5"], r"gamma 0.2, here 0.5"),
        (["--label", "1"], r"labels \[0, 1\], here \[1\]"),
        (["--dtype", "bfloat16"], r"dtype torch.float32, here torch.bfloat16"),
        (["--guidance", "2"], r"weights [0-9]+:\w+, here [0-9]+:\w+"),
        (["--sde", "ve"], r".*sde EDM.*, here VESDE"),
    ],
)
def test_a_plan_of_other_settings_is_refused(more, said, network, folder, capsys):
    before = contents(folder)
    assert tuned(network, folder, "--nfe", "2", *more) == 2
    refused(capsys, rf"tuned-2\.json is of another tuning \({said}.*name another --out")
    assert contents(folder) == before


def test_a_plan_for_a_guided_network_is_used_with_its_guidance(network, tmp_path):
    assert tuned(network, tmp_path / "tuned", "--nfe", "2", "--guidance", "2") == 0

    def drawn(name, *guidance):
        of = ["--checkpoint", str(network), "--solver", f"tuned:{tmp_path / 'tuned/tuned-2.json'}"]
        return main(["sample", *of, "--quiet", "--n", "2", "--out", str(tmp_path / name), *guidance])

    assert drawn("with", "--guidance", "2") == 0
    with pytest.warns(UserWarning, match="tuned for another network, or with another guidance"):
        assert drawn("without") == 0


def levels_tuned_with(network, folder, *more, made, monkeypatch):
    """The measured levels that the command gives to tune()."""
    given = []

    def tune(*_, levels, **__):
        given.append(levels)
        return made

    monkeypatch.setattr("scoresde.cli.tune.tune", tune)
    monkeypatch.setattr("scoresde.cli.tune.draw", lambda *_, **__: None)
    assert tuned(network, folder, "--nfe", "2", *more) == 0
    return given[0]


def test_measured_levels_are_those_of_the_option_or_those_beside_the_network(
    network, folder, tmp_path, monkeypatch
):
    made = Plan.load(folder / "tuned-2.json"), Report.load(folder / "report-2.json")
    denoiser = load_denoiser(network).denoiser
    choices = [[Choice(calls, "velocity-p2c3", FlowTime())] for calls in (4, 5)]
    beside, named = (made_up(denoiser, one) for one in choices)
    own = shutil.copytree(network, tmp_path / "network")
    asked = partial(levels_tuned_with, made=made, monkeypatch=monkeypatch)
    assert asked(own, tmp_path / "none") is None
    beside.save(own / "levels.json")
    named.save(tmp_path / "named.json")
    assert asked(own, tmp_path / "folder") == beside
    assert asked(own / "model.safetensors", tmp_path / "file") == beside
    sde = Transported(denoiser, "ve").sde
    under = replace(beside, process="VESDE", ends=ends_of(sde))
    assert asked(own, tmp_path / "ve", "--sde", "ve") == under
    assert asked(own, tmp_path / "option", "--levels", str(tmp_path / "named.json")) == named
    made_up(denoiser, weights="3:0123").save(own / "levels.json")
    with pytest.warns(UserWarning, match="not used: .* was measured on another network"):
        assert asked(own, tmp_path / "other") is None


@pytest.mark.slow
def test_every_budget_has_a_plan_and_the_largest_is_first(network, tmp_path, capsys):
    assert tuned(network, tmp_path, "--nfe", "2", "3", "2") == 0
    files = [line for line in capsys.readouterr().out.splitlines() if "json" in line]
    assert files == [str(tmp_path / f"tuned-{nfe}.json") for nfe in (3, 2)]
    for nfe in (2, 3):
        assert Plan.load(tmp_path / f"tuned-{nfe}.json").nfe == nfe
    assert not (tmp_path / "state").exists()


LOW: list[bool] = []  # of every call of a network: was it in low precision? no attribute, which is a setting


class Observed(MLP):
    @wraps(MLP.__init__)  # for its options
    def __init__(self, **options):
        super().__init__(**options)

    def forward(self, x, t, cond=None):
        LOW.append(torch.is_autocast_enabled("cpu"))
        return super().forward(x, t, cond)


@pytest.mark.slow
def test_a_draft_in_low_precision_compares_stock_solvers_and_nothing_else(network, tmp_path, monkeypatch):
    monkeypatch.setitem(NETWORKS, "mlp", Observed)
    LOW.clear()
    assert tuned(network, tmp_path, "--nfe", "3", "--draft-dtype", "bfloat16") == 0
    runs = [(low, len(list(calls))) for low, calls in groupby(LOW)]
    assert any(low for low, _ in runs)
    # The teacher is first, of 32 calls and of 64 to check it. The fit is last: its derivatives in each
    # parameter need three calls at least.
    assert runs[0][0] is runs[-1][0] is False
    assert runs[0][1] >= 32 + 64
    assert runs[-1][1] >= 3 * Report.load(tmp_path / "report-3.json").parameters
    about = Plan.load(tmp_path / "tuned-3.json").about
    assert (about["dtype"], about["draft"]) == ("torch.float32", "bfloat16")


def test_without_matplotlib_there_is_no_picture(network, folder, tmp_path, monkeypatch, capsys):
    made = Plan.load(folder / "tuned-2.json"), Report.load(folder / "report-2.json")
    monkeypatch.setattr("scoresde.cli.tune.tune", lambda *_, **__: made)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert tuned(network, tmp_path / "again", "--nfe", "2") == 0
    refused(capsys, "no picture: matplotlib is not installed")
    assert contents(tmp_path / "again") == {
        name: content for name, content in contents(folder).items() if not name.endswith("png")
    }


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--nfe", "1"], "--nfe must be at least 2, got 1"),
        (["--nfe", "4", "five"], "--nfe must be an integer, got 'five'"),
        (["--nfe", "2", "300"], "at most 256"),
        (["--nfe", "8", "--samples", "20"], "20 samples"),
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--held-out", "1"], "held_out"),
        (["--starts", "0"], "--starts must be at least 1, got 0"),
        (["--gamma", "-1"], "gamma.*-1"),
        (["--dtype", "float8"], "--dtype: invalid choice: 'float8' .*bfloat16"),
        (["--nfe", "3", "--label", "3"], "--label.*'3'; known: 0, 1; or 2 for no class"),
        (["--nfe", "3", "--device", "gpuu"], "gpuu"),
        (["--nfe", "3", "--levels", "nowhere.json"], "nowhere.json holds no measured levels"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, pattern, network, tmp_path, capsys):
    assert tuned(network, tmp_path / "out", *arguments) == 2
    refused(capsys, pattern)
    assert not (tmp_path / "out").exists()


def test_a_label_of_a_network_without_classes_is_refused(tmp_path, capsys):
    network = trained_on_vectors(tmp_path, "network.classes=0", "data.labels=''")
    capsys.readouterr()
    assert tuned(network, tmp_path / "out", "--nfe", "3", "--label", "1") == 2
    refused(capsys, "--label was given, but the network has no classes")


def test_a_folder_that_another_run_holds_is_refused(network, tmp_path, capsys):
    with locked(tmp_path):
        assert tuned(network, tmp_path, "--nfe", "3") == 2
    refused(capsys, "another run is writing to")
