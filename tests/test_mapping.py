"""The map: repeatable, right about neighbours, marks and names, and at work in a browser."""

import csv
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import class_folders, features_run, picture, save
from typer.testing import CliRunner

import tltool.layout
from tltool import TltoolError
from tltool.cli import app
from tltool.layout import check_layout, lay_out, neighbours
from tltool.mapping import map_features

NETWORK = {"backbone": "cifar-resnet20"}
NASTY = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "a/b \"double\" 'single' & more",
    "שלום עולם",
    "🦋 papillon",
)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """Photos some of which lie in the wrong folder, a run on them, and their store."""
    root = tmp_path_factory.mktemp("mapping")
    photos = class_folders(root / "photos", n=24)
    for i in range(4):
        save(photos / "green" / f"wrong-{i}.png", picture(7000 + i, hue=0))
    features_run(photos, root / "run", classifier="lda", store=root / "store")
    return photos, root / "run", root / "store"


@pytest.fixture(scope="module")
def mapped(adapted, tmp_path_factory):
    """A map of that run."""
    _, run, store = adapted
    return map_features(run, out=tmp_path_factory.mktemp("map") / "map.html", store=store)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table whose classes have names that a page could mistake for its own."""
    root = tmp_path_factory.mktemp("nasty")
    with (root / "images.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("image", "label"))
        for hue, label in enumerate(NASTY):
            for i in range(4):
                name = f"{hue}{i} & <b>'{i}'.png"
                save(root / name, picture(100 * hue + i, hue=hue))
                rows.writerow((name, label))
    return root / "images.csv"


def blobs(n=40, d=12, seed=0):
    random = np.random.default_rng(seed)
    return (random.normal(size=(n, d)) + 6 * np.eye(d)[np.arange(n) % 2]).astype(np.float32)


class TestLayout:
    def test_a_seed_gives_the_same_map(self):
        features = blobs()
        points = lay_out(features, seed=3)
        assert points.shape == (40, 2) and points.dtype == np.float32
        np.testing.assert_array_equal(points, lay_out(features, seed=3))
        assert not np.array_equal(points, lay_out(features, seed=4))

    def test_like_images_lie_together(self):
        points = lay_out(blobs(60))
        apart = np.linalg.norm(points[:, None] - points, axis=2) + np.eye(60) * 1e9
        assert (apart.argmin(axis=1) % 2 == np.arange(60) % 2).mean() > 0.95

    @pytest.mark.parametrize("n", [2, 3, 4, 5, 7])
    @pytest.mark.parametrize("kind", ["any", "identical", "zero", "one feature", "wide"])
    def test_few_and_identical_images(self, n, kind):
        random = np.random.default_rng(n)
        features = {
            "any": random.normal(size=(n, 9)),
            "identical": np.ones((n, 9)),
            "zero": np.zeros((n, 9)),
            "one feature": random.normal(size=(n, 1)),
            "wide": random.normal(size=(n, 300)),
        }[kind].astype(np.float32)
        points = lay_out(features)
        assert points.shape == (n, 2) and np.isfinite(points).all()
        assert len(np.unique(points, axis=0)) == n

    def test_many_identical_rows(self):
        features = np.vstack([blobs(30), np.repeat(blobs(1, seed=5), 30, axis=0)])
        assert np.isfinite(lay_out(features)).all()

    @pytest.mark.parametrize("n", [0, 1])
    def test_too_few(self, n):
        with pytest.raises(TltoolError, match=f"at least two images, got {n}"):
            lay_out(np.ones((n, 4), np.float32))

    def test_unknown(self):
        with pytest.raises(TltoolError, match=r"Unknown --layout 'tnse': did you mean 'tsne'\?"):
            lay_out(blobs(), "tnse")

    def test_umap_where_it_is_not_installed(self, monkeypatch):
        monkeypatch.setattr(tltool.layout, "find_spec", lambda name: None)
        with pytest.raises(TltoolError, match=r"pip install 'tltool\[umap\]'"):
            lay_out(blobs(), "umap")
        assert check_layout("tsne") == "tsne"  # the other remedy

    @pytest.mark.parametrize("n", [2, 4, 40])
    def test_umap(self, n):
        pytest.importorskip("umap", reason="umap-learn is an extra")
        points = lay_out(blobs(n), "umap")
        assert points.shape == (n, 2) and np.isfinite(points).all()
        np.testing.assert_array_equal(points, lay_out(blobs(n), "umap"))


class TestNeighbours:
    def test_as_by_brute_force(self, monkeypatch):
        features = blobs(50)
        rows = features / np.linalg.norm(features, axis=1, keepdims=True)
        cosines = rows @ rows.T
        np.fill_diagonal(cosines, -np.inf)
        expected = np.argsort(-cosines, axis=1, kind="stable")[:, :6]
        np.testing.assert_array_equal(neighbours(features, 6), expected)
        monkeypatch.setattr(tltool.layout, "_BLOCK", 7 * 50)  # several blocks, the last not full
        np.testing.assert_array_equal(neighbours(features, 6), expected)

    def test_of_equals_the_first(self):
        found = neighbours(np.ones((5, 3), np.float32), 2)
        assert found.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]

    def test_no_more_than_there_are(self):
        assert neighbours(blobs(3), 8).shape == (3, 2)
        assert neighbours(blobs(1), 8).shape == (1, 0)
        with pytest.raises(TltoolError, match="k must be a whole number"):
            neighbours(blobs(3), 0)


class Page(HTMLParser):
    """Collects tags, addresses, texts and the data of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.addresses, self.texts, self.scripts = [], [], [], []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        self.addresses += [values[a] for a in ("src", "href", "data", "action") if a in values]

    def handle_data(self, text):
        (self.scripts if self.tags and self.tags[-1] == "script" else self.texts).append(text)

    @property
    def data(self):
        return json.loads(self.scripts[0])


class TestMapOfRun:
    def test_marks(self, adapted, mapped):
        run = tltool.Run(adapted[1])
        said = run.tested()
        wrong = {
            content
            for content, target, p in zip(
                said.hashes, said.targets, said.probabilities, strict=True
            )
            if p.argmax() != target
        }
        files = {row["file"] for row in run.images() if row["sha256"] in wrong}
        assert files and {image.file for image in mapped.mistakes} == files
        suspects = {image.file: image.suggested for image in mapped.suspects}
        assert sum(suspects.get(f"green/wrong-{i}.png") == "red" for i in range(4)) >= 2
        margins = [image.margin for image in mapped.suspects]
        assert margins == sorted(margins, reverse=True)

    def test_the_page_says_the_same(self, adapted, mapped):
        page = Page(mapped.page)
        data = page.data
        rows = tltool.Run(adapted[1]).images()
        assert data["files"] == [row["file"] for row in rows]
        assert [data["labels"][c] for c in data["label"]] == [row["label"] for row in rows]
        assert data["split"] == [row["split"] for row in rows]
        assert sum(data["mistake"]) == len(mapped.mistakes)
        assert all(c >= 0 for c in data["predicted"])  # tested or held out, all of them
        assert sum(c >= 0 for c in data["suggested"]) == len(mapped.suspects)
        assert np.shape(data["neighbours"]) == (len(rows), 8)
        points = np.array(data["points"])
        assert points.min() == 0 and points.max() == 1
        assert data["missing"] == []
        for image in (*mapped.mistakes, *mapped.suspects):  # in words, too
            assert image.file in page.texts

    def test_nothing_is_fetched(self, mapped):
        page = Page(mapped.page)
        assert set(page.addresses) <= {"data:,", "#main"}
        text = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", mapped.page.read_text("utf-8"))
        assert not re.search(r"https?:|url\(|@import|fetch\(|innerHTML", text)
        assert "default-src 'none'" in text

    def test_images_that_are_gone(self, adapted, tmp_path):
        photos, run, store = adapted
        away = photos.rename(photos.with_name("away"))
        try:
            done = map_features(run, out=tmp_path / "map.html", store=store)
        finally:
            away.rename(photos)
        assert len(Page(done.page).data["missing"]) == done.n_images
        assert "no longer are where they were" in done.notes[-1]

    def test_images_that_have_changed(self, adapted, tmp_path):
        photos, run, store = adapted
        one = sorted(photos.glob("*/*.png"))[0]
        before = one.read_bytes()
        one.write_bytes(sorted(photos.glob("*/*.png"))[-1].read_bytes())
        try:
            done = map_features(run, out=tmp_path / "map.html", store=store)
        finally:
            one.write_bytes(before)
        assert len(Page(done.page).data["missing"]) == 1

    def test_an_ensemble_is_refused(self, adapted, tmp_path):
        _, run, store = adapted
        shutil.copytree(run, tmp_path / "run")
        facts = json.loads((run / "run.json").read_text())
        facts["members"] = [{"run": str(run)}]
        (tmp_path / "run" / "run.json").write_text(json.dumps(facts))
        out = tmp_path / "map.html"
        with pytest.raises(TltoolError, match=r"is an ensemble.*name another run") as refused:
            map_features(tmp_path / "run", out=out, store=store)
        named = str(refused.value).partition("such as ")[2].removesuffix(".")
        assert map_features(named, out=out, store=store).page.is_file()

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("backbone", "resnet50"),
            ("tap", "stage2"),
            ("bad_images", "fail"),
            ("label_column", "x"),
        ],
    )
    def test_options_of_data_are_refused(self, adapted, tmp_path, option, value):
        name = "--" + option.replace("_", "-")
        with pytest.raises(TltoolError, match=f"{name} is for DATA.*leave it out"):
            map_features(adapted[1], out=tmp_path / "map.html", **{option: value})


class TestMapOfData:
    def test_a_folder(self, adapted, tmp_path):
        photos, _, store = adapted
        done = map_features(photos, out=tmp_path / "map.html", store=store, **NETWORK)
        assert (done.n_images, done.classes) == (76, ("blue", "green", "red"))
        assert not done.mistakes  # there are no test images
        suspects = {image.file: image.suggested for image in done.suspects}
        assert sum(suspects.get(f"green/wrong-{i}.png") == "red" for i in range(4)) >= 2
        assert set(done.seconds) >= {"features", "layout", "thumbnails"}
        again = map_features(photos, out=tmp_path / "again.html", store=store, **NETWORK)
        assert again.page.read_bytes() == done.page.read_bytes()

    def test_given_splits_are_told_and_tested(self, tmp_path):
        for split, start in (("train", 0), ("test", 50)):
            class_folders(tmp_path / "data" / split, n=5, start=start)
        save(tmp_path / "data" / "test" / "green" / "wrong.png", picture(999, hue=0))
        given = {"out": tmp_path / "map.html", "store": tmp_path / "store", **NETWORK}
        done = map_features(tmp_path / "data", **given)
        assert "test/green/wrong.png" in {image.file for image in done.mistakes}
        assert {image.split for image in done.mistakes} == {"test"}

    def test_two_images_of_one_class(self, tmp_path):
        class_folders(tmp_path / "data", ("only",), n=2)
        given = {"out": tmp_path / "map.html", "store": tmp_path / "store", **NETWORK}
        done = map_features(tmp_path / "data", **given)
        assert done.n_images == 2 and not done.suspects
        assert any("takes two classes, and two images of each" in note for note in done.notes)

    def test_copies_under_several_labels(self, tmp_path):
        photos = class_folders(tmp_path / "data", ("one", "other"), n=3)
        shutil.rmtree(photos / "other")
        shutil.copytree(photos / "one", photos / "other")
        (photos / "other" / "broken.png").write_bytes(b"")
        given = {"out": tmp_path / "map.html", "store": tmp_path / "store", **NETWORK}
        with pytest.raises(TltoolError, match="more than one in ten"):
            map_features(photos, **given)
        (photos / "other" / "broken.png").unlink()
        done = map_features(photos, **given)
        assert done.n_images == 6

    @pytest.mark.parametrize(
        ("n", "message"),
        [(0, "is empty; expected a folder for each class"), (1, "a map needs two at least")],
    )
    def test_too_few(self, tmp_path, n, message):
        (tmp_path / "data" / "cat").mkdir(parents=True)
        (tmp_path / "data" / "dog").mkdir()
        for i in range(n):
            save(tmp_path / "data" / "cat" / f"{i}.png", picture(i))
        with pytest.raises(TltoolError, match=message):
            map_features(tmp_path / "data", out=tmp_path / "m.html", store=tmp_path / "s")
        assert not (tmp_path / "m.html").exists()

    def test_names_are_shown_and_never_run(self, table, tmp_path):
        given = {"out": tmp_path / "map.html", "store": tmp_path / "store", **NETWORK}
        done = map_features(table, **given)
        page = Page(done.page)
        assert sorted(page.data["labels"]) == sorted(NASTY)
        assert page.tags.count("script") == 2
        assert "img" not in page.tags
        assert set(NASTY) <= set(page.texts)


class TestPlace:
    def test_a_page_that_is_there_is_kept(self, adapted, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        _, run, store = adapted
        given = ["map", str(run), "--store", str(store)]
        done = CliRunner().invoke(app, given)
        assert done.exit_code == 0, done.output
        page = tmp_path / "map-run.html"
        assert "map-run.html: 76 images of 3 classes" in done.stdout
        page.write_text("mine")
        refused = CliRunner().invoke(app, given)
        assert refused.exit_code == 1
        assert "exists; name another with --out, or add --force" in refused.output
        assert page.read_text() == "mine"
        forced = CliRunner().invoke(app, [*given, "--force", "--json"])
        assert forced.exit_code == 0, forced.output
        told = json.loads(forced.stdout)
        assert told["page"] == "map-run.html" and told["mistakes"][0]["label"]
        assert page.read_text().startswith("<!doctype html>")

    def test_it_is_looked_at_before_anything_else(self, tmp_path):
        (tmp_path / "map.html").write_text("mine")
        with pytest.raises(TltoolError, match="exists; name another"):
            map_features(tmp_path / "no such data", out=tmp_path / "map.html")

    @pytest.mark.parametrize(
        ("out", "message"),
        [("map.png", "is an .html file"), ("no/map.html", "does not exist"), (".html", None)],
    )
    def test_names_that_cannot_be(self, tmp_path, out, message):
        if message is None:
            out, message = "folder.html", "is a folder"
            (tmp_path / out).mkdir()
        with pytest.raises(TltoolError, match=message):
            map_features("photos", out=tmp_path / out)

    def test_unknown_layout(self, tmp_path):
        with pytest.raises(TltoolError, match="Unknown --layout 'pca'"):
            map_features("photos", out=tmp_path / "map.html", layout="pca")
        assert CliRunner().invoke(app, ["map", "photos", "--layout", "pca"]).exit_code == 2

    def test_no_such_data(self, tmp_path):
        with pytest.raises(TltoolError, match="does not exist"):
            map_features(tmp_path / "photos", out=tmp_path / "map.html")


def test_help_loads_nothing_heavy():
    heavy = {"sklearn", "umap", "tensorflow", "keras"}
    code = (
        f"import sys, tltool.mapping\nfound = {heavy!r} & set(sys.modules)\nassert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)

# Every pointer event comes from a real place on the canvas, found by trying.
TOOLS = """
const seen = {};
const $ = (id) => document.getElementById(id);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
function point(type, x, y) {
  const box = $("map").getBoundingClientRect();
  const at = { clientX: box.left + x, clientY: box.top + y, pointerType: "mouse", pointerId: 1 };
  $("map").dispatchEvent(new PointerEvent(type, at));
}
function findImage() {
  for (let y = 4; y < $("map").clientHeight; y += 6)
    for (let x = 4; x < $("map").clientWidth; x += 6) {
      point("pointermove", x, y);
      if (!$("tip").hidden) return [x, y];
    }
  return null;
}
$("map").setPointerCapture = () => {};
const type = (text) => { $("search").value = text; $("search").dispatchEvent(new Event("input")); };
const key = (on, k) =>
  $(on).dispatchEvent(new KeyboardEvent("keydown", { key: k, cancelable: true }));
function wheel(deltaY) {
  const event = new WheelEvent("wheel", { deltaY, clientX: 400, clientY: 400, cancelable: true });
  $("map").dispatchEvent(event);
  return event.defaultPrevented;
}
const listed = (list) => [...document.querySelectorAll(list + " button")].map((b) => b.textContent);
const colours = () => {
  const copy = Object.assign(document.createElement("canvas"), { width: 400, height: 400 });
  const on = copy.getContext("2d", { willReadFrequently: true });
  on.drawImage($("map"), 0, 0, 400, 400);
  const pixels = on.getImageData(0, 0, 400, 400).data;
  const found = new Set();
  for (let i = 0; i < pixels.length; i += 4) found.add(pixels.slice(i, i + 3).join());
  return found.size;
};
"""


def in_browser(page, script, tmp_path):
    """What a script that works the page wrote into `seen`; the console must stay empty."""
    copy = tmp_path / "copy.html"
    done = "document.body.append(Object.assign(document.createElement('pre'), "
    done += "{ id: 'seen', textContent: JSON.stringify(seen) }));"
    drawn = "await wait(300); for (let i = 0; i < 20 && colours() < 3; i++) await wait(100);"
    worked = f"<script>{TOOLS}(async () => {{ {drawn} {script} {done} }})();</script>"
    copy.write_text(page.read_text("utf-8").replace("</body>", worked + "</body>"), "utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=5000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,1000", "--dump-dom"]
    ran = subprocess.run(
        [*command, copy.as_uri()], capture_output=True, text=True, encoding="utf-8", timeout=60
    )
    said = [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
    assert not said, said
    found = re.search(r'<pre id="seen">(.*?)</pre>', ran.stdout, re.DOTALL)
    assert found, ran.stderr[-2000:]
    parser = HTMLParser()
    texts = []
    parser.handle_data = texts.append
    parser.feed(found[1])
    return json.loads("".join(texts))


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
class TestInBrowser:
    def test_hover_click_search_zoom_and_classes(self, mapped, tmp_path):
        seen = in_browser(
            mapped.page,
            """
            seen.colours = colours();
            const at = findImage();
            seen.tip = $("tip").textContent;
            point("pointerdown", ...at); point("pointerup", ...at);
            seen.chosen = $("chosen").textContent;
            seen.near = listed("#chosen");
            document.querySelector("#chosen button").click();
            seen.next = document.querySelector("#chosen dd").textContent;
            seen.focus = document.activeElement.textContent;
            type("WRONG-");
            seen.told = $("told").textContent;
            seen.found = listed("#found");
            type("no such image");
            seen.none = $("told").textContent;
            type("blue");
            key("search", "Enter");
            seen.entered = document.querySelector("#chosen dd").textContent;
            type(""); for (const k of ["+", "+", "ArrowLeft", "-", "0"]) key("map", k);
            seen.zoomed = wheel(-300);
            wheel(9000);
            seen.scrolls = !wheel(9000);
            $("none").click(); await wait(200);
            seen.few = colours();
            $("whole").click(); $("search").focus();
            document.querySelector("[data-image] button").click();
            seen.byList = document.querySelector("#chosen dd").textContent;
            seen.legend = [...document.querySelectorAll("#classes bdi")].map((b) => b.textContent);
            """,
            tmp_path,
        )
        data = Page(mapped.page).data
        assert seen["colours"] > 20  # thumbnails, not an empty canvas
        assert seen["few"] < seen["colours"] / 2  # the chosen image alone
        assert seen["tip"].startswith("File")
        shown = next(f for f in data["files"] if f"File{f}Class" in seen["tip"])
        assert f"File{shown}Class" in seen["chosen"]
        near = [data["files"][i] for i in data["neighbours"][data["files"].index(shown)]]
        assert len(seen["near"]) == 8
        assert all(text.endswith(file) for text, file in zip(seen["near"], near, strict=True))
        assert seen["next"] == near[0]
        assert seen["focus"] == "Chosen image"
        assert seen["told"] == "4 of 76 images match."
        assert [f"greengreen/wrong-{i}.png" for i in range(4)] == seen["found"]
        assert seen["none"] == "No file and no class matches."
        assert seen["entered"].startswith("blue/")
        assert seen["zoomed"] and seen["scrolls"]
        assert seen["byList"] == mapped.mistakes[0].file
        assert seen["legend"] == ["blue", "green", "red"]

    def test_names_in_the_page(self, table, tmp_path):
        given = {"out": tmp_path / "map.html", "store": tmp_path / "store", **NETWORK}
        done = map_features(table, **given)
        seen = in_browser(
            done.page,
            """
            seen.legend = [...document.querySelectorAll("#classes bdi")].map((b) => b.textContent);
            type("<script>");
            seen.found = listed("#found");
            document.querySelector("#found button").click();
            seen.chosen = [...document.querySelectorAll("#chosen dd")].map((d) => d.textContent);
            seen.scripts = document.scripts.length;
            seen.pictures = document.images.length;
            seen.wide = document.documentElement.scrollWidth <= innerWidth;
            """,
            tmp_path,
        )
        assert seen["legend"] == list(done.classes)
        assert sorted(done.classes) == sorted(NASTY)
        assert len(seen["found"]) == 4
        assert NASTY[0] in seen["chosen"]
        assert seen["scripts"] == 3  # the page's two and the test's
        assert seen["pictures"] == 0
        assert seen["wide"]
