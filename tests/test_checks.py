"""What the checks find, and what they do about it."""

import io
import shutil

import numpy as np
import pytest
from conftest import class_folders, picture, save
from PIL import Image

from tltool import TltoolError
from tltool.data import check_listing, read_listing
from tltool.data import inspection as inspection_module
from tltool.data.inspection import MemoryCache, inspect


def checked(folder, **options):
    return check_listing(read_listing(folder), **options)


def test_clean_folder(photos):
    dataset, report = checked(photos)
    assert report.n_images == report.n_files == 36
    assert report.classes == {"blue": 12, "green": 12, "red": 12}
    assert dataset.labels == ("blue", "green", "red")
    assert len({e.hash for e in dataset.examples}) == 36
    assert report.smallest == report.largest == (40, 30)


def test_bad_files_are_named_and_skipped(photos, caplog):
    (photos / "red" / "0.png").write_bytes(b"")
    (photos / "red" / "page.jpg").write_bytes(b"<html></html>")
    dataset, report = checked(photos)
    assert {b.file: b.reason for b in report.bad_files} == {
        "red/0.png": "is empty (0 bytes)",
        "red/page.jpg": "is an HTML page, not an image",
    }
    assert len(dataset.examples) == 35
    assert caplog.messages == [f"{b.file}: {b.reason}" for b in report.bad_files]


def test_bad_files_fail_the_run_when_asked(photos):
    (photos / "red" / "0.png").write_bytes(b"")
    with pytest.raises(TltoolError, match=r"1 of 36 .* red/0.png, which is empty"):
        checked(photos, bad_images="fail")


def test_more_than_one_in_ten_always_fails(photos):
    for i in range(4):
        (photos / "red" / f"{i}.png").write_bytes(b"x")
    with pytest.raises(TltoolError, match="4 of 36 .* more than one in ten"):
        checked(photos)


def test_identical_files_with_two_labels_are_left_out(photos):
    shutil.copy(photos / "red" / "0.png", photos / "blue" / "copy.png")
    dataset, report = checked(photos)
    assert report.contradictions == (("blue/copy.png", "red/0.png"),)
    assert not {"blue/copy.png", "red/0.png"} & {e.name for e in dataset.examples}


def test_identical_files_share_a_group(photos):
    shutil.copy(photos / "red" / "0.png", photos / "red" / "copy.png")
    dataset, report = checked(photos)
    assert report.duplicates == (("red/0.png", "red/copy.png"),)
    groups = {e.group for e in dataset.examples if e.name in ("red/0.png", "red/copy.png")}
    assert len(groups) == 1


def textured(seed, size=(200, 150)):
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (12, 16, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))


def test_near_duplicates_are_grouped_without_chaining(tmp_path):
    for label in ("a", "b"):
        for i in range(6):
            save(tmp_path / label / f"{i}.png", textured(ord(label) * 100 + i))
    original = Image.open(tmp_path / "a" / "0.png")
    original.save(tmp_path / "a" / "0-again.jpg", quality=60)
    original.resize((160, 120)).save(tmp_path / "a" / "0-small.png")
    dataset, report = checked(tmp_path)
    assert report.near_duplicates == (("a/0-again.jpg", "a/0-small.png", "a/0.png"),)
    group = {e.group for e in dataset.examples if e.name.startswith("a/0")}
    assert len(group) == 1
    assert min(e.hash for e in dataset.examples if e.name.startswith("a/0")) in group


def test_same_luminance_other_colours_are_no_near_duplicates(tmp_path):
    red = np.zeros((100, 100, 3), np.uint8)
    red[30:70, 30:70, 0] = 250
    green = np.zeros((100, 100, 3), np.uint8)
    green[30:70, 30:70, 1] = 127  # the same grey as that red
    assert (
        inspect(png(red)).perceptual_hash ^ inspect(png(green)).perceptual_hash
    ).bit_count() <= 4
    class_folders(tmp_path, n=2)
    save(tmp_path / "red" / "square.png", red)
    save(tmp_path / "green" / "square.png", green)
    assert checked(tmp_path)[1].near_duplicates == ()


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_small_images_have_no_perceptual_hash():
    assert inspect(png(picture(1, (63, 200)))).perceptual_hash is None
    assert inspect(png(picture(1, (64, 200)))).perceptual_hash is not None


def test_known_files_are_not_decoded_again(photos, monkeypatch):
    cache = MemoryCache()
    first = checked(photos, cache=cache)
    monkeypatch.setattr(inspection_module, "read_image", lambda data: pytest.fail("decoded again"))
    assert checked(photos, cache=cache) == first


def test_copies_of_test_images_leave_train(tmp_path):
    class_folders(tmp_path / "train", n=5)
    class_folders(tmp_path / "val", n=2, start=50)
    class_folders(tmp_path / "test", n=2, start=90)
    shutil.copy(tmp_path / "test/red/0.png", tmp_path / "train/red/x.png")
    shutil.copy(tmp_path / "test/red/1.png", tmp_path / "val/red/y.png")
    shutil.copy(tmp_path / "val/red/0.png", tmp_path / "train/red/z.png")
    dataset, report = checked(tmp_path)
    assert set(report.leaks) == {"train/red/x.png", "val/red/y.png", "train/red/z.png"}
    assert report.splits == {"train": 15, "val": 6, "test": 6}
    assert len(dataset.examples) == 27


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda p: [f.unlink() for f in (p / "train/red").iterdir()], "'red' has images to test"),
        (lambda p: shutil.rmtree(p / "train/red"), "'red' has images to test"),
    ],
    ids=["empty", "missing"],
)
def test_class_that_train_lacks(tmp_path, prepare, message):
    class_folders(tmp_path / "train", n=3)
    class_folders(tmp_path / "test", n=2, start=90)
    prepare(tmp_path)
    with pytest.raises(TltoolError, match=message):
        checked(tmp_path)


def test_one_class_is_not_enough(tmp_path):
    class_folders(tmp_path, ("only",), n=3)
    with pytest.raises(TltoolError, match="has one class, 'only'"):
        checked(tmp_path)


def test_class_of_unreadable_files_alone(photos):
    save(photos / "gone" / "0.png", picture(4)).write_bytes(b"x")
    with pytest.raises(TltoolError, match="Class 'gone' has no usable image"):
        checked(photos)


def test_train_that_copies_test_whole(tmp_path):
    class_folders(tmp_path / "train", n=3)
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    with pytest.raises(TltoolError, match="none in train"):
        checked(tmp_path)


def test_table_row_that_names_a_pipe(photos):
    import os

    os.mkfifo(photos / "pipe.png")
    rows = "".join(f"{c}/{i}.png,{c}\n" for c in ("red", "blue") for i in range(12))
    (photos / "d.csv").write_text("image,label\npipe.png,red\n" + rows)
    _, report = checked(photos / "d.csv")
    assert [b.reason for b in report.bad_files] == ["is not a regular file"]


def test_file_that_changes_between_hash_and_decoding_is_not_kept(photos, monkeypatch):
    from tltool.data import checks

    real = checks._hash_file

    def hash_then_change(entry):
        outcome = real(entry)
        if entry.name == "red/0.png":
            save(entry.path, picture(31337))
        return outcome

    monkeypatch.setattr(checks, "_hash_file", hash_then_change)
    cache = MemoryCache()
    _, report = checked(photos, cache=cache)
    assert [b.reason for b in report.bad_files] == ["changed while it was being checked"]


def test_many_like_pictures_are_one_group(tmp_path):
    pixels = textured(1, (80, 80)).copy()
    for i in range(30):
        pixels[0, i] ^= 1
        save(tmp_path / "a" / f"{i}.png", pixels)
    class_folders(tmp_path, ("b", "c"), n=3, size=(80, 80))
    dataset, report = checked(tmp_path)
    assert len(report.near_duplicates[0]) == 30
    assert len({e.group for e in dataset.examples if e.label == "a"}) == 1


def test_class_whose_images_all_belong_to_another(photos):
    (photos / "twin").symlink_to(photos / "red")
    with pytest.raises(TltoolError, match="all are identical to images of other classes"):
        checked(photos)
