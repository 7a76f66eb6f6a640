"""The report: whole, fetching nothing, and safe from what files are called."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import class_folders, features_run, picture, save
from typer.testing import CliRunner

import tltool
from tltool.cli import app
from tltool.report import advice
from tltool.report.thumbnails import THUMBNAIL_SIDE, data_address, thumbnail
from tltool.results import tried_in_words

NASTY = "<script>alert('x')</script>"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


class Page(HTMLParser):
    """Collects tags, addresses and headings."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.headings, self.images = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        self.addresses += [values[a] for a in ("src", "href", "data") if a in values]
        if tag == "h2":
            self.headings.append(values.get("id"))
        if tag == "img":
            self.images.append(values)


def in_browser(page, tmp_path, script):
    """What the page is after a script was run in it, and what the console said; no network."""
    text = page.read_text("utf-8")
    action = f"<script>addEventListener('load', () => {{ {script} }});</script>"
    acted = tmp_path / "acted.html"
    acted.write_text(text.replace("</body>", action + "</body>"), "utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=4000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", acted.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, said


SECTIONS = ["figures", "data", "advice", "confusion", "confidence", "classes", "mistakes", "labels"]
SECTIONS += ["choice", "card", "settings"]


def test_sections_and_figures(finished_run):
    _, result = finished_run
    text = (result.run / "report.html").read_text("utf-8")
    page = Page(text)
    assert page.headings == SECTIONS
    for row in tried_in_words(result.choices):
        assert all(f"<td>{word}</td>" in text for word in row[:3])
    assert f"{result.evaluation.metrics['accuracy'].value:.3f}" in text
    assert all(a.startswith(("data:", "#")) for a in page.addresses)
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert all(image.get("alt") for image in page.images)
    assert result.evaluation.confusion.sum() == result.n_test
    assert shlex.quote(str(result.run)) in text


@pytest.fixture(scope="module")
def nasty_run(tmp_path_factory):
    """Classes and files with names that pages must not take at their word, and mistakes."""
    root = tmp_path_factory.mktemp("nasty")
    labels = [NASTY, 'other & "more"', "\u05d0\u05d1/\u05d2", "\U0001f98b"]
    rows = ["image,label"]
    for number, label in enumerate(labels):
        for i in range(12):
            name = f"<b>{number}<b>-{i}.png"
            save(root / "files" / name, picture(i + 100 * number, hue=number % 2))
            quoted = label.replace('"', '""')
            rows.append(f'files/{name},"{quoted}"')
    (root / "table.csv").write_text("\n".join(rows) + "\n", "utf-8")
    given = {"store": root / "store", "test": 0.4}
    return features_run(root / "table.csv", root / "run", **given), labels


def test_names_are_escaped(nasty_run):
    result, labels = nasty_run
    text = (result.run / "report.html").read_text("utf-8")
    assert NASTY not in text and "<b>0<b>-" not in text
    assert "&lt;script&gt;" in text and "other &amp; &#34;more&#34;" in text
    assert all(label in text for label in labels[2:])
    card = (result.run / "model_card.md").read_text("utf-8")
    assert "<script>" not in card and "\\<script\\>" in card


@needs_chromium
def test_a_cell_shows_its_images(nasty_run, tmp_path):
    result, labels = nasty_run
    wrong = np.argwhere(result.evaluation.confusion * (1 - np.eye(len(labels), dtype=int)))
    t, p = (int(n) for n in wrong[0])
    cell = f'rect[data-true="{t}"][data-named="{p}"]'
    script = f"document.querySelector('{cell}')"
    script += ".dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    dom, said = in_browser(result.run / "report.html", tmp_path, script)
    assert said == []
    shown = dom[dom.index('id="cell"') :].partition("</ul>")[0]
    times = int(result.evaluation.confusion[t, p])
    assert shown.count('class="tile"') == times and f": {times}</h3>" in shown
    assert NASTY not in shown
    page = Page(dom)
    assert page.headings == SECTIONS
    assert page.tags.count("script") == 3  # data, ours, and what clicked


@needs_chromium
def test_the_matrix_is_found_by_name_and_keyboard(nasty_run, tmp_path):
    result, _ = nasty_run
    script = (
        "const find = document.getElementById('filter'); find.value = 'MORE';"
        "find.dispatchEvent(new Event('input'));"
        "const cell = document.querySelector('rect.cell[data-true=\"1\"]');"
        "cell.focus();"
        "cell.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}));"
    )
    dom, said = in_browser(result.run / "report.html", tmp_path, script)
    assert said == []
    order = {label: i for i, label in enumerate(result.labels)}
    beside = {order['other & "more"']}
    confusion = result.evaluation.confusion
    for t, p in np.argwhere(confusion):
        if {t, p} & {order['other & "more"']}:
            beside |= {int(t), int(p)}
    drawn = {int(n) for n in re.findall(r'<rect class="cell[^>]*data-true="(\d+)"', dom)}
    assert drawn <= beside
    assert "<h3" in dom[dom.index('id="cell"') :].partition("<h3>Largest")[0]
    assert len(re.findall(r'<rect class="cell[^>]*tabindex="0"', dom)) == 1


def test_many_classes_stay_small(tmp_path, monkeypatch):
    """101 classes and 3,000 test images: below 5 MB, in seconds."""
    monkeypatch.setattr("tltool.reporting._maps_of_mistakes", lambda *given: {})
    root = tmp_path / "photos"
    random = np.random.default_rng(0)
    result = features_run(
        class_folders(root, n=4), tmp_path / "run", store=tmp_path / "store", test=0.4
    )
    labels = [f"class {i}" for i in range(101)]
    names = [f"{i}.jpg" for i in range(3000)]
    for name in names:
        save(root / name, random.integers(0, 256, (60, 60, 3), dtype=np.uint8), quality=90)
    probabilities = random.dirichlet(np.full(101, 0.1), 3000)
    targets = random.integers(0, 101, 3000)
    hashes = [hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names]
    table = ["file,label,split,sha256"]
    table += [f"{n},{labels[t]},test,{h}" for n, t, h in zip(names, targets, hashes, strict=True)]
    said = ["file,true,predicted," + ",".join(f"probability of {label}" for label in labels)]
    for name, target, row in zip(names, targets, probabilities, strict=True):
        told = [name, labels[target], labels[row.argmax()], *(f"{p:.5g}" for p in row)]
        said.append(",".join(told))
    run = result.run
    (run / "held_out.csv").unlink()
    (run / "labels.json").write_text(json.dumps(labels))
    (run / "dataset.csv").write_text("\n".join(table) + "\n")
    (run / "predictions.csv").write_text("\n".join(said) + "\n")
    facts = json.loads((run / "run.json").read_text())
    facts["check"]["classes"] = dict.fromkeys(labels, 30)
    (run / "run.json").write_text(json.dumps(facts))
    assert tltool.write_report(run) == run / "report.html"
    text = (run / "report.html").read_text("utf-8")
    assert len(text) < 5_000_000
    data = json.loads(re.search(r'id="predictions">(.*?)</script>', text, re.S)[1])
    assert len(data["images"]) == 3000 and data["pictured"] == 3000 and not data["missing"]
    counts = np.zeros((101, 101), int)
    np.add.at(counts, (targets, probabilities.argmax(axis=1)), 1)
    assert {(t, p): n for t, p, n in data["cells"]} == {
        (int(t), int(p)): int(counts[t, p]) for t, p in np.argwhere(counts)
    }


def test_maps_of_mistakes(nasty_run):
    result, _ = nasty_run
    kept = np.load(result.run / "maps.npz", allow_pickle=False)
    wrong = result.evaluation.confusion.sum() - np.trace(result.evaluation.confusion)
    assert 0 < len(kept["files"]) == min(24, wrong)
    text = (result.run / "report.html").read_text("utf-8")
    assert text.count("What spoke for") == len(kept["files"])


def test_once_more_without_its_images(nasty_run, tmp_path):
    result, _ = nasty_run
    run = shutil.copytree(result.run, tmp_path / "run")
    facts = json.loads((run / "run.json").read_text())
    facts["settings"]["data"] = str(tmp_path / "gone.csv")
    facts["images_in"] = str(tmp_path / "gone")
    (run / "run.json").write_text(json.dumps(facts))
    (run / "maps.npz").unlink()
    tltool.write_report(run, out=tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    assert page.headings == SECTIONS and not page.images
    assert (tmp_path / "page.md").is_file()
    with pytest.raises(tltool.TltoolError, match="add --force"):
        tltool.write_report(run, out=tmp_path / "page.html")


@pytest.mark.parametrize("left", [None, "the header"])
def test_a_run_without_test_predictions(finished_run, tmp_path, left):
    """What is about them says so; what is not goes on without."""
    data, result = finished_run
    run = shutil.copytree(result.run, tmp_path / "run")
    table = run / "predictions.csv"
    header = table.read_text("utf-8").splitlines()[0]
    table.unlink()
    if left:
        table.write_text(header + "\n", "utf-8")
    said = "holds no predictions of test images: predictions.csv is missing or has no rows"
    for about_them in (
        lambda: tltool.write_report(run),
        lambda: tltool.write_report([result.run, run], out=tmp_path / "both.html"),
        lambda: tltool.atlas(run, images=4),
        lambda: tltool.compare([result.run, run]),
    ):
        with pytest.raises(tltool.TltoolError, match=said):
            about_them()
    assert not (run / "atlas.json").exists()
    found = tltool.map_features(run, out=tmp_path / "map.html")
    assert found.n_images == len(tltool.Run(run).images()) and not found.mistakes
    images, _ = tltool.predict(run, next((data / "red").iterdir()))
    assert len(images) == 1


def test_images_that_changed_are_not_shown(tmp_path):
    data = class_folders(tmp_path / "photos", n=10)
    result = features_run(data, tmp_path / "run", store=tmp_path / "store")
    tested = tltool.Run(result.run).tested().files
    save(data / tested[0], picture(4711))
    (data / tested[1]).unlink()
    tltool.write_report(result.run)
    text = (result.run / "report.html").read_text("utf-8")
    found = json.loads(re.search(r'id="predictions">(.*?)</script>', text, re.S)[1])
    assert {found["images"][i][0] for i in found["missing"]} == set(tested[:2])
    assert f"2 of {len(tested)} test images are not shown" in text


def test_a_model_card_that_was_changed_by_hand_is_kept(nasty_run, tmp_path, caplog):
    run = shutil.copytree(nasty_run[0].run, tmp_path / "run")
    card = run / "model_card.md"
    made = card.read_text("utf-8")
    tltool.write_report(run)
    assert card.read_text("utf-8") == made and not caplog.messages
    card.write_text(made + "Not for medical use.")
    tltool.write_report(run)
    assert card.read_text("utf-8").endswith("Not for medical use.")
    assert "changed by hand" in caplog.messages[-1]


def test_no_other_file_is_replaced(nasty_run, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(tltool.TltoolError, match="where the model card goes, exists"):
        tltool.write_report(nasty_run[0].run, out=tmp_path / "README.html")
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04cut"])
def test_damaged_maps_are_drawn_again(nasty_run, tmp_path, content):
    run = shutil.copytree(nasty_run[0].run, tmp_path / "run")
    before = (run / "report.html").read_text("utf-8").count("What spoke for")
    (run / "maps.npz").write_bytes(content)
    tltool.write_report(run)
    assert (run / "report.html").read_text("utf-8").count("What spoke for") == before > 0


def test_a_report_that_fails_does_not_cost_the_run(tmp_path, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise MemoryError("no room")

    monkeypatch.setattr("tltool.reporting.render_report", broken)
    data = class_folders(tmp_path / "photos", n=8)
    result = features_run(data, tmp_path / "run", store=tmp_path / "store")
    assert tltool.Run(result.run).facts["state"] == "finished"
    assert "could not be drawn (MemoryError: no room)" in caplog.messages[-1]
    monkeypatch.undo()
    assert tltool.write_report(result.run).is_file()


def test_runs_of_the_same_images_by_other_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "photos"
    for i in range(40):  # nothing tells them apart
        save(data / "ab"[i % 2] / f"{i}.png", picture(i))
    table = ["image,label,split"]
    one = features_run(data, tmp_path / "a" / "run", store=tmp_path / "store")
    splits = {row["file"]: row["split"] for row in tltool.Run(one.run).images()}
    for name, split in splits.items():
        table.append(f"photos/{name},{name.partition('/')[0]},{split}")
    (tmp_path / "table.csv").write_text("\n".join(table) + "\n")
    given = {"store": tmp_path / "store", "tap": "stem"}
    two = features_run(tmp_path / "table.csv", tmp_path / "b" / "run", **given)
    text = tltool.write_report([one.run, two.run]).read_text("utf-8")
    assert "<th>a/run</th>" in text and "<th>b/run</th>" in text
    wrong = [set(), set()]
    for found, run in zip(wrong, (one, two), strict=True):
        said = tltool.Run(run.run).tested()
        missed = said.probabilities.argmax(axis=1) != said.targets
        found |= {said.hashes[i] for i in np.flatnonzero(missed)}
    apart = wrong[0] ^ wrong[1]
    assert text.count("<figcaption>") == min(24, len(apart)) > 0


def test_side_by_side(nasty_run, tmp_path, monkeypatch):
    result, _ = nasty_run
    monkeypatch.chdir(tmp_path)
    data = result.run.parent / "table.csv"
    given = {"store": result.run.parent / "store", "test": 0.4}
    other = features_run(data, tmp_path / "other", tap="stage1", **given)
    page = tltool.write_report([result.run, other.run])
    with pytest.raises(tltool.TltoolError, match="add --force"):
        tltool.write_report([result.run, other.run])
    assert page == Path("comparison.html")
    text = page.read_text("utf-8")
    found = Page(text)
    assert found.headings == ["figures", "difference", "settings", "classes", "mistakes"]
    assert NASTY not in text and "stage1_block3_out:avg" in text
    values = [f"{r.evaluation.metrics['accuracy'].value:.3f}" for r in (result, other)]
    assert all(value in text for value in values)


def test_the_advice_and_a_training_are_shown(tmp_path):
    data = class_folders(tmp_path / "photos", n=12)
    advised = tltool.adapt(
        data, out=tmp_path / "a", store=tmp_path / "s", backbone="cifar-resnet20", epochs=2
    )
    page = Page((advised.run / "report.html").read_text("utf-8"))
    assert {"advice", "training"} <= set(page.headings)
    text = (advised.run / "report.html").read_text("utf-8")
    assert (
        "This data set" in text
        and "Accuracy of off-the-shelf features by images to learn from" in text
    )


def test_command(finished_run, tmp_path):
    _, result = finished_run
    page = tmp_path / "again.html"
    done = CliRunner().invoke(app, ["report", str(result.run), "--out", str(page)])
    assert done.exit_code == 0 and done.stdout.strip() == str(page)
    written = page.read_text("utf-8").replace("again.md", "model_card.md")
    assert written == (result.run / "report.html").read_text("utf-8")
    for given, message in (
        ([str(result.run), "--out", "page.pdf"], ".html"),
        ([str(tmp_path)], "is not a run"),
        ([str(result.run), str(result.run)], "twice"),
    ):
        wrong = CliRunner().invoke(app, ["report", *given])
        assert wrong.exit_code == 1 and message in wrong.output, wrong.output


@pytest.mark.parametrize("size", [(8, 8), (300, 20)])
def test_thumbnails_of_odd_sizes(tmp_path, size):
    path = save(tmp_path / "a.png", picture(1, size))
    shown = thumbnail(path)
    assert shown is not None and max(shown.size) == THUMBNAIL_SIDE // (2 if max(size) < 80 else 1)
    assert data_address(shown).startswith("data:image/jpeg;base64,")
    assert thumbnail(tmp_path / "gone.png") is None and data_address(None) == ""


def test_more_images_are_drawn_where_they_are(monkeypatch):
    """Twice the images are twice those of the set, not of a probe's folds."""
    monkeypatch.setattr(advice, "line_chart", lambda title, series, *args, **named: series)
    more = {"value": 0.9, "low": 0.8, "high": 0.95}
    series = advice._curve(
        {
            "size": {"images": 1000},
            "learning_curve": {"images": [200, 800], "accuracy": [0.5, 0.6]},
            "expected_with_more": {"2": more, "10": more},
        }
    )
    assert list(series[1].xs) == [800, 2000, 10_000]
