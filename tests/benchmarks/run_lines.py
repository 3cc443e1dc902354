"""Lines of run.py: one made by hand, and those of a run in this process."""

import json

import run

GMM2 = ["--problem", "gmm2", "--n-samples", "20", "--converged", "20"]


def figured(**fields):
    """A line as run.py writes it, with some other fields."""
    return {
        **{"solver": "ddim", "sde": "edm", "spacing": "karras", "to_clean": False, "problem": "p", "seed": 0},
        **{"nfe_requested": 10, "nfe": 10, "n_samples": 10, "batch_size": 10, "checkpoint": "shipped"},
        **{"fd": 2.0, "fd_features": "FD[x]@10", "fd_reference": 1.0, "fd_converged": 1.0},
        **{"fd_held_out": None, "held_out_count": None, "rmse_to_converged": 0.1, "converged_nfe": 64},
        **{"seconds": 1.0, "seconds_network": 0.9, "seconds_per_1k_samples": 2.0, "peak_memory_mb": 9.0},
        **{"device_name": "here", "dtype": "float32", "compiled": False, "versions": {"torch": "2"}},
        **fields,
    }


def records(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def benchmark(folder, *arguments):
    return run.main([*arguments, "--out", str(folder), "--quiet"])
