"""Folders of images: what their classes are, and what is wrong with them, all at once."""

import sys

import numpy as np
import pytest
from PIL import Image

from scoresde.cli.main import main
from scoresde.data import load_data

GREY = np.random.default_rng(0).integers(0, 256, (6, 4, 5), dtype=np.uint8)


def put(folder, *names):
    """Images of shades 0, 1, ... at these paths."""
    for shade, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (5, 4), shade).save(folder / name)
    return str(folder)


def found(source, **options):
    """The shade of each image, its label, and the names."""
    x, labels, names = load_data(source, **options)
    return x[:, 0, 0, 0].tolist(), None if labels is None else labels.tolist(), names


# ------------------------------------------------------------------------------------- classes


@pytest.mark.parametrize(
    ("paths", "labels", "names"),
    [
        (["cat/images/0.png", "dog/images/0.png"], [0, 1], ("cat", "dog")),
        (["cabin/indoor/0.png", "cabin/outdoor/0.png", "house/outdoor/0.png"], [0, 0, 1], ("cabin", "house")),
        (["cat/0.png", "dog/a/b/c/0.png", "dog/1.png"], [0, 1, 1], ("cat", "dog")),
        (["all/a/0.png", "all/b/0.png"], None, None),  # a single folder is not a class
        (["a.png", "b.png"], None, None),
        (["car/0.png", "train/0.png"], [0, 1], ("car", "train")),  # one such name may well be a class
    ],
)
def test_the_first_level_is_the_class(tmp_path, paths, labels, names):
    shades, *classes = found(put(tmp_path, *paths))
    assert sorted(shades) == list(range(len(paths)))
    assert classes == [labels, names]


def test_the_label_goes_with_its_image(tmp_path):
    shades, labels, names = found(put(tmp_path, "dog/2.png", "cat/x/1.png", "eel/0.png", "cat/3.png"))
    assert dict(zip(shades, labels, strict=True)) == {0: 1, 1: 0, 2: 2, 3: 0}
    assert names == ("cat", "dog", "eel")


def test_hidden_names_are_left_out_at_every_level(tmp_path):
    seen = ["cat/0.png", "dog/deep/0.png"]
    hidden = [".thumbnails/0.png", "cat/.ipynb_checkpoints/0.png", "cat/._0.png", "dog/deep/.x.png"]
    put(tmp_path, *seen, *hidden)
    (tmp_path / ".loose.png").write_bytes(b"no image")
    (tmp_path / "cat" / "._1.png").write_bytes(b"no image")
    assert found(str(tmp_path)) == ([0, 1], [0, 1], ("cat", "dog"))


def test_a_hidden_folder_can_be_the_source(tmp_path):
    assert found(put(tmp_path / ".cache", "cat/0.png", "dog/0.png")) == ([0, 1], [0, 1], ("cat", "dog"))


def test_links_are_followed(tmp_path):
    put(tmp_path / "elsewhere", "far.png", "deep/far.png")
    source = put(tmp_path / "data", "cat/0.png")
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "cat" / "1.png").symlink_to(tmp_path / "elsewhere" / "deep" / "far.png")
    assert found(source) == ([0, 1, 1, 0], [0, 0, 1, 1], ("cat", "dog"))


def test_circles_of_links_end_and_give_each_image_once(tmp_path):
    source = put(tmp_path, "cat/0.png", "dog/1.png")
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "cat" / "self").symlink_to(tmp_path / "cat")
    (tmp_path / "dog" / "loop").symlink_to(tmp_path / "dog" / "loop")
    for name in "abcdefgh":  # each holds links to all: a walk of all ways would not end
        (tmp_path / "dog" / name).mkdir()
    for name in "abcdefgh":
        for other in "abcdefgh":
            (tmp_path / "dog" / name / other).symlink_to(tmp_path / "dog" / other)
    assert found(source) == ([0, 1], [0, 1], ("cat", "dog"))


def test_folders_of_other_things_beside_loose_images_do_not_matter(tmp_path):
    source = put(tmp_path, "0.png", "1.png")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no image")
    assert found(source) == ([0, 1], None, None)


def test_a_folder_named_like_an_image_is_a_folder(tmp_path):
    assert found(put(tmp_path, "a.png/0.png", "b.png/0.png"))[1:] == ([0, 1], ("a.png", "b.png"))


@pytest.mark.parametrize("pair", [("train", "val"), ("train", "test"), ("Train", "Validation", "test")])
def test_splits_side_by_side_are_an_error_that_says_what_to_point_at(tmp_path, pair):
    source = put(tmp_path, *(f"{split}/{kind}/0.png" for split in pair for kind in ("cat", "dog")))
    ways = ", ".join(f"{source}/{split}" for split in sorted(pair))
    with pytest.raises(ValueError, match=f"splits, not classes; point data.source at one of them: {ways}$"):
        load_data(source)
    assert found(f"{source}/{pair[0]}") == ([0, 1], [0, 1], ("cat", "dog"))


def test_a_class_without_images_is_named(tmp_path):
    source = put(tmp_path, "cat/0.png")
    (tmp_path / "dog" / "deep").mkdir(parents=True)
    (tmp_path / "eel").mkdir()
    (tmp_path / "eel" / "a.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"folders without images: dog, eel; every folder in it is a class"):
        load_data(source)


def test_images_beside_classes_are_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"or all in one folder, got .*/b\.png beside sub-folders"):
        load_data(put(tmp_path, "cat/0.png", "b.png"))


# ------------------------------------------------------------------------------------- faults, all at once


def test_all_that_cannot_be_read_is_listed_at_once(tmp_path):
    source = put(tmp_path, *(f"{i}.png" for i in range(9)))
    for i in range(1, 8):
        (tmp_path / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="cannot be read") as caught:
        load_data(source)
    message = str(caught.value)
    assert message.startswith("7 of 9 images cannot be read: ")
    assert [i for i in range(9) if f"{i}.png is not a whole image" in message] == [1, 2, 3, 4, 5]
    assert message.endswith(" and 2 more")


def test_all_of_another_size_or_mode_are_listed_beside_those_that_cannot_be_read(tmp_path):
    source = put(tmp_path, *(f"{i}.png" for i in range(5)))
    Image.new("L", (7, 4)).save(tmp_path / "1.png")
    Image.new("RGB", (5, 4)).save(tmp_path / "2.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((4, 5), dtype=np.uint16)).save(tmp_path / "4.png")
    with pytest.raises(ValueError, match="one size and mode") as caught:
        load_data(source)
    message = str(caught.value)
    assert "1 of 5 images cannot be read" in message
    kinds = {0: "(1, 4, 5)", 1: "(1, 4, 7)", 2: "(3, 4, 5)", 4: "(1, 4, 5) float32"}
    assert all(f"{kind} in {tmp_path / str(i)}.png" in message for i, kind in kinds.items())
    assert "set data.size, data.mode" in message


def test_size_and_mode_make_a_mixed_folder_one(tmp_path):
    Image.new("L", (8, 8), 3).save(tmp_path / "0.png")
    Image.new("RGB", (40, 16), (3, 3, 3)).save(tmp_path / "1.png")
    Image.new("RGBA", (9, 30), (3, 3, 3, 255)).save(tmp_path / "2.png")
    Image.fromarray(np.full((8, 8), 3 * 257, dtype=np.uint16)).save(tmp_path / "3.png")
    x = load_data(str(tmp_path), size=8, mode="RGB", crop=True).x
    assert x.shape == (4, 3, 8, 8)
    assert x.unique().tolist() == [3]


def test_unreadable_images_are_skipped_and_counted_where_asked(tmp_path):
    source = put(tmp_path, "cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")
    (tmp_path / "cat" / "0.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"1 of 4 images .* were skipped: .*0\.png") as caught:
        assert found(source, unreadable="skip") == ([1, 2, 3], [0, 1, 1], ("cat", "dog"))
    assert caught[0].filename == __file__
    (tmp_path / "cat" / "1.png").write_bytes(b"no image")
    with (
        pytest.warns(UserWarning, match="2 of 4"),
        pytest.raises(ValueError, match="no image of the class 'cat'"),
    ):
        load_data(source, unreadable="skip")


def test_nothing_that_can_be_read_is_an_error_even_where_skipping_is_asked(tmp_path):
    source = put(tmp_path, "0.png", "1.png")
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="2 of 2 images cannot be read"):
        load_data(source, unreadable="skip")


def test_images_of_another_size_are_no_unreadable_ones(tmp_path):
    put(tmp_path, "0.png", "1.png")
    Image.new("L", (7, 4)).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match="one size and mode"):
        load_data(str(tmp_path), unreadable="skip")


def test_a_link_to_nowhere_is_named(tmp_path):
    source = put(tmp_path, "0.png")
    (tmp_path / "1.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"1 of 2 images cannot be read: .*1\.png is not a whole image"):
        load_data(source)


def test_an_image_of_too_many_pixels_is_refused_by_its_name(tmp_path, monkeypatch):
    source = put(tmp_path, "0.png", "1.png")
    Image.new("L", (50, 50)).save(tmp_path / "1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # of 178,956,970 twice these are an error
    with pytest.raises(ValueError, match=r"1\.png is not a whole image: .*decompression bomb"):
        load_data(source)


def test_a_command_names_them_all_in_one_line(tmp_path, capsys):
    source = put(tmp_path / "data", "0.png", "1.png", "2.png")
    for i in (0, 2):
        (tmp_path / "data" / f"{i}.png").write_bytes(b"no image")
    configuration = tmp_path / "a.toml"
    configuration.write_text(
        f"[data]\nsource = {source!r}\nsize = 8\ncrop = true\n"
        '[network]\nname = "unet"\nin_channels = 1\nchannels = [8]\n[prediction]\nname = "edm"\n'
    )
    assert main(["train", "--config", str(configuration), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "2 of 3 images cannot be read" in printed
    assert "0.png" in printed
    assert "2.png" in printed


def test_long_reading_shows_a_bar_where_asked(tmp_path, monkeypatch, capsys):
    import scoresde.data.reading as reading

    source = put(tmp_path, "0.png", "1.png")
    load_data(source, progress=True)
    assert capsys.readouterr().err == ""  # it was quick
    bar = reading.tqdm
    at_once = {"delay": 0, "leave": True, "file": sys.stderr}
    monkeypatch.setattr(reading, "tqdm", lambda *a, **k: bar(*a, **k | at_once))
    load_data(source)
    assert capsys.readouterr().err == ""
    load_data(source, progress=True)
    assert "2/2" in capsys.readouterr().err
