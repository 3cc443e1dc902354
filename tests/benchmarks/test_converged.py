"""The converged run, which stands for the exact solution."""

import hashlib
from importlib.metadata import version

import compare
import plot
import pytest
from converged import Draws, key_of
from problems import make_problem
from run_lines import GMM2, benchmark, records


def test_a_converged_run_is_reused_only_for_the_same_samples(tmp_path):
    for seed in ("0", "0", "1"):
        drawn = ["--problem", "gmm2", "--n-samples", "50", "--seed", seed, "--again"]
        assert benchmark(tmp_path, *drawn) == 0
    assert len(list(tmp_path.glob("converged-*"))) == 2
    first, second, other = records(tmp_path)
    assert first["fd"] == second["fd"] != other["fd"]


@pytest.mark.usefixtures("undrawn")
def test_the_converged_run_ends_where_the_runs_do(tmp_path):
    """The same plan from the same noise, to the bit, on either end."""
    own = ["--solver", "dpmpp-3m", "--nfe", "20", "--spacing", "uniform-lambda"]
    for end in ([], ["--to-clean"]):
        assert benchmark(tmp_path, *GMM2, *own, *end) == 0
    assert [record["rmse_to_converged"] for record in records(tmp_path)] == [0, 0]
    assert len(list(tmp_path.glob("converged-*"))) == 2
    assert len(plot.groups(records(tmp_path))) == 2


def test_the_key_of_a_converged_run_is_that_of_files_from_before():
    """Kept by hand: an old file would be drawn again under another key."""
    draws = Draws(n_samples=50, batch_size=25, seed=3)
    problem = make_problem("gmm2", "edm")
    parts = ("gmm2", repr(problem.denoiser.sde), 50, 25, 3, "float32", 64, version("scoresde"))
    assert key_of(problem, draws, 64) == hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    assert key_of(problem, draws._replace(to_clean=True), 64) != key_of(problem, draws, 64)


def test_all_programs_share_one_converged_run(tmp_path):
    """run.py and compare.py: the same file, for the same samples."""
    same = ["--problem", "gmm2", "--n-samples", "20", "--batch-size", "20", "--converged", "20"]
    assert benchmark(tmp_path, *same, "--nfe", "4") == 0
    (file,) = tmp_path.glob("converged-*")
    before = file.stat().st_mtime_ns
    rest = ["--method", "euler", "--nfe", "4", "--quiet", "--out", str(tmp_path / "compare.jsonl")]
    assert compare.main([*same, *rest]) == 0
    assert list(tmp_path.glob("converged-*")) == [file]
    assert file.stat().st_mtime_ns == before
