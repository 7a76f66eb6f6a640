"""The report: whole, fetching nothing, and safe from what files are called."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import class_folders, features_run, picture, save

from tltool.report.thumbnails import THUMBNAIL_SIDE, data_address, thumbnail
from tltool.results import tried_in_words

NASTY = "<script>alert('x')<script>"


class Page(HTMLParser):
    """Collects tags, addresses and headings."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.headings = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        self.addresses += [values[a] for a in ("src", "href", "data") if a in values]
        if tag == "h2":
            self.headings.append(values.get("id"))


def test_sections_and_figures(finished_run):
    _, result = finished_run
    text = (result.run / "report.html").read_text("utf-8")
    page = Page(text)
    sections = ["figures", "data", "confusion", "confidence"]
    sections += ["classes", "mistakes", "choice", "settings"]
    assert page.headings == sections
    for row in tried_in_words(result.choices):
        assert all(f"<td>{word}</td>" in text for word in row[:3])
    assert f"{result.evaluation.metrics['accuracy'].value:.3f}" in text
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert "script" not in page.tags
    assert "@import" not in text
    assert not re.findall(r"url\(", text)
    assert result.evaluation.confusion.sum() == result.n_test


def test_names_are_escaped(tmp_path):
    data = class_folders(tmp_path / "photos", ("plain", "other & more"), n=10)
    for i in range(10):
        # as like the other classes as can be, so that mistakes are shown
        save(data / NASTY / f"{NASTY}{i}.png", picture(i + 1, hue=i % 2))
    (data / "plain" / "<img src=x>.jpg").write_bytes(b"no image")
    result = features_run(data, tmp_path / "run", store=tmp_path / "store", test=0.4)
    text = (result.run / "report.html").read_text("utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert NASTY not in text
    assert "&lt;script&gt;" in text
    assert "other &amp; more" in text
    assert "&lt;img src=x&gt;.jpg" in text


def test_many_classes_stay_small(tmp_path):
    from tltool.data import CheckReport, SplitReport
    from tltool.evaluation import evaluate_predictions
    from tltool.report import ReportContent, render_report

    random = np.random.default_rng(0)
    labels = [f"class {i}" for i in range(101)]
    probabilities = random.dirichlet(np.ones(101), 3000)
    evaluation = evaluate_predictions(probabilities, random.integers(0, 101, 3000), majority=0)
    check = CheckReport("d", 1, 1, {}, {}, (), {}, (), (), (), (), (1, 1), (1, 1), ())
    text = render_report(
        ReportContent("t", (), (), labels, evaluation, check, SplitReport({}, (), ()), (), (), ())
    )
    assert len(text) < 5_000_000
    assert text.count("<title>") == 1 + np.count_nonzero(evaluation.confusion)


@pytest.mark.parametrize("size", [(8, 8), (300, 20)])
def test_thumbnails_of_odd_sizes(tmp_path, size):
    path = save(tmp_path / "a.png", picture(1, size))
    shown = thumbnail(path)
    assert shown is not None and max(shown.size) == THUMBNAIL_SIDE // (2 if max(size) < 80 else 1)
    assert data_address(shown).startswith("data:image/jpeg;base64,")
    assert thumbnail(tmp_path / "gone.png") is None and data_address(None) == ""
