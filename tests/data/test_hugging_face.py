"""Data sets of Hugging Face: images, vectors, labels and names, and what cannot be read."""

import importlib.util

import numpy as np
import pytest
from hugging_face import Table, pretend
from PIL import Image

from scoresde.data import load_data

COLOURS = np.random.default_rng(1).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 2])


def rows(n=4, **columns):
    return {"image": [Image.fromarray(array) for array in COLOURS[:n]], **columns}


def test_images_labels_and_names_of_a_hugging_face_data_set(monkeypatch):
    asked = pretend(monkeypatch, Table(rows(label=LABELS.tolist()), names=["eel", "cat", "dog"]))
    x, labels, names = load_data("hf:some/set", labels="label", split="test")
    assert asked == [("some/set", "test")]
    assert np.array_equal(x.numpy(), np.moveaxis(COLOURS, 3, 1))
    assert (labels.tolist(), names) == (LABELS.tolist(), ("eel", "cat", "dog"))
    assert load_data("hf:some/set")[1:] == (None, None)


def test_labels_without_names_have_none(monkeypatch):
    pretend(monkeypatch, Table(rows(number=LABELS.tolist())))
    assert load_data("hf:some", labels="number").names is None


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)], ids=["channels last", "channels first"])
def test_rows_of_numbers_are_taken_as_they_are(monkeypatch, order):
    floats = (COLOURS / 127.5 - 1).astype(np.float32)
    pretend(monkeypatch, Table({"x": [row.transpose(order) for row in floats]}))
    assert np.array_equal(load_data("hf:some", images="x").x.numpy(), np.moveaxis(floats, 3, 1))
    pretend(monkeypatch, Table({"x": [[0.5, 100.0], [2.5, -7.0]]}))
    assert load_data("hf:some", images="x").x.tolist() == [[0.5, 100.0], [2.5, -7.0]]


def test_rows_that_cannot_be_read_are_listed_or_skipped_with_their_labels(monkeypatch):
    columns = rows(label=LABELS.tolist())
    columns["image"][2] = None
    pretend(monkeypatch, Table(columns, names=["a", "b", "c"], broken=[0]))
    said = r"2 of 4 images .*row 0 of some is not a whole .*: broken PNG file, row 2 of some .*: it is empty"
    with pytest.raises(ValueError, match=said):
        load_data("hf:some", labels="label")
    with pytest.warns(UserWarning, match=said):
        x, labels, names = load_data("hf:some", labels="label", unreadable="skip")
    assert np.array_equal(x.numpy(), np.moveaxis(COLOURS[[1, 3]], 3, 1))
    assert (labels.tolist(), names) == (LABELS[[1, 3]].tolist(), ("a", "b", "c"))


@pytest.mark.parametrize(
    ("table", "options", "named"),
    [
        (Table({"image": []}), {"images": "x"}, "some has no column 'x', only image"),
        (Table({"image": []}), {"labels": "y"}, "some has no column 'y', only image"),
        (Table({"image": []}), {}, "some has no rows"),
        (ConnectionError("no network"), {}, "data set 'some' of Hugging Face, split 'train': no network"),
        (
            Table({"image": [[0.5], [0.5, 1.0]]}),
            {},
            r"got \(1,\) float64 in row 0 .* and \(2,\) float64 in row 1",
        ),
        (Table({"image": [[[1.0], [1.0, 2.0]]]}), {}, "1 of 1 images cannot be read: row 0 of some"),
    ],
)
def test_hugging_face_data_that_cannot_be_is_refused(monkeypatch, table, options, named):
    pretend(monkeypatch, table)
    with pytest.raises(ValueError, match=named):
        load_data("hf:some", **options)


@pytest.mark.skipif(importlib.util.find_spec("datasets") is not None, reason="the package is here")
def test_hugging_face_data_without_its_package_says_what_to_install():
    with pytest.raises(ValueError, match=r"need: pip install scoresde\[datasets\]"):
        load_data("hf:mnist")
