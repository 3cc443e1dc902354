"""Linear combinations of named vectors."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoresde.plans import Vector
from tests.problems import floats


@given(floats(-9, 9), floats(-9, 9), floats(0.5, 9), st.integers(0, 3))
def test_vectors_compute_as_numbers_do(a: float, b: float, c: float, i: int) -> None:
    x, y = Vector({"x0": 1.0}), Vector({f"x{i}": 1.0})

    def formula(x: Any, y: Any) -> Any:
        return a * x - (y * b - x / c) + -y

    values = {f"x{j}": 0.7 - j for j in range(4)}
    total = sum(weight * values[name] for name, weight in formula(x, y).row)
    # Five roundings of numbers below 100.
    assert total == pytest.approx(formula(values["x0"], values[f"x{i}"]), abs=1e-12)


def test_what_cancels_is_forgotten() -> None:
    """Else every vector of a run would stand, with weight 0, in the corrected states of its end."""
    vector = Vector({"x0": 0.5, "d0": 2.0}) - Vector({"x0": 0.5})
    assert vector.weights == {"d0": 2.0}
