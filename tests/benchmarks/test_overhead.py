"""The benchmark of the time of a solver outside its network."""

import json
from pathlib import Path

import overhead
import pytest


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of the other libraries
def test_every_solver_asked_for_gets_a_figure(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    assert overhead.main(["--solver", "ddim", "unipc", "--repeats", "2", "--out", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert {"ddim", "unipc"} <= set(figures)
    assert all(number > 0 for kinds in figures.values() for number in kinds.values())
    assert figures["ddim"]["data"] < figures["unipc"]["data"]  # two vectors in a row, against four


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--repeats", "0"], ["--repeats must be at least 1", "0"]),
        (["--solver", "dimm"], ["unknown solver 'dimm'", "'ddim'"]),
        (["--solver", "ode"], ["--solver must be tables", "got ode"]),
    ],
)
def test_bad_input_is_one_line_and_2(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert overhead.main(arguments) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.count("\n") == 1
    assert all(word in printed.err for word in words)
