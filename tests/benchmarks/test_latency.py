"""The benchmark of the time from noise to samples."""

import json
import time

import latency
import pytest
import torch


def test_every_batch_size_gets_a_figure(tmp_path, capsys):
    arguments = [
        "--nfe",
        "3",
        "--batch-size",
        "1",
        "8",
        "--seconds",
        "0.1",
        "--out",
        str(tmp_path),
        "--quiet",
    ]
    assert latency.main(arguments) == 0
    records = [json.loads(line) for line in (tmp_path / "latency.jsonl").read_text().splitlines()]
    assert [(r["way"], r["batch_size"], r["nfe"]) for r in records] == [
        ("as it is", 1, 3),
        ("as it is", 8, 3),
    ]
    assert 0 < records[0]["milliseconds"] < records[1]["milliseconds"]  # eight times the work
    assert "dpmpp-2m, 3 calls" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--batch-size", "0"], "--batch-size"),
        (["--solver", "ode"], "ode"),
        (["--solver", "dimm"], "dimm"),
        (["--dtype", "float64"], "--dtype"),
        (["--solver", "tuned", "--nfe", "7"], "7"),
        (["--seconds", "0"], "--seconds"),
    ],
)
def test_bad_input_is_one_line_and_2(arguments, word, tmp_path, capsys):
    assert latency.main([*arguments, "--out", str(tmp_path / "none")]) == 2
    printed = capsys.readouterr()
    assert word in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_a_run_is_timed():
    found = latency.time_of(lambda: time.sleep(0.01), 0.05, torch.device("cpu"))
    assert 0.01 <= found.median < 0.09  # one run, not the ten that torch may time together
    assert sum(found.raw_times) >= 0.05
