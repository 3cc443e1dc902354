"""The model card of the included network: its files, its commands and its figures are the real ones."""

import hashlib
import json
import re
import statistics
from collections import defaultdict
from pathlib import Path

from scoresde.data.pixels import to_uint8
from scoresde.pretrained import pretrained

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
SHIPPED = pretrained("mnist")
CARD = (SHIPPED.folder / "MODEL_CARD.md").read_text()
ROWS = [[cell.strip() for cell in line[1:-1].split("|")] for line in CARD.splitlines() if line[:1] == "|"]


def records(name):
    return [json.loads(line) for line in (RESULTS / name).read_text().splitlines()]


def test_the_card_names_every_file_with_its_hash():
    listed = {row[0].strip("`"): row[2].strip("`") for row in ROWS if len(row) == 3 and len(row[2]) == 66}
    files = [path for path in SHIPPED.folder.iterdir() if path.name != "MODEL_CARD.md"]
    assert listed == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_card_describes_the_networks():
    for net in (SHIPPED.denoiser.net, SHIPPED.features):
        assert f"{sum(parameter.numel() for parameter in net.parameters()):,} parameters" in CARD
    about = SHIPPED.about
    parts = [*about["model"]["before"], about["model"]]
    assert [part["command"] for part in parts] == re.findall(r"^scoresde train .*$", CARD, re.MULTILINE)
    assert about["features"]["command"] in CARD
    assert f"accuracy {about['features']['test_accuracy']:.2%}".replace("%", " %") in CARD
    steps = [part.get("steps", part.get("step")) for part in parts]
    assert f"{sum(steps):,} steps of {SHIPPED.configuration.optimization.batch_size} images" in CARD
    assert " and ".join((f"{steps[0]:,}, {steps[1]:,}", f"{steps[2]:,} steps")) in CARD
    assert f"for {sum(part['seconds'] for part in parts) / 60:.0f} minutes" in CARD


def test_the_figures_of_solvers_are_those_of_the_records():
    measured = {(made["solver"], made["nfe"]): made for made in records("mnist-10k.jsonl")}
    listed = [
        row for row in ROWS if len(row) == 4 and row[0].strip("`") in {solver for solver, _ in measured}
    ]
    assert len(listed) == 6
    for solver, calls, fd, rmse in listed:
        made = measured[solver.strip("`"), int(calls)]
        assert (fd, rmse) == (f"{made['fd']:.3g}", f"{made['rmse_to_converged']:.3g}"), solver
        assert (made["n_samples"], made["dtype"], made["spacing"]) == (10_000, "bfloat16", "karras")
        assert ["test images", "", f"{made['fd_held_out']:.3g}", ""] in ROWS
        assert ["converged run", str(made["converged_nfe"]), f"{made['fd_converged']:.3g}", "0"] in ROWS


def test_the_figures_of_tuned_plans_are_the_means_of_the_records():
    measured = defaultdict(list)
    for made in records("tuned-mnist.jsonl"):
        if made["solver"] == "tuned":
            assert (made["n_samples"], made["dtype"], made["converged"]) == (10_000, "bfloat16", 40)
            measured[f"tuned-{made['nfe']}.json"].append(made)
    listed = {row[0].strip("`"): row[1:] for row in ROWS if len(row) == 4 and "tuned-" in row[0]}
    assert listed == {
        name: [f"{statistics.mean(each[key] for each in made):.3g}" for key in ("rmse", "fd_reference", "fd")]
        for name, made in measured.items()
    }
    assert all(len(made) == 3 for made in measured.values())


def test_the_program_of_the_card_runs():
    (program,) = re.findall(r"^```python\n(.*?)^```", CARD, re.MULTILINE | re.DOTALL)
    names = {}
    exec(compile(program, "MODEL_CARD.md", "exec"), names)
    found = SHIPPED.features(to_uint8(names["x"])).argmax(1)
    assert (found == names["torch"].arange(10)).sum() >= 8  # one in ten would be chance
