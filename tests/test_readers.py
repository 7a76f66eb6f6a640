"""DATA in all its shapes."""

import os
import unicodedata

import numpy as np
import pytest
from conftest import class_folders, picture, save

from tltool import TltoolError
from tltool.data import TableColumns, check_listing, image_files, read_listing


def labels(listing):
    return sorted({e.label for e in listing.entries})


def test_class_folders(photos):
    (photos / "red" / "notes.txt").write_text("x")
    (photos / "red" / ".hidden.png").write_bytes(b"x")
    (photos / "red" / "README").write_text("x")
    save(photos / "red" / "deeper" / "a.png", picture(5))
    save(photos / "loose.png", picture(6))
    (photos / "empty").mkdir()
    listing = read_listing(photos)
    assert labels(listing) == ["blue", "green", "red"]
    assert len(listing.entries) == 37
    assert dict(listing.ignored) == {".txt": 1, "": 1, "hidden": 1}
    assert any("Outside any class folder" in note for note in listing.notes)
    assert any("empty" in note for note in listing.notes)


def test_a_split_without_classes_is_told(tmp_path):
    photos = tmp_path / "photos"
    for split in ("train", "test"):
        class_folders(photos / split, n=4)
    (photos / "val").mkdir()
    listing = read_listing(photos)
    assert {entry.split for entry in listing.entries} == {"train", "test"}
    assert any(note == "Without images, and left out: 1 folder, val." for note in listing.notes)


def test_numbers_are_in_natural_order(tmp_path):
    class_folders(tmp_path, ("1", "2"), n=12)
    names = [e.name for e in read_listing(tmp_path).entries][:12]
    assert names == [f"1/{i}.png" for i in range(12)]


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train", "val", "test"), {"train", "val", "test"}),
        (("Training", "validation"), {"train", "val"}),
        (("train",), {"train"}),
        (("train", "car"), {""}),  # a class of that name
    ],
)
def test_split_folders(tmp_path, folders, expected):
    for i, folder in enumerate(folders):
        inside = {"classes": ("front", "side")} if folder == "car" else {}
        class_folders(tmp_path / folder, n=2, start=10 * i, **inside)
    listing = read_listing(tmp_path)
    assert {e.split for e in listing.entries} == expected


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("train", "dev"), "a train folder and beside it 'dev' with the same classes"),
        (("train", "val", "validation"), "val and validation, which both name the val split"),
    ],
)
def test_split_folders_that_would_be_taken_for_classes(tmp_path, folders, said):
    for i, folder in enumerate(folders):
        class_folders(tmp_path / folder, n=2, start=10 * i)
    with pytest.raises(TltoolError, match=said):
        read_listing(tmp_path)


def test_split_folders_beside_what_is_none(tmp_path):
    class_folders(tmp_path / "train", n=2)
    class_folders(tmp_path / "test", n=2, start=9)
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._a.png").write_bytes(b"x")
    assert {e.split for e in read_listing(tmp_path).entries} == {"train", "test"}
    save(tmp_path / "unlabeled" / "a.png", picture(1))
    with pytest.raises(TltoolError, match="beside them the folder 'unlabeled'"):
        read_listing(tmp_path)


def test_class_folder_that_leads_out_is_no_detail(tmp_path):
    class_folders(tmp_path / "data", n=2)
    class_folders(tmp_path / "away", ("other",), n=2)
    (tmp_path / "data" / "other").symlink_to(tmp_path / "away" / "other")
    with pytest.raises(TltoolError, match="other in .* leads out of the data folder; copy"):
        read_listing(tmp_path / "data")


def test_classes_named_like_splits_are_classes(tmp_path):
    class_folders(tmp_path, ("train", "test"), n=3)
    assert labels(read_listing(tmp_path)) == ["test", "train"]


def test_labels_are_normalised(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Füße")
    class_folders(tmp_path, (decomposed, "日本"), n=2)
    assert labels(read_listing(tmp_path)) == ["Füße", "日本"]


def test_undecodable_file_name(tmp_path):
    class_folders(tmp_path, n=1)
    try:
        os.rename(  # noqa: PTH104
            os.fsencode(tmp_path / "red" / "0.png"), os.fsencode(tmp_path / "red") + b"/\xff.png"
        )
    except OSError:
        pytest.skip("this file system takes no such name")
    entry = next(e for e in read_listing(tmp_path).entries if e.label == "red")
    assert entry.name == "red/\\udcff.png"
    assert entry.path.read_bytes()


def test_links_that_lead_out_or_round_are_refused(photos, tmp_path):
    outside = save(tmp_path / "outside.png", picture(9))
    (photos / "red" / "out.png").symlink_to(outside)
    (photos / "red" / "loop").symlink_to(photos)
    (photos / "red" / "self.png").symlink_to(photos / "red" / "self.png")
    (photos / "red" / "inside.png").symlink_to(photos / "blue" / "0.png")
    listing = read_listing(photos)
    reasons = {bad.file: bad.reason for bad in listing.bad}
    assert "leads out" in reasons["red/out.png"]
    assert "loop" in reasons["red/loop"]
    assert "circle" in reasons["red/self.png"]
    assert "red/inside.png" in {e.name for e in listing.entries}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "does not exist"),
        (lambda p: p.mkdir(), "is empty"),
        (lambda p: (p.mkdir(), (p / "a.txt").write_text("x")), r"only others \(1 .txt\)"),
        (lambda p: save(p / "a.png", picture(1)), "1 images but no class folders"),
        (lambda p: class_folders(p / "inner", n=1), "give that one instead: .*inner"),
    ],
    ids=["missing", "empty", "others", "loose", "outer"],
)
def test_folders_that_are_none(tmp_path, make, message):
    make(tmp_path / "data")
    with pytest.raises(TltoolError, match=message):
        read_listing(tmp_path / "data")


def test_the_advice_for_an_outer_folder_works(tmp_path):
    class_folders(tmp_path / "inner", n=1)
    with pytest.raises(TltoolError) as caught:
        read_listing(tmp_path)
    named = str(caught.value).rsplit(": ", 1)[1].rstrip(".")
    assert len(read_listing(named).entries) == 3


def test_missing_folder_offers_a_similar_one(photos):
    with pytest.raises(TltoolError, match="did you mean 'photos'"):
        read_listing(photos.parent / "fotos")


class TestTable:
    def write(self, photos, text, name="data.csv"):
        path = photos / name
        path.write_text(text, encoding="utf-8-sig")
        return path

    def test_usual_columns(self, photos):
        path = self.write(photos, "file,label\nred/0.png,a\nblue/1.png,b\nred/0.png,a\n")
        listing = read_listing(path)
        assert [(e.name, e.label) for e in listing.entries] == [
            ("blue/1.png", "b"),
            ("red/0.png", "a"),
        ]

    def test_a_column_of_splits_that_was_not_named_is_told_of_at_once(self, photos, caplog):
        (photos / "d.csv").write_text("image,label,split\nred/0.png,red,test\n")
        listing = read_listing(photos / "d.csv")
        assert not listing.entries[0].split
        assert "name it with --split-column split" in caplog.text

    @pytest.mark.parametrize(("name", "mark"), [("d.tsv", "\t"), ("d.csv", ";")])
    def test_separators(self, photos, name, mark):
        path = self.write(photos, f"image{mark}label\nred/0.png{mark}x, y\n", name)
        assert labels(read_listing(path)) == ["x, y"]

    def test_quoted_cells_may_hold_anything(self, photos):
        path = self.write(photos, 'image;label\nred/0.png;"a, b; ""c""\u2028d"\n')
        (entry,) = read_listing(path).entries
        assert entry.label.startswith('a, b; "c"')

    def test_paths_that_cannot_be_followed(self, photos):
        (photos / "loop.png").symlink_to(photos / "loop.png")
        path = self.write(
            photos,
            "image,label\nloop.png,a\n"
            + "".join(f"red/{i}.png,{'ab'[i % 2]}\n" for i in range(12)),
        )
        _, report = check_listing(read_listing(path))
        assert [b.file for b in report.bad_files] == ["loop.png"]

    def test_named_columns_and_splits(self, photos):
        text = "p,c,s\nred/0.png,a,train\nred/1.png,a,Validation\nblue/0.png,b,test\n"
        path = self.write(photos, text)
        listing = read_listing(path, TableColumns("p", "c", "s"))
        assert [e.split for e in listing.entries] == ["train", "val", "test"]

    def test_bad_rows_are_named(self, photos, tmp_path):
        save(tmp_path / "out.png", picture(1))
        text = "image,label\n../out.png,a\nred/0.png,\n,b\nred/1.png,a\n/etc/passwd,a\n"
        listing = read_listing(self.write(photos, text))
        assert [b.reason for b in listing.bad] == [
            f"lies outside {photos} (line 2)",
            "has no label (line 3)",
            "has no image (line 4)",
            f"lies outside {photos} (line 6)",
        ]

    @pytest.mark.parametrize(
        ("text", "columns", "message"),
        [
            ("a,b\n1,2\n", TableColumns(), "none named like 'image'; name it with --image-column"),
            ("image,b\n1,2\n", TableColumns(), "--label-column"),
            ("image,label\n1,2\n", TableColumns(label="lable"), "did you mean 'label'"),
            (
                "image,label,s\na.png,b,maybe\n",
                TableColumns(split="s"),
                "split 'maybe' is not known",
            ),
            ("image,label,s\na.png,b,test\n", TableColumns(split="s"), "says train"),
            ("image,label\n", TableColumns(), "no rows"),
            ("", TableColumns(), "is empty"),
            ('image,label\n"a.png,b\n', TableColumns(), "well-formed"),
            ("image,image,label\na,b,c\n", TableColumns(image="image"), "several columns 'image'"),
        ],
    )
    def test_tables_that_are_none(self, photos, text, columns, message):
        with pytest.raises(TltoolError, match=message):
            read_listing(self.write(photos, text), columns)

    def test_not_utf8(self, photos):
        (photos / "d.csv").write_bytes("image,label\nä.png,b\n".encode("latin-1"))
        with pytest.raises(TltoolError, match="is not UTF-8"):
            read_listing(photos / "d.csv")


class TestImageFiles:
    def test_files_folders_and_patterns(self, photos, monkeypatch):
        monkeypatch.chdir(photos)
        files, bad = image_files(["red/0.png", "blue", "green/1*.png"])
        assert [str(f) for f in files[:1]] == ["red/0.png"]
        assert len(files) == 1 + 12 + 3
        assert bad == []

    def test_nothing_there(self, photos):
        with pytest.raises(TltoolError, match="does not exist"):
            image_files([photos / "nothing.png"])
        (photos / "empty").mkdir()
        with pytest.raises(TltoolError, match="no image file"):
            image_files([photos / "empty"])


@pytest.fixture(scope="module")
def prepared_tfds(tmp_path_factory):
    import tensorflow_datasets as tfds

    class TinyPhotos(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {"train": self._examples(8, 0), "test": self._examples(4, 100)}

        def _examples(self, n, start):
            for i in range(n):
                yield i, {"image": picture(start + i), "label": i % 2}

        _generate_examples = _examples

    folder = tmp_path_factory.mktemp("tfds")
    builder = TinyPhotos(data_dir=folder)
    builder.download_and_prepare()
    return folder


class TestTfds:
    """With a data set that lives on this disk: the real loading code, no network."""

    def test_images_and_splits(self, prepared_tfds, monkeypatch):
        import tensorflow_datasets as tfds

        monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(prepared_tfds))
        real = tfds.builder
        monkeypatch.setattr(tfds, "builder", lambda name: real(name, data_dir=prepared_tfds))
        for data in ("tfds:tiny_photos", "tfds:tiny_photos:1.0.0"):
            listing = read_listing(data)
            assert labels(listing) == ["cat", "dog"]
            assert [e.split for e in listing.entries] == ["train"] * 8 + ["test"] * 4
        from tltool.data import read_image

        first = next(e for e in listing.entries if e.split == "train" and e.label == "cat")
        pixels = np.asarray(read_image(first.path.read_bytes()))
        assert any(np.array_equal(pixels, picture(i)) for i in range(8))

    @pytest.mark.parametrize("data", ["tfds:", "tfds:no such", "tfds:no_such_data_set_here"])
    def test_unknown_set_is_one_sentence(self, data):
        with pytest.raises(TltoolError) as caught:
            read_listing(data)
        assert "\n" not in str(caught.value)
