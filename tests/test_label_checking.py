"""Labels in doubt, found, shown, corrected, and the corrections taken back."""

import csv
import html
import json
import re
import shutil
from urllib.parse import unquote

import numpy as np
import pytest
from conftest import class_folders, features_run, picture, save
from PIL import Image
from test_checks import textured
from test_report import Page, in_browser, needs_chromium
from typer.testing import CliRunner

import tltool
from tltool import Run, TltoolError
from tltool.cli import app
from tltool.data import LEFT_OUT, check_listing, read_corrections, read_listing, split_dataset
from tltool.ensembles.growing import GrownSettings, _facts
from tltool.layer_atlas import _of_run

# File, true class: as `swapped` mixes them up.
SWAPPED = {
    "green/was red.png": "red",
    "red/was blue.png": "blue",
    "blue/was green.png": "green",
}
GIVEN = {"backbone": "cifar-resnet20"}
NAMES = ['<script>alert("1")</script>, a', '"line"\nbreak \'b', "\u05d0\u05d1 \U0001f98b"]


def cli(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows, delimiter=","):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def corrections(path, given):
    """A file that corrects these."""
    return write_rows(path, [{"file": f, "correction": c} for f, c in given.items()])


@pytest.fixture(scope="module")
def swapped(tmp_path_factory):
    """Three easy classes of which three images lie in a wrong folder, and their store."""
    root = tmp_path_factory.mktemp("labels")
    data = class_folders(root / "photos", n=30)
    for i, (file, true) in enumerate(SWAPPED.items()):
        (data / true / f"{i}.png").rename(data / file)
    return data, root / "store"


@pytest.fixture(scope="module")
def checked(swapped):
    data, store = swapped
    return tltool.check_labels(data, out=data.parent / "doubts.html", store=store, **GIVEN)


class TestCheck:
    def test_wrong_labels_are_found_first(self, checked):
        first = {one.file: one.suggested for one in checked.doubted[: len(SWAPPED)]}
        assert first == SWAPPED
        assert len(checked.doubted) <= len(SWAPPED) + 2
        assert checked.images == 90
        assert checked.accuracy == pytest.approx(1 - len(SWAPPED) / 90, abs=0.03)
        for one in checked.doubted[: len(SWAPPED)]:
            assert one.given == one.file.partition("/")[0] and 0.5 < one.probability <= 1

    def test_page_and_table_say_the_same(self, checked):
        text = checked.page.read_text("utf-8")
        page = Page(text)
        assert len(page.images) == len(checked.doubted) == page.tags.count("select")
        assert all(image["src"].startswith("data:image/jpeg") for image in page.images)
        assert all(address.startswith(("data:", "#")) for address in page.addresses)
        rows = rows_of(checked.corrections)
        assert list(rows[0]) == ["file", "label", "suggested", "probability", "correction"]
        assert checked.corrections == checked.page.with_suffix(".csv")
        for row, one in zip(rows, checked.doubted, strict=True):
            assert (row["file"], row["label"], row["suggested"]) == (
                one.file,
                one.given,
                one.suggested,
            )
            assert float(row["probability"]) == pytest.approx(one.probability, abs=1e-4)
            assert row["correction"] == ""
            assert f"labelled <b>{one.given}</b>, looks like <b>{one.suggested}</b>" in text

    def test_an_unfilled_table_corrects_nothing(self, swapped, checked):
        data, _ = swapped
        assert read_corrections(checked.corrections) == {}
        assert read_listing(data, relabel=checked.corrections) == read_listing(data)

    @pytest.mark.parametrize("kept", ["page.html", "page.csv"])
    def test_what_is_there_is_kept_unless_forced(self, swapped, tmp_path, kept):
        data, store = swapped
        (tmp_path / kept).write_text("mine")
        given = {"out": tmp_path / "page.html", "store": store, **GIVEN}
        with pytest.raises(TltoolError, match=rf"{kept} exists; .* --force"):
            tltool.check_labels(data, **given)
        assert [p.name for p in tmp_path.iterdir()] == [kept]
        assert (tmp_path / kept).read_text() == "mine"
        tltool.check_labels(data, force=True, **given)
        assert (tmp_path / kept).read_text() != "mine"

    def test_corrected_labels_are_doubted_no_more(self, swapped, tmp_path):
        data, store = swapped
        mended = corrections(tmp_path / "mended.csv", SWAPPED)
        out = tmp_path / "page.html"
        found = tltool.check_labels(data, out=out, store=store, relabel=mended, **GIVEN)
        assert not {one.file for one in found.doubted} & set(SWAPPED)

    def test_given_splits_are_told_and_test_images_are_judged_too(self, swapped, tmp_path):
        data, store = swapped
        files = sorted(data.rglob("*.png"))
        rows = [
            {
                "image": str(file.relative_to(data)),
                "label": file.parent.name,
                "split": "test" if "was" in file.name else ("val" if i % 5 == 0 else "train"),
            }
            for i, file in enumerate(files)
        ]
        table = write_rows(data / "table.csv", rows)
        out = tmp_path / "page.html"
        found = tltool.check_labels(table, out=out, store=store, split_column="split", **GIVEN)
        assert found.images == 90
        assert {one.file: one.split for one in found.doubted[:3]} == dict.fromkeys(SWAPPED, "test")
        assert {one.split for one in found.doubted[3:]} <= {"train", "val"}
        table.unlink()

    def test_a_single_image_of_a_class_is_not_judged(self, swapped, tmp_path):
        """No fit that judges it has seen its class; nor where a copy of it is all there is."""
        data, store = swapped
        data = shutil.copytree(data, tmp_path / "photos")
        only = save(data / "rare" / "only.png", picture(4321, hue=1))
        shutil.copy(only, data / "rare" / "copy.png")
        found = tltool.check_labels(data, out=tmp_path / "page.html", store=store, **GIVEN)
        assert {one.file for one in found.doubted[:3]} == set(SWAPPED)
        assert all(one.given != "rare" for one in found.doubted)
        assert found.images == 92

    def test_classes_of_one_image_each_are_refused(self, tmp_path):
        data = class_folders(tmp_path / "photos", n=1)
        with pytest.raises(TltoolError, match="a single image of each class"):
            tltool.check_labels(data, out=tmp_path / "p.html", store=tmp_path / "s", **GIVEN)
        assert not (tmp_path / "p.html").exists()

    def test_command(self, swapped, tmp_path, monkeypatch):
        data, store = swapped
        monkeypatch.chdir(tmp_path)
        given = ["check", data, "--labels", "--store", store, "--backbone", "cifar-resnet20"]
        done = cli(*given, "--json")
        assert done.exit_code == 0, done.output
        printed = json.loads(done.stdout)
        assert printed["page"] == "labels-photos.html"
        assert printed["corrections"] == "labels-photos.csv"
        assert [one["file"] for one in printed["doubted"]][:3] == [
            row["file"] for row in rows_of(tmp_path / "labels-photos.csv")
        ][:3]
        again = cli(*given)
        assert again.exit_code == 1 and "labels-photos.html exists" in again.output
        shown = cli(*given, "--force")
        assert shown.exit_code == 0 and "green/was red.png" in shown.stdout
        for option in (["--out", "p.html"], ["--force"], ["--relabel", "c.csv"]):
            refused = cli("check", data, *option)
            assert refused.exit_code == 1
            assert f"{option[0]} is for --labels" in refused.output

    def test_corrections_that_cannot_be_read_are_put_aside(self, swapped, tmp_path, caplog):
        """Somebody has made them by hand."""
        data, store = swapped
        page, table = tmp_path / "p.html", tmp_path / "p.csv"
        made = "file,correction\nred/1.png,Füchse\n".encode("cp1252")
        table.write_bytes(made)
        tltool.check_labels(data, out=page, store=store, force=True, **GIVEN)
        assert (tmp_path / "p.csv.bak").read_bytes() == made
        table.write_bytes(made[::-1])
        tltool.check_labels(data, out=page, store=store, force=True, **GIVEN)
        assert (tmp_path / "p.csv.bak").read_bytes() == made
        assert (tmp_path / "p.csv.bak1").read_bytes() == made[::-1]
        assert "was put aside as p.csv.bak" in caplog.text
        assert read_corrections(table) == {}

    def test_a_page_is_an_html_file(self, swapped, tmp_path):
        with pytest.raises(TltoolError, match=r"a page is an \.html file"):
            tltool.check_labels(swapped[0], out=tmp_path / "p.csv", **GIVEN)


@pytest.fixture(scope="module")
def filled(swapped, checked):
    """The table as somebody has filled it: what is suggested, another class, out, as it is."""
    data, _ = swapped
    rows = rows_of(checked.corrections)
    by_file = {row["file"]: row for row in rows}
    by_file["green/was red.png"]["correction"] = "red"
    by_file["red/was blue.png"]["correction"] = "green"
    by_file["blue/was green.png"]["correction"] = LEFT_OUT
    return write_rows(data.parent / "filled.csv", rows)


@pytest.fixture(scope="module")
def relabelled_run(swapped, filled):
    data, store = swapped
    out = data.parent / "run"
    command = ["adapt", data, "--relabel", filled, "--out", out, "--store", store, "--quiet"]
    done = cli(*command, "--backbone", "cifar-resnet20", "--strategy", "off-the-shelf")
    assert done.exit_code == 0, done.output
    return out


class TestRuns:
    def test_images_have_the_corrected_labels(self, swapped, filled, relabelled_run):
        labels = {row["file"]: row["label"] for row in Run(relabelled_run).images()}
        assert labels["green/was red.png"] == "red"
        assert labels["red/was blue.png"] == "green"
        assert "blue/was green.png" not in labels
        assert len(labels) == 89
        others = set(labels) - set(SWAPPED)
        assert all(labels[file] == file.partition("/")[0] for file in others)
        facts = json.loads((relabelled_run / "run.json").read_text())
        assert facts["check"]["classes"] == {"blue": 29, "green": 30, "red": 30}
        assert Run(relabelled_run).relabel == str(filled)
        _, chosen = _of_run(Run(relabelled_run), {})  # of an atlas of it
        assert chosen.relabel == str(filled)

    def test_other_corrections_are_another_run(self, swapped, filled, relabelled_run, tmp_path):
        """It is what the file says that counts, not where it is."""
        data, store = swapped
        noted = json.loads((relabelled_run / "run.json").read_text())["settings"]
        assert re.fullmatch("[0-9a-f]{64}", noted["relabel"])
        unfinished = tmp_path / "run"
        unfinished.mkdir()
        (unfinished / "run.json").write_text(
            json.dumps({"format": 1, "state": "running", "settings": noted})
        )
        given = {"store": store, "test": 0.2, "classifier": "auto"}
        other = corrections(tmp_path / "other.csv", {"green/was red.png": "red"})
        for relabel in (other, None):
            with pytest.raises(TltoolError, match="unfinished run with other settings"):
                features_run(data, unfinished, relabel=relabel, **given)
        copied = shutil.copy(filled, tmp_path / "copied.csv")
        result = features_run(data, unfinished, relabel=copied, **given)
        assert Run(result.run).facts["settings"] == noted

    def test_resume_goes_on_with_them_from_any_folder(
        self, swapped, filled, relabelled_run, tmp_path, monkeypatch
    ):
        from tltool import workflow

        data, _ = swapped
        monkeypatch.chdir(data.parent)
        with monkeypatch.context() as broken:
            broken.setattr(workflow, "_record", lambda *_, **__: pytest.fail("no power"))
            with pytest.raises(pytest.fail.Exception):
                features_run(
                    "photos", tmp_path / "run", relabel="filled.csv", store="store", test=0.2
                )
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        result = tltool.resume(tmp_path / "run")
        assert Run(result.run).images() == Run(relabelled_run).images()

    def test_resume_refuses_corrections_that_changed(self, swapped, filled, tmp_path, monkeypatch):
        from tltool import workflow

        data, store = swapped
        mine = shutil.copy(filled, tmp_path / "mine.csv")
        with monkeypatch.context() as broken:
            broken.setattr(workflow, "_record", lambda *_, **__: pytest.fail("no power"))
            with pytest.raises(pytest.fail.Exception):
                features_run(data, tmp_path / "run", relabel=mine, store=store)
        corrections(mine, {"green/was red.png": "blue"})
        with pytest.raises(TltoolError, match="unfinished run with other settings"):
            tltool.resume(tmp_path / "run")
        mine.unlink()
        with pytest.raises(TltoolError, match="No such file"):
            tltool.resume(tmp_path / "run")

    def test_evaluate_takes_them(self, swapped, filled, relabelled_run):
        data, store = swapped
        said = {"store": store, "split": "all"}
        mended = tltool.evaluate(relabelled_run, data, relabel=filled, **said)
        as_found = tltool.evaluate(relabelled_run, data, **said)
        assert (mended.n_test, as_found.n_test) == (89, 90)
        accuracy = [one.evaluation.metrics["accuracy"].value for one in (mended, as_found)]
        assert accuracy[0] > accuracy[1]
        done = cli(
            *("evaluate", relabelled_run, data, "--relabel", filled, "--split", "test"),
            *("--json", "--store", store),
        )
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)["metrics"]["accuracy"]["value"]
        finished = Run(relabelled_run).facts["metrics"]["accuracy"]["value"]
        assert told == pytest.approx(finished, abs=1e-4)

    def test_advice_is_on_them(self, swapped, filled, tmp_path):
        data, store = swapped
        left = corrections(tmp_path / "left.csv", {f"red/{i}.png": LEFT_OUT for i in range(20, 30)})
        found = tltool.advise(data, store=store, relabel=left, **GIVEN)
        dataset, _ = check_listing(read_listing(data, relabel=left))
        dataset, _ = split_dataset(dataset, seed=0, test=0.2, val=0.1)
        assert len(dataset.examples) == 80
        assert found.evidence.size.images == len(dataset.of("train", "val"))
        assert json.loads(json.dumps(found.as_json()))["settings"]["relabel"] == str(left)

    def test_an_ensemble_of_such_runs_uses_them(self, swapped, filled, relabelled_run, tmp_path):
        data, store = swapped
        given = {"relabel": filled, "store": store, "test": 0.2, "classifier": "lda"}
        features_run(data, tmp_path / "low", tap="stage2", **given)
        runs = [relabelled_run, tmp_path / "low"]
        tltool.ensemble(runs, out=tmp_path / "both", combine="mean", store=store)
        labels = {row["file"]: row["label"] for row in Run(tmp_path / "both").images()}
        assert labels == {row["file"]: row["label"] for row in Run(relabelled_run).images()}

    @pytest.mark.parametrize("gone", [True, False])
    def test_an_ensemble_says_that_corrections_are_not_what_they_were(
        self, swapped, relabelled_run, tmp_path, gone
    ):
        """Labels that its members were not fitted on would make its figures wrong."""
        data, store = swapped
        runs = []
        for name in ("one", "two"):
            runs.append(shutil.copytree(relabelled_run, tmp_path / name))
            facts = json.loads((runs[-1] / "run.json").read_text())
            facts["begun"]["settings"]["relabel"] = str(tmp_path / "mine.csv")
            (runs[-1] / "run.json").write_text(json.dumps(facts))
        if not gone:
            corrections(tmp_path / "mine.csv", {"green/was red.png": "blue"})
        for where in (None, data):
            with pytest.raises(TltoolError, match=r"mine\.csv, the corrections .* as it was"):
                tltool.ensemble(runs, out=tmp_path / "both", data=where, store=store)

    def test_members_that_are_trained_take_them_from_any_folder(
        self, swapped, filled, tmp_path, monkeypatch
    ):
        data, _ = swapped
        monkeypatch.chdir(data.parent)
        strategies = ("off-the-shelf", "fine-tune")
        settings = {"relabel": "filled.csv", "seed": 0}
        grown = GrownSettings(("cifar-resnet20",), strategies, settings=settings)
        assert {one.settings.relabel for one in grown.plan()} == {str(filled)}
        copied = shutil.copy(filled, tmp_path / "copied.csv")
        other = corrections(tmp_path / "other.csv", {"green/was red.png": "red"})
        same, another = (
            GrownSettings(("cifar-resnet20",), strategies, settings={**settings, "relabel": path})
            for path in (copied, other)
        )
        assert _facts(data, grown) == _facts(data, same) != _facts(data, another)

    def test_a_missing_file_is_told_before_members_are_trained(self, swapped, tmp_path):
        done = cli(
            *("ensemble", swapped[0], "--backbones", "cifar-resnet20", "--members", 2),
            *("--set", f"relabel={tmp_path / 'none.csv'}", "--out", tmp_path / "out"),
        )
        assert done.exit_code == 1
        assert "none.csv: No such file" in done.output and not (tmp_path / "out").exists()


class TestCorrections:
    """Those that a listing takes; no image is opened for it."""

    @pytest.fixture
    def data(self, tmp_path):
        for label in ("tulip", "daisy", " rose "):
            for i in range(3):
                save(tmp_path / "photos" / label / f"{i}.png", np.zeros((8, 8, 3), np.uint8))
        return tmp_path / "photos"

    def labels(self, data, relabel):
        return {entry.name: entry.label for entry in read_listing(data, relabel=relabel).entries}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "file,correction\ntulip/9.png,daisy\n",
                "'tulip/9.png', which is not in .*photos: did",
            ),
            ("file,correction\ntulip/0.png,dasy\n", "no class of .*: did you mean 'daisy'"),
            ("file,correction\ntulip/0.png,fern\n", "no class of .*: known: .*daisy, tulip"),
            ("file,correction\n,daisy\n", "'', which is not in"),
            ("file,label\ntulip/0.png,daisy\n", "no column 'correction', only file, label"),
            ("image,correction\ntulip/0.png,daisy\n", "no column 'file', only image, correction"),
            ("", "no column 'file', only none"),
            (
                "file,correction\ntulip/0.png,daisy\ntulip/0.png,!leave out\n",
                "corrects tulip/0.png twice, to 'daisy' and '!leave out'",
            ),
            (b"file,correction\ntulip/0.png,d\xe9\n", "is no CSV file in UTF-8"),
            ("file,correction\n".encode("utf-16"), "is no CSV file in UTF-8"),
            ('file,correction\ntulip/0.png,"dai\ndaisy/0.png,tulip\n', "is no CSV file in UTF-8"),
            (None, "No such file or directory; expected a CSV file of corrections"),
        ],
    )
    def test_what_is_wrong_is_one_sentence(self, data, tmp_path, text, message):
        path = tmp_path / "c.csv"
        if text is not None:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        done = cli("adapt", data, "--relabel", path, "--out", tmp_path / "run", *OPTIONS)
        assert done.exit_code == 1
        (line,) = done.output.strip().splitlines()
        assert line.startswith("Error: ") and "unforeseen" not in line
        assert re.search(message, line), line
        assert not (tmp_path / "run").exists()

    def test_a_folder_is_no_file(self, data, tmp_path):
        with pytest.raises(TltoolError, match="Is a directory; expected a CSV file"):
            read_listing(data, relabel=tmp_path)

    def test_corrected_twice_to_the_same_is_corrected(self, data, tmp_path):
        path = tmp_path / "c.csv"
        path.write_text("file,correction\ntulip/0.png,daisy\ntulip/0.png,daisy\n")
        assert self.labels(data, path)["tulip/0.png"] == "daisy"

    @pytest.mark.parametrize("delimiter", [",", ";"])
    @pytest.mark.parametrize("start", ["", "\ufeff"])
    def test_as_spreadsheets_save_it(self, data, tmp_path, delimiter, start):
        rows = [
            {"probability": "0,9", "correction": " daisy ", "file": "tulip/0.png", "note": "?"},
            {"probability": "0,8", "correction": " ", "file": "tulip/1.png", "note": ""},
        ]
        path = write_rows(tmp_path / "c.csv", rows, delimiter)
        path.write_bytes((start + path.read_text()).encode())
        expected = self.labels(data, None) | {"tulip/0.png": "daisy"}
        assert self.labels(data, path) == expected

    def test_a_name_may_begin_and_end_with_spaces(self, data, tmp_path):
        path = corrections(tmp_path / "c.csv", {"tulip/0.png": " rose ", "tulip/1.png": "rose"})
        with pytest.raises(TltoolError, match="tulip/1.png to 'rose', which is no class"):
            self.labels(data, path)
        path = corrections(tmp_path / "c.csv", {"tulip/0.png": " rose "})
        assert self.labels(data, path)["tulip/0.png"] == " rose "

    def test_left_out_images_are_not_listed(self, data, tmp_path):
        path = corrections(tmp_path / "c.csv", {"tulip/0.png": LEFT_OUT})
        assert set(self.labels(data, None)) - set(self.labels(data, path)) == {"tulip/0.png"}

    def test_copies_and_near_copies_stay_together(self, tmp_path):
        data = class_folders(tmp_path / "photos", n=6, size=(64, 64))
        shutil.copy(data / "red" / "1.png", data / "green" / "copy.png")
        original = save(data / "red" / "texture.png", textured(0))
        Image.open(original).save(data / "green" / "near.jpg", quality=60)
        _, before = check_listing(read_listing(data))
        assert before.contradictions == (("green/copy.png", "red/1.png"),)
        assert before.n_images == 19
        given = {"green/copy.png": "red", "green/near.jpg": "red"}
        mended = corrections(tmp_path / "c.csv", given)
        dataset, after = check_listing(read_listing(data, relabel=mended))
        assert after.contradictions == () and after.n_images == 21
        assert {"red/1.png", "green/copy.png"} in map(set, after.duplicates)
        assert {"green/near.jpg", "red/texture.png"} in map(set, after.near_duplicates)
        for seed in range(5):
            split, _ = split_dataset(dataset, seed=seed, test=0.3, val=0.2)
            where = {e.name: (e.split, e.label) for e in split.examples}
            assert where["green/near.jpg"] == where["red/texture.png"]
            assert where["green/copy.png"] == where["red/1.png"]


OPTIONS = ["--backbone", "cifar-resnet20", "--strategy", "off-the-shelf", "--quiet"]


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """The same three classes under names that neither a table nor a page may take at their word."""
    root = tmp_path_factory.mktemp("nasty")
    rows = []
    for hue, label in enumerate(NAMES):
        for i in range(30):
            name = f'files/{hue}, "{i}" <b>\u202e{label[-2:]}.png'
            save(root / name, picture(1000 * hue + i, hue=hue))
            wrong = NAMES[(hue + 1) % 3] if i == 1 else label
            rows.append({"image": name, "label": wrong})
    table = write_rows(root / "table.csv", rows)
    given = {"out": root / "labels.html", "store": root / "store", **GIVEN}
    return table, tltool.check_labels(table, **given)


def true_class(file):
    return NAMES[int(file.split("/")[1][0])].replace("\n", "\\x0a")


class TestNastyNames:
    def test_they_come_back_as_they_were(self, nasty, tmp_path):
        table, found = nasty
        assert {one.file: one.suggested for one in found.doubted[:3]} == {
            one.file: true_class(one.file) for one in found.doubted[:3]
        }
        rows = rows_of(found.corrections)
        for row in rows:
            row["correction"] = row["suggested"]
        filled = write_rows(tmp_path / "c.csv", rows)
        listing = read_listing(table, relabel=filled)
        labels = {entry.name: entry.label for entry in listing.entries}
        assert all(labels[one.file] == one.suggested for one in found.doubted)
        run = features_run(table, tmp_path / "run", relabel=filled, store=table.parent / "store")
        assert {row["file"]: row["label"] for row in Run(run.run).images()} == labels

    def test_the_page_escapes_them(self, nasty):
        _, found = nasty
        text = found.page.read_text("utf-8")
        assert "<script>alert" not in text and "<b>\u202e" not in text
        for one in found.doubted:
            assert f"<b>{html.escape(one.suggested, quote=False)}</b>".replace('"', "&#34;") in (
                text.replace("&#39;", "'")
            )

    @needs_chromium
    def test_what_is_chosen_on_the_page_is_saved(self, nasty, tmp_path):
        table, found = nasty
        script = """
        const saved = {};
        URL.createObjectURL = (blob) => { saved.blob = blob; return "blob:x"; };
        HTMLAnchorElement.prototype.click = function () { saved.name = this.download; };
        const choose = (row, value) => {
          const select = document.querySelector(`select[data-row="${row}"]`);
          select.dispatchEvent(new Event("focus"));
          select.value = value;
          select.dispatchEvent(new Event("change"));
        };
        const of = (row, n) => document.querySelector(`select[data-row="${row}"]`).options[n].value;
        choose(0, of(0, 1));
        choose(1, "");
        choose(1, of(1, 3));
        choose(2, "!leave out");
        document.getElementById("save").click();
        saved.blob.text().then((text) => {
          const told = { name: saved.name, count: document.getElementById("count").textContent };
          const out = document.createElement("pre");
          out.id = "told";
          out.textContent = encodeURIComponent(JSON.stringify({ ...told, text }));
          document.body.append(out);
        });
        """
        dom, said = in_browser(found.page, tmp_path, script)
        assert said == []
        told = json.loads(unquote(re.search('<pre id="told">(.*?)</pre>', dom)[1]))
        assert told["name"] == "corrections-table.csv"
        assert told["count"] == "3 corrected"
        saved = tmp_path / "saved.csv"
        saved.write_bytes(told["text"].encode())
        first, second, third = found.doubted[:3]
        (another,) = {name.replace("\n", "\\x0a") for name in NAMES} - {
            second.given,
            second.suggested,
        }
        chosen = {first.file: first.suggested, second.file: another, third.file: LEFT_OUT}
        assert read_corrections(saved) == chosen
        labels = {entry.name: entry.label for entry in read_listing(table, relabel=saved).entries}
        assert [labels.get(one.file) for one in (first, second, third)] == [
            first.suggested,
            another,
            None,
        ]

    @needs_chromium
    def test_nothing_is_corrected_unasked(self, nasty, tmp_path):
        _, found = nasty
        script = """
        const select = document.querySelector("select");
        const pick = (n) => {
          select.selectedIndex = n;
          select.dispatchEvent(new Event("change"));
        };
        pick(1);
        pick(0);
        URL.createObjectURL = (blob) => { blob.text().then((t) => { document.title = t; }); };
        HTMLAnchorElement.prototype.click = () => {};
        document.getElementById("save").click();
        """
        dom, said = in_browser(found.page, tmp_path, script)
        assert said == []
        text = html.unescape(re.search("<title>(.*?)</title>", dom, re.DOTALL)[1])
        assert text.startswith("file,label,suggested,correction\n")
        assert all(line.endswith(",") for line in text.strip().splitlines()[1:])
        assert ">none yet<" in dom


def test_nothing_in_doubt_is_a_page_too(tmp_path):
    data = class_folders(tmp_path / "photos", n=12)
    given = {"out": tmp_path / "p.html", "store": tmp_path / "store"}
    first = tltool.check_labels(data, **given, **GIVEN)
    rows = {one.file: LEFT_OUT for one in first.doubted}
    if rows:
        given |= {"relabel": corrections(tmp_path / "c.csv", rows), "force": True}
        first = tltool.check_labels(data, **given, **GIVEN)
    assert first.doubted == ()
    text = first.page.read_text("utf-8")
    assert "0 of 3" in text and "<select" not in text
    assert [*csv.reader(first.corrections.open())] == [
        ["file", "label", "suggested", "probability", "correction"]
    ]
