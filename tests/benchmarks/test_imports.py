"""The benchmark of the time to import the library."""

import re

import imports
import pytest


@pytest.mark.slow
def test_it_prints_both_times_and_their_ratio(capsys):
    """Without the bar: a loaded machine may be far from it."""
    status = imports.main(["--repeats", "2"])
    printed = capsys.readouterr().out
    torch, scoresde = (float(re.search(rf"^import {m}: (\S+) s$", printed, re.M)[1]) for m in imports.MODULES)
    ratio, verdict = re.search(r"^ratio: (\S+), at most 1.2 \((\w+)\)$", printed, re.M).groups()
    assert 0 < torch
    assert float(ratio) == pytest.approx(scoresde / torch, abs=0.02)  # of rounded numbers
    assert (status, verdict) in ((0, "holds"), (1, "fails"))


@pytest.mark.parametrize(("took", "status"), [(1.19, 0), (1.21, 1)])
def test_the_exit_status_is_that_of_the_bar(took, status, monkeypatch, capsys):
    monkeypatch.setattr(imports, "seconds", {"torch": 1.0, "scoresde": took}.get)
    assert imports.main(["--repeats", "3"]) == status


def test_bad_input_is_one_line_and_2(capsys):
    assert imports.main(["--repeats", "0"]) == 2
    assert capsys.readouterr().err == "imports.py: --repeats must be at least 1, got 0\n"
