"""The grid of samples."""

import pytest
import torch

from scoresde.data.pictures import save_grid, tile


def test_a_grid_keeps_every_image_in_its_place():
    x = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1).expand(6, 3, 2, 2)
    sheet = tile(x, columns=3, gap=1)
    assert sheet.shape == (3, 7, 10)
    assert sheet[:, 1, 1::3].tolist() == [[0, 1, 2]] * 3
    assert sheet[:, 4, 1::3].tolist() == [[3, 4, 5]] * 3


def test_what_is_no_image_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\(1 or 3, H, W\), got \(5,\)"):
        save_grid(tmp_path / "x.png", torch.zeros(2, 5))
    with pytest.raises(ValueError, match="finite"):
        save_grid(tmp_path / "x.png", torch.full((1, 1, 2, 2), float("nan")))
    assert not list(tmp_path.iterdir())
