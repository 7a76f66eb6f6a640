"""Runs made into one: the same answers, by name; and what cannot be combined."""

import csv
import html
import json
import shlex
import shutil
from dataclasses import asdict, replace
from functools import partial
from itertools import count, pairwise
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import class_folders, features_run
from typer.testing import CliRunner

import tltool
from tltool import Backbone, TltoolError
from tltool._presets import recipe
from tltool.cli import app
from tltool.combining import Combination, CombinationChoice
from tltool.comparing import compare
from tltool.data import canvas
from tltool.ensembles import members as members_module
from tltool.ensembles.growing import _PROCESS, GrownSettings, _facts, _memory
from tltool.ensembles.processes import Task, places_for, run_tasks
from tltool.ensembles.soups import _Kitchen, normalised_anew
from tltool.ensembles.students import begun_by, student_settings
from tltool.linear.linear_head import softmax
from tltool.report.content import words_of_ensemble
from tltool.settings import AdaptSettings, settings_of
from tltool.trained_networks import save_network, trained_arrays

QUICK = {"epochs": 2, "learning_rate": "0.0003", "train_views": "1"}


def cli(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def probabilities(folder, table="predictions.csv"):
    with (folder / table).open(newline="") as file:
        return {
            row["file"]: {k: float(v) for k, v in row.items() if k.startswith("probability")}
            for row in csv.DictReader(file)
        }


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two runs on the same images: features of two depths."""
    root = tmp_path_factory.mktemp("pair")
    data = class_folders(root / "photos", n=20, size=(32, 32))
    runs = []
    for name, tap, classifier in (("deep", None, "lda"), ("low", "stage1", "ridge")):
        features_run(
            data, root / name, tap=tap, classifier=classifier, transforms="l2", store=root / "store"
        )
        runs.append(root / name)
    return data, runs, root


@pytest.fixture(scope="module")
def combined(pair):
    _, runs, root = pair
    return tltool.ensemble(runs, out=root / "both", combine="mean", store=root / "store")


class TestRuns:
    def test_the_mean_of_what_members_say(self, pair, combined):
        """But for the calibration that follows."""
        _, runs, root = pair
        facts = json.loads((root / "both" / "run.json").read_text())
        first, second = (probabilities(run) for run in runs)
        temperature = facts["calibration"]["temperature"]
        assert facts["calibration"]["method"] == "temperature"
        for name, found in probabilities(root / "both").items():
            expected = {}
            for label in found:
                mean = (first[name][label] + second[name][label]) / 2
                expected[label] = max(mean, 1e-7) ** (1 / temperature)
            total = sum(expected.values())
            assert found == pytest.approx({k: v / total for k, v in expected.items()}, abs=1e-5)

    def test_is_a_run_like_any_other(self, pair, combined):
        data, _, root = pair
        table = probabilities(root / "both")
        found, bad = tltool.predict(root / "both", data, engine="keras")
        assert not bad
        known = {str(data / name): p for name, p in table.items()}
        hit = [p for p in found if p.file in known]
        assert len(hit) == len(known)
        for one in hit:
            for label, value in one.top:
                assert value == pytest.approx(known[one.file][f"probability of {label}"], abs=2e-4)
        again = tltool.evaluate(root / "both", data, split="test", store=root / "store")
        assert (
            again.evaluation.metrics["accuracy"] == combined.result.evaluation.metrics["accuracy"]
        )
        html = (root / "both" / "report.html").read_text()
        for text in ("Members", "Against its members", "cifar-resnet20", "Reliability"):
            assert text in html

    def test_its_comparison_is_that_of_compare(self, pair, combined):
        _, runs, root = pair
        found = compare([root / "both", *runs])
        told = {one.run: one.evaluation.metrics["accuracy"] for one in combined.comparison.runs}
        assert told == {one.run: one.evaluation.metrics["accuracy"] for one in found.runs}

    def test_auto_tells_what_each_way_was_worth(self, pair):
        _, runs, root = pair
        found = tltool.ensemble(runs, out=root / "auto", store=root / "store")
        choices = found.result.choices
        assert choices["combine"] in choices["combining"]
        assert set(choices["combining"]) >= {"mean", "greedy", "stacking"}
        assert 0 <= choices["nested_accuracy"] <= 1
        held = probabilities(root / "auto", "held_out.csv")
        assert set(held) == set(probabilities(runs[0], "held_out.csv"))

    def test_tables_and_corrections_of_members_are_kept(self, pair, tmp_path):
        """So that the images can be read again."""
        data, _, root = pair
        table, corrections = tmp_path / "photos.csv", tmp_path / "corrections.csv"
        rows = [(f"{p.parent.name}/{p.name}", p.parent.name) for p in sorted(data.glob("*/*"))]
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("picture", "kind"), *rows])
        for place in {Path(name).parent for name, _ in rows}:
            shutil.copytree(data / place, tmp_path / place)
        with corrections.open("w", newline="") as file:
            csv.writer(file).writerows([("file", "correction"), (rows[0][0], rows[-1][1])])
        columns = {"image_column": "picture", "label_column": "kind"}
        members = []
        for name, tap in (("a", None), ("b", "stage1")):
            features_run(
                table,
                tmp_path / name,
                tap=tap,
                relabel=corrections,
                store=root / "store",
                **columns,
            )
            members.append(tmp_path / name)
        both = tmp_path / "both"
        tltool.ensemble(members, out=both, combine="mean")
        run = tltool.Run(both)
        assert (run.columns.image, run.columns.label) == ("picture", "kind")
        assert run.relabel == str(corrections)
        found = tltool.ensemble([both, members[0]], out=tmp_path / "all", combine="mean")
        assert found.result.n_images == len(rows)

    def test_members_are_aligned_by_the_names_of_classes(self, pair, tmp_path):
        """A member whose classes come in another order is the same member."""
        _, runs, root = pair
        turned = turned_classes(runs[1], tmp_path / "turned")
        found = tltool.ensemble([runs[0], turned], out=tmp_path / "out", combine="mean")
        expected = probabilities(root / "both")
        for name, said in probabilities(tmp_path / "out").items():
            assert said == pytest.approx(expected[name], abs=1e-4)
        assert found.result.labels == ("blue", "green", "red")

    def test_another_canvas_is_told_of(self, pair, tmp_path):
        data, runs, root = pair
        features_run(data, tmp_path / "larger", input_size="48", store=root / "store")
        found = tltool.ensemble(
            [runs[0], tmp_path / "larger"], out=tmp_path / "out", combine="mean"
        )
        assert found.result.input_size == (48, 48)
        assert any("other pixels" in note for note in found.result.warnings)
        again = tltool.evaluate(tmp_path / "out", data, split="test", engine="keras")
        value = found.result.evaluation.metrics["log_loss"].value
        assert again.evaluation.metrics["log_loss"].value == pytest.approx(value, abs=2e-3)

    def test_views_go_into_the_model(self, pair, tmp_path):
        data, runs, _root = pair
        found = tltool.ensemble(runs, out=tmp_path / "out", views="2", combine="mean")
        said = tltool.Run(tmp_path / "out").tested()
        splits = tltool.Run(runs[0]).images()
        files = {row["sha256"]: data / row["file"] for row in splits}
        shown = np.stack([canvas(files[h].read_bytes(), (32, 32)) for h in said.hashes])
        of_members = [tltool.Run(run).predictor("keras", "2")(shown) for run in runs]
        temperature = found.result.calibration["temperature"]
        expected = softmax(np.log(np.mean(of_members, axis=0)) / temperature)
        np.testing.assert_allclose(said.probabilities, expected, atol=2e-3)
        assert found.result.views == "2"

    def test_views_take_the_place_of_a_members_own(self, pair, tmp_path):
        """Of members that average features over views, too."""
        data, runs, root = pair
        features_run(data, tmp_path / "two", tap="stage1", views="2", store=root / "store")
        members = [runs[0], tmp_path / "two"]
        found = tltool.ensemble(members, out=tmp_path / "out", views="10", combine="mean")
        assert found.result.views == "10"
        said = tltool.Run(tmp_path / "out").tested()
        files = {row["sha256"]: data / row["file"] for row in tltool.Run(runs[0]).images()}
        of_members = [tltool.Run(run).predictor("keras", "10") for run in members]
        (size,) = {one.canvas_size for one in of_members}
        shown = np.stack([canvas(files[h].read_bytes(), size) for h in said.hashes])
        temperature = found.result.calibration["temperature"]
        mean = np.mean([one(shown) for one in of_members], axis=0)
        expected = softmax(np.log(mean) / temperature)
        np.testing.assert_allclose(said.probabilities, expected, atol=2e-3)

    def test_a_member_that_weighs_nothing_has_no_say(self, pair, tmp_path, monkeypatch):
        """The larger canvas was its own: the one model takes what the other takes."""
        data, runs, root = pair
        large = tmp_path / "large"
        features_run(data, large, tap="stem", input_size="48", store=root / "store")

        def choose(p, *_args, **_kwargs):
            scores = np.log(np.maximum(p[0], 1e-7))
            alone = Combination("weights", np.array([1.0, 0.0]))
            return CombinationChoice(alone, {}, None, scores, "")

        monkeypatch.setattr(members_module, "choose_combination", choose)
        found = tltool.ensemble([runs[0], large], out=tmp_path / "out")
        assert found.result.input_size == (32, 32)
        assert found.result.backbone == "cifar-resnet20"
        assert not any("other pixels" in note for note in found.result.warnings)
        left = ("Left out", "1 member that weighs nothing is not in the model")
        assert left in found.result.described

    def test_force_takes_the_parts_of_the_last_one_away(self, pair, tmp_path):
        _, runs, _ = pair
        out = tmp_path / "out"
        tltool.ensemble(runs, out=out)
        for part in ("student", "members/soup-1-x"):
            (out / part).mkdir(parents=True)
            (out / part / "run.json").write_text("{}")
        tltool.ensemble(runs, out=out, force=True)
        assert not (out / "student").exists()
        assert not (out / "members" / "soup-1-x").exists()

    def test_too_few_to_weigh_by_are_averaged(self, tmp_path):
        data = class_folders(tmp_path / "photos", n=6, size=(32, 32))
        for seed, tap in enumerate(("stage1", "stage2")):
            features_run(data, tmp_path / str(seed), tap=tap)
        found = tltool.ensemble([tmp_path / "0", tmp_path / "1"], out=tmp_path / "out")
        assert found.result.choices["combine"] == "mean"
        assert any("too few to weigh 2 members" in note for note in found.result.warnings)

    def test_goes_on_where_it_stopped(self, pair, combined, monkeypatch, tmp_path):
        _, runs, _root = pair

        def full(*_):
            raise TltoolError("No room.")

        with monkeypatch.context() as patch:
            patch.setattr("tltool.ensembles.combined_run.finish_report", full)
            patch.chdir(runs[0].parent)  # relative paths, and another place to go on from
            with pytest.raises(TltoolError, match="No room"):
                tltool.ensemble([run.name for run in runs], out=tmp_path / "out", combine="mean")
        assert json.loads((tmp_path / "out" / "run.json").read_text())["state"] == "running"
        monkeypatch.chdir(tmp_path)
        found = tltool.resume("out")
        assert found.result.evaluation.metrics == combined.result.evaluation.metrics
        with pytest.raises(TltoolError, match="is finished"):
            tltool.resume(tmp_path / "out")

    def test_the_same_command_goes_on_without_a_name(self, pair, tmp_path, monkeypatch):
        _, runs, _ = pair
        monkeypatch.chdir(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr("tltool.runs.RunWriter.finish", lambda _: None)
            first = tltool.ensemble(runs, combine="mean").result.run
        assert tltool.ensemble(runs, combine="mean").result.run == first
        assert tltool.ensemble(runs, combine="mean").result.run != first


class TestRefused:
    def test_one_member(self, pair):
        _, runs, _ = pair
        for given in (runs[:1], [runs[0], runs[0]]):
            with pytest.raises(TltoolError, match="at least two|given twice"):
                tltool.ensemble(given)

    def test_other_classes_and_unfinished(self, pair, tmp_path):
        _, runs, _ = pair
        other = tmp_path / "other"
        shutil.copytree(runs[1], other)
        labels = (other / "labels.json").read_text()
        (other / "labels.json").write_text(labels.replace("red", "pink"))
        with pytest.raises(TltoolError, match="knows the class 'pink'"):
            tltool.ensemble([runs[0], other], out=tmp_path / "out")
        facts = json.loads((other / "run.json").read_text())
        (other / "run.json").write_text(json.dumps(facts | {"state": "running"}))
        with pytest.raises(TltoolError, match="was not finished"):
            tltool.ensemble([runs[0], other], out=tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_gone(self, pair, tmp_path):
        data, runs, root = pair
        result = cli("ensemble", runs[0], root / "lost", "--out", tmp_path / "out")
        assert (result.exit_code, "lost does not exist" in result.output) == (1, True)
        moved = tmp_path / "moved"
        for run in runs:
            shutil.copytree(run, moved / run.name)
            facts = json.loads((run / "run.json").read_text())
            facts["settings"]["data"] = str(tmp_path / "nowhere")
            (moved / run.name / "run.json").write_text(json.dumps(facts))
        members = [moved / run.name for run in runs]
        with pytest.raises(TltoolError, match="say where they are now with --data"):
            tltool.ensemble(members, out=tmp_path / "out")
        tltool.ensemble(members, out=tmp_path / "out", data=data)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--members", "3"], "--members is for members that are still to be trained"),
            (["--set", "epochs=3"], "--set epochs is for members that are still to be trained"),
            (["--set", "weights=x.npz"], "--set weights: name weights with --backbones NAME=FILE"),
            (["--out", "MEMBER", "--force"], "is one of the members"),
            (["--combine", "median"], "Unknown --combine 'median'"),
            (["--views", "augmented-4"], "draws views at random"),
        ],
    )
    def test_options(self, pair, options, said, tmp_path):
        _, runs, _ = pair
        options = [runs[0] if option == "MEMBER" else option for option in options]
        result = cli("ensemble", *runs, "--out", tmp_path / "out", *options)
        assert result.exit_code == 1
        assert said in result.output
        assert not (tmp_path / "out").exists()

    def test_images_of_another_class_than_before(self, pair, tmp_path):
        data, runs, _ = pair
        moved = tmp_path / "photos"
        shutil.copytree(data, moved)
        (moved / "red").rename(moved / "crimson")
        with pytest.raises(TltoolError, match="is of the class 'crimson' now, and was of 'red'"):
            tltool.ensemble(runs, out=tmp_path / "out", data=moved)
        assert not (tmp_path / "out").exists()

    def test_a_student_of_other_splits(self, pair, tmp_path):
        data, runs, root = pair
        features_run(data, tmp_path / "other", seed=1, store=root / "store")
        with pytest.raises(TltoolError, match="give runs of one --split-seed"):
            tltool.ensemble(
                [runs[0], tmp_path / "other"],
                out=tmp_path / "out",
                distill_into="cifar-resnet20",
            )
        assert not (tmp_path / "out").exists()

    def test_similar_names_a_member(self, pair, combined):
        data, _runs, root = pair
        photo = next((data / "red").iterdir())
        with pytest.raises(TltoolError, match="is an ensemble, whose members.*deep"):
            tltool.similar(root / "both", photo)


@pytest.fixture(scope="module")
def grown(pair):
    """Two fine-tunings of one network, side by side, and a student."""
    data, _, root = pair
    found = tltool.ensemble(
        data,
        backbones="cifar-resnet20",
        members=2,
        out=root / "grown",
        store=root / "store",
        jobs=2,
        combine="mean",
        distill_into="cifar-resnet20",
        settings=QUICK,
    )
    return found, [tltool.Run(member.run) for member in found.members]


class TestGrown:
    def test_members_are_trained_and_combined(self, grown):
        found, runs = grown
        assert [m.strategy for m in found.members] == ["fine-tune", "fine-tune"]
        assert found.growth.trained == 2
        assert found.growth.at_a_time == 2
        assert [run.facts["settings"]["seed"] for run in runs] == [0, 1]
        assert runs[0].splits() == runs[1].splits()
        facts = json.loads((found.result.run / "run.json").read_text())
        assert facts["growth"]["peak_memory"] > 1e8

    def test_the_student_is_compared_with_all(self, grown):
        found, runs = grown
        assert found.student.run == found.result.run / "student"
        told = {one.run for one in found.comparison.runs}
        assert told == {
            str(found.result.run),
            str(found.student.run),
            *(str(r.folder) for r in runs),
        }
        report = (found.result.run / "report.html").read_text()
        assert "Against its members and its student" in report
        assert str(found.student.run) in report
        made = "tltool ensemble" + report.split("tltool ensemble", 1)[1].split("<", 1)[0]
        words = shlex.split(html.unescape(made))
        assert words[words.index("--distill-into") + 1] == "cifar-resnet20"
        assert "--student" not in words
        facts = json.loads((found.student.run / "run.json").read_text())
        assert facts["settings"]["teacher"] == tltool.Run(found.result.run).key
        assert facts["settings"]["recipe"] == "student"
        assert tltool.Run(found.student.run).splits() == runs[0].splits()

    def test_the_student_begins_with_the_best_member_of_its_network(self, grown, tmp_path):
        found, runs = grown
        assert all(run.trained_network for run in runs)
        best = min(zip(found.members, runs, strict=True), key=lambda pair: pair[0].log_loss)[1]
        save_network(best, tmp_path / "best.safetensors")
        begun = Backbone("cifar-resnet20", str(tmp_path / "best.safetensors"))
        facts = tltool.Run(found.student.run).facts
        assert facts["settings"]["weights"] == begun.weights.hash
        card = (found.student.run / "model_card.md").read_text()
        words = shlex.split("tltool adapt" + card.split("tltool adapt", 1)[1].split("\n", 1)[0])
        kept = Path(words[words.index("--weights") + 1])  # the command can be given again
        assert kept.read_bytes() == (tmp_path / "best.safetensors").read_bytes()

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({}, ("mixup:alpha=1",)),
            ({"augment": "cutmix"}, ("cutmix",)),
            ({"augment": "none"}, ()),
            ({"cache": "on"}, ()),
        ],
    )
    def test_a_student_sees_mixed_pictures_unless_told_otherwise(self, given, expected):
        plan = student_settings("cifar-resnet20", given).make_strategy().plan
        usual = AdaptSettings(backbone="cifar-resnet20", strategy="fine-tune").make_strategy().plan
        assert plan.augment == expected
        assert plan.epochs > usual.epochs
        assert plan.learning_rate < usual.learning_rate
        assert plan.weight_averaging > 0 and plan.distinct_pictures > 0
        own = "augment epochs learning_rate schedule weight_averaging distinct_pictures".split()
        assert replace(plan, **{name: getattr(usual, name) for name in own}) == usual

    def test_the_command_of_runs_says_how_their_student_was_trained(self):
        """Not what its images are: those follow from the runs."""
        student = student_settings("cifar-resnet20", {"epochs": 3, "val": 0.3})
        words = words_of_ensemble({"runs": ["a", "b"], "student": asdict(student)})
        assert words[:4] == ["a", "b", "--distill-into", "cifar-resnet20"]
        own = words[4:]
        assert own == ["--set", "epochs=3"]

    def test_the_command_of_images_has_options_where_there_are_such(self):
        """`--set` does not take what the ensemble has an option of its own for."""
        settings = {"engine": "keras", "seed": 3, "epochs": 2}
        words = words_of_ensemble({"data": "photos", "settings": settings})
        assert words == ["photos", "--engine", "keras", "--seed", "3", "--set", "epochs=2"]
        assert words_of_ensemble({"data": "photos", "settings": {"seed": 0}}) == ["photos"]
        words = words_of_ensemble({"data": "photos", "settings": {"l2_sp": True}})
        assert settings_of([words[-1]]) == {"l2_sp": True}

    @pytest.mark.parametrize(
        ("combine", "soup", "said"),
        [
            ("auto", "greedy", []),
            ("auto", "none", ["--soup", "none"]),
            ("mean", "none", []),
            ("mean", "greedy", ["--soup", "greedy"]),
        ],
    )
    def test_the_command_says_what_is_averaged_where_that_is_not_usual(self, combine, soup, said):
        words = words_of_ensemble({"runs": ["a", "b"], "combine": combine, "soup": soup})
        assert [word for word in words if word in ("--soup", soup)] == said

    def test_options_of_members(self):
        settings = AdaptSettings(strategy="fine-tune", l2_sp=False, epochs=3)
        words = settings.as_options()
        assert "--l2-sp" not in words
        assert words[words.index("--epochs") + 1] == "3"
        assert "--l2-sp" in replace(settings, l2_sp=True).as_options()

    def test_larger_images_take_more_memory(self):
        small = AdaptSettings(backbone="cifar-resnet20", strategy="fine-tune")
        large = replace(small, input_size="128")
        assert _memory(large) - _PROCESS > 4 * (_memory(small) - _PROCESS)

    def test_other_weights_make_another_ensemble(self, tmp_path):
        file = tmp_path / "own.npz"
        settings = GrownSettings((f"lenet5={file}", "cifar-resnet20"))
        found = []
        for content in (b"one", b"two"):
            file.write_bytes(content)
            found.append(_facts("photos", settings))
        assert found[0] != found[1]

    def test_a_block_of_the_members_is_none_of_the_students(self, caplog):
        given = {"unfreeze": "stage2"}
        assert student_settings("cifar-resnet20", given).unfreeze == "stage2"
        assert student_settings("cifar-resnet20", {"unfreeze": "block9"}).unfreeze is None
        assert "cifar-resnet20 has no block block9" in caplog.text
        assert student_settings("cifar-resnet20", {"unfreeze": "last1"}).unfreeze == "last1"

    def test_a_student_goes_on_from_no_other_network(self, grown, tmp_path):
        """Above the layers that its features came from, a member's network is not its own."""
        student = AdaptSettings(backbone="cifar-resnet20", strategy="fine-tune")
        run = tmp_path / "run"
        shutil.copytree(grown[1][0].folder, run)
        assert begun_by([tltool.Run(run)], student).folder == run
        held = set(tltool.Run(run).held_out().hashes)
        assert begun_by([tltool.Run(run)], student, held).folder == run
        seen = held | {h for h, split in tltool.Run(run).splits().items() if split == "train"}
        assert begun_by([tltool.Run(run)], student, seen) is None
        facts = json.loads((run / "run.json").read_text())
        for name, value in (("tap", ["stage1:avg"]), ("input_size", [64, 64]), ("weights", "0")):
            changed = facts | {"settings": facts["settings"] | {name: value}}
            (run / "run.json").write_text(json.dumps(changed))
            assert begun_by([tltool.Run(run)], student) is None

    def test_a_student_goes_on_by_itself(self, pair, grown, tmp_path):
        """Where the ensemble was finished and the student was not."""
        _data, _, _root = pair
        out = tmp_path / "grown"
        shutil.copytree(grown[0].result.run, out)
        shutil.rmtree(out / "student")
        facts = json.loads((out / "run.json").read_text())
        (out / "run.json").write_text(json.dumps(facts | {"student": None}))
        found = tltool.resume(out)
        assert found.run == out / "student"
        said = json.loads((out / "run.json").read_text())
        assert said["student"]["run"] == str(found.run)
        assert len(said["comparison"]["runs"]) == 4
        with pytest.raises(TltoolError, match="is finished"):
            tltool.resume(out)

    def test_a_student_that_was_trained_is_compared_and_kept(self, grown, tmp_path, monkeypatch):
        """Where only the comparison was missing, also of members in the ensemble's own folder."""
        out = tmp_path / "grown"
        shutil.copytree(grown[0].result.run, out)
        monkeypatch.chdir(tmp_path)
        facts = json.loads((out / "run.json").read_text())
        inside = sorted(path.parent for path in (out / "members").glob("*/run.json"))
        facts["settings"]["members"] = [{"run": str(path)} for path in inside]
        (out / "run.json").write_text(json.dumps(facts | {"student": None, "comparison": None}))
        made = (out / "student" / "model.keras").stat()
        found = tltool.resume(out)
        assert (out / "student" / "model.keras").stat().st_mtime_ns == made.st_mtime_ns
        before = grown[0].student
        assert found.as_json() | {"run": ""} == before.as_json() | {
            "run": "",
            "seconds": found.as_json()["seconds"],
        }
        assert (found.evaluation.confusion == before.evaluation.confusion).all()
        said = json.loads((out / "run.json").read_text())
        assert said["student"]["run"] == str(found.run)
        assert len(said["comparison"]["runs"]) == 4

    def test_a_teacher_that_knows_the_test_images(self, pair, grown, tmp_path):
        data, _, _root = pair
        with pytest.raises(TltoolError, match="was fitted on .* images to test on"):
            tltool.adapt(
                data,
                strategy="fine-tune",
                backbone="cifar-resnet20",
                teacher=grown[0].result.run,
                seed=1,
                out=tmp_path / "run",
                **QUICK,
            )
        assert not (tmp_path / "run").exists()

    def test_a_teacher_of_other_classes(self, grown, tmp_path):
        data = class_folders(tmp_path / "photos", ("red", "pink"), n=6, size=(32, 32))
        with pytest.raises(TltoolError, match="have not the same classes"):
            tltool.adapt(
                data,
                strategy="fine-tune",
                backbone="cifar-resnet20",
                teacher=grown[0].result.run,
                out=tmp_path / "run",
                **QUICK,
            )

    def test_what_is_done_is_kept_when_a_member_fails(self, pair, tmp_path, monkeypatch):
        data, _, root = pair
        out = tmp_path / "out"
        blocked = out / "members" / "2-cifar-resnet20-fine-tune"
        given = {
            "backbones": "cifar-resnet20",
            "strategies": "off-the-shelf,fine-tune",
            "out": out,
            "store": root / "store",
            "settings": QUICK,
        }

        def block(*_):
            blocked.mkdir(parents=True)
            (blocked / "note.txt").write_text("mine")
            return 1

        monkeypatch.setattr("tltool.ensembles.growing.places_for", block)
        with pytest.raises(
            TltoolError, match="Member 2-cifar-resnet20-fine-tune failed.*not a run"
        ):
            tltool.ensemble(data, **given)
        made = (out / "members" / "1-cifar-resnet20-off-the-shelf" / "model.keras").stat()
        shutil.rmtree(blocked)
        monkeypatch.undo()
        found = tltool.resume(out)
        assert found.growth.trained == 1
        after = (out / "members" / "1-cifar-resnet20-off-the-shelf" / "model.keras").stat()
        assert after.st_mtime_ns == made.st_mtime_ns

    def test_plans(self):
        variants = recipe("fine-tune").variants
        plan = GrownSettings(("a=x.npz", "cifar-resnet20"), ("fine-tune",), members=5).plan
        with pytest.raises(TltoolError, match="'a'"):
            plan()
        found = GrownSettings(("lenet5", "cifar-resnet20"), ("fine-tune",), members=5).plan()
        assert [member.name for member in found] == [
            "1-lenet5-fine-tune",
            "2-cifar-resnet20-fine-tune",
            f"3-lenet5-{variants[0]}",
            f"4-cifar-resnet20-{variants[0]}",
            f"5-lenet5-{variants[1]}",
        ]
        assert [member.settings.seed for member in found] == [0, 0, 1, 1, 2]
        assert {member.settings.seed_of_splits for member in found} == {0}
        plans = [member.settings.make_strategy().plan for member in found]
        assert plans[0] == plans[1] != plans[2] == plans[3] != plans[4]

    def test_recipes_of_members(self):
        def told(strategies, recipes, members=None, **settings):
            found = GrownSettings(
                ("cifar-resnet20",), strategies, recipes, members, settings=settings
            ).plan()
            return [(m.name.split("resnet20-")[1], m.settings.seed) for m in found]

        variants = recipe("fine-tune").variants
        assert {recipe(name).strategy for name in variants} == {"fine-tune"}
        assert told(("fine-tune",), ("fine-tune",), 3) == [("fine-tune", i) for i in range(3)]
        assert told(("fine-tune",), variants[:2]) == [(variants[0], 0), (variants[1], 1)]
        assert told(("off-the-shelf", "fine-tune"), ("fast", "cnn-svm"), 4) == [
            ("fast", 0),
            ("fine-tune", 0),
            ("cnn-svm", 1),
            ("fine-tune", 1),
        ]
        every = (len(variants) + 2) * ("fine-tune",)
        assert told(("fine-tune",), None, len(every))[-1] == ("fine-tune", len(every) - 1)
        # what is set for all members wins over the recipe of each
        plan = GrownSettings(("cifar-resnet20",), members=3, settings={"learning_rate": 0.01})
        rates = {m.settings.make_strategy().plan.learning_rate for m in plan.plan()}
        assert rates == {0.01}
        with pytest.raises(TltoolError, match="fast is for --strategies off-the-shelf"):
            told(("fine-tune",), ("fast",))
        with pytest.raises(TltoolError, match="--members 3: off-the-shelf fits the same"):
            told(("off-the-shelf",), ("fast", "cnn-svm"), 3)

    def test_what_is_wrong_is_told_before_anything_is_trained(self, pair, tmp_path):
        data, _, _ = pair
        for given, said in (
            ({"settings": {"unfreeze": "block9"}}, "--unfreeze block9: cifar-resnet20 has"),
            ({"combine": "median"}, "Unknown --combine"),
            ({"soup": "tomato"}, "Unknown --soup"),
            ({"views": "augmented-4"}, "draws views at random"),
            ({"views": "nope"}, "nope"),
            ({"distill_into": "nope"}, "nope"),
            ({"settings": {"epochs": 0}}, "--epochs"),
            ({"settings": {"recipe": "fast"}}, "name recipes with --recipes"),
            ({"recipes": "nope"}, "nope"),
        ):
            with pytest.raises(TltoolError, match=said):
                tltool.ensemble(
                    data, backbones="cifar-resnet20", members=2, out=tmp_path / "out", **given
                )
        with pytest.raises(TltoolError, match="does not exist"):
            tltool.ensemble(
                tmp_path / "nothing", backbones="cifar-resnet20", members=2, out=tmp_path / "out"
            )
        with pytest.raises(TltoolError, match=r"runs/gone does not exist; give images"):
            tltool.ensemble("runs/gone", out=tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_nothing_to_combine(self):
        with pytest.raises(TltoolError, match="names lenet5 twice"):
            GrownSettings(("lenet5", "lenet5"))
        with pytest.raises(TltoolError, match="One member is no ensemble"):
            GrownSettings(("lenet5",)).plan()
        with pytest.raises(TltoolError, match="fits the same classifier each time"):
            GrownSettings(("lenet5",), ("off-the-shelf",), members=3).plan()


class TestSoups:
    @pytest.fixture
    def judged(self, monkeypatch):
        """Has each average that is tried judged a little better than the last, or worse."""
        monkeypatch.setattr("tltool.ensembles.members.too_few", lambda *_: False)
        losses_of, times = _Kitchen._judged, count(1)

        def by(step):
            def shifted(kitchen, arrays):
                losses, scores = losses_of(kitchen, arrays)
                return losses + step * next(times), scores

            monkeypatch.setattr(_Kitchen, "_judged", shifted)
            return times

        return by

    @pytest.mark.parametrize("kind", ["uniform", "greedy"])
    def test_weights_are_averaged(self, pair, grown, kind, tmp_path, judged):
        _, _, root = pair
        judged(-1.0)
        runs = [run.folder for run in grown[1]]
        found = tltool.ensemble(
            runs, out=tmp_path / "out", soup=kind, combine="mean", store=root / "store"
        )
        assert [m.strategy for m in found.members] == ["fine-tune", "fine-tune", "soup"]
        soup = tltool.Run(found.members[-1].run)
        choices = soup.facts["choices"]
        assert set(choices["tried"]) == {str(run) for run in runs}
        assert set(choices["ingredients"]) == set(choices["tried"])
        assert choices["log_loss"] < min(choices["tried"].values())
        used = [trained_arrays(run) for run in grown[1]]
        for mean, *each in zip(trained_arrays(soup), *used, strict=True):
            np.testing.assert_allclose(mean, np.mean(each, axis=0), atol=1e-6)
        said, _ = tltool.predict(soup.folder, sorted(pair[0].glob("*/1*.png")))
        assert all(0.3 < one.top[0][1] <= 1 for one in said)

    def test_a_network_that_is_there_twice_makes_no_soup(self, pair, grown, tmp_path, judged):
        """Such as where both ended as they began."""
        judged(-1.0)
        runs = [grown[1][0].folder, tmp_path / "again"]
        shutil.copytree(*runs)
        found = tltool.ensemble(
            runs, out=tmp_path / "out", soup="uniform", combine="mean", store=pair[2] / "store"
        )
        assert [m.strategy for m in found.members] == ["fine-tune", "fine-tune"]

    def test_too_few_images_make_no_soup(self, pair, grown, tmp_path):
        runs = [run.folder for run in grown[1]]
        found = tltool.ensemble(runs, out=tmp_path / "out", store=pair[2] / "store")
        assert [m.strategy for m in found.members] == ["fine-tune", "fine-tune"]

    def test_the_best_one_alone_is_no_soup(self, pair, grown, tmp_path, judged, caplog):
        """It would count twice."""
        times = judged(1.0)
        runs = [run.folder for run in grown[1]]
        out = tmp_path / "out"
        found = tltool.ensemble(
            runs, out=out, soup="greedy", combine="mean", store=pair[2] / "store"
        )
        assert next(times) == 4, "each of two was judged, and their average"
        assert [m.strategy for m in found.members] == ["fine-tune", "fine-tune"]
        assert "better alone than averaged" in caplog.text
        assert not (out / "members").exists()

    def test_batch_normalisation_is_shown_images_anew(self):
        """Where what it remembers differs, the average remembers what it sees."""
        backbone = Backbone("cifar-resnet20")
        first = tuple(backbone.network.get_weights())
        names = [w.path for w in backbone.network.weights]
        second = tuple(
            a + 0.5 if "moving_mean" in name else a for a, name in zip(first, names, strict=True)
        )
        pictures = [
            np.random.default_rng(i).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
            for i in range(3)
        ]
        same = normalised_anew(backbone, [first, first], first, iter(pictures))
        assert all(a is b for a, b in zip(same, first, strict=True))
        found = normalised_anew(backbone, [first, second], first, iter(pictures))
        stem = next(i for i, name in enumerate(names) if "moving_mean" in name)
        network = backbone.network
        (norm,) = (
            x for x in network.layers if x.weights and any(w.path == names[stem] for w in x.weights)
        )
        below = keras.Model(network.input, norm.input)
        given = np.concatenate([below.predict(p, verbose=0) for p in pictures])
        np.testing.assert_allclose(found[stem], given.mean(axis=(0, 1, 2)), atol=1e-4)
        assert all(np.array_equal(a, b) for a, b in zip(first, network.get_weights(), strict=True))


class TestSnapshots:
    def test_each_cycle_begins_where_the_last_one_ended(self, grown, tmp_path):
        run = grown[1][0]
        save_network(run, tmp_path / "end.safetensors")
        again = Backbone("cifar-resnet20", str(tmp_path / "end.safetensors")).network
        for a, b in zip(again.get_weights(), trained_arrays(run), strict=True):
            np.testing.assert_array_equal(a, b)
        plan = GrownSettings(("cifar-resnet20",), members=2, snapshots=2).plan()
        assert [(member.name, member.after) for member in plan] == [
            ("1-cifar-resnet20-fine-tune-cycle1", ""),
            ("1-cifar-resnet20-fine-tune-cycle2", "1-cifar-resnet20-fine-tune-cycle1"),
            ("2-cifar-resnet20-fine-tune-mixup-cycle1", ""),
            ("2-cifar-resnet20-fine-tune-mixup-cycle2", "2-cifar-resnet20-fine-tune-mixup-cycle1"),
        ]
        with pytest.raises(TltoolError, match="for --strategies fine-tune alone"):
            GrownSettings(("cifar-resnet20",), ("from-scratch",), snapshots=2)

    def test_a_command_waits_for_what_it_needs(self, tmp_path):
        begun = []

        def task(name, needs=""):
            note = partial(begun.append, name)
            return Task(name, ("--help",), tmp_path, tmp_path / f"{name}.log", 1.0, needs, note)

        run_tasks([task("b", needs="a"), task("a"), task("c")], 2)
        assert begun == ["a", "c", "b"]


class TestProcesses:
    def task(self, tmp_path, name, *arguments, memory=1.0):
        return Task(name, arguments, tmp_path / name, tmp_path / f"{name}.log", memory)

    def test_as_many_as_memory_allows(self, tmp_path, monkeypatch):
        tasks = [self.task(tmp_path, str(i), memory=3e9) for i in range(4)]
        monkeypatch.setattr("tltool.ensembles.processes.cores", lambda: 4)
        monkeypatch.setattr("tltool.ensembles.processes.gpus", lambda: 0)
        for room, expected in ((1e9, 1), (7e9, 2), (1e12, 4)):
            monkeypatch.setattr("tltool.ensembles.processes.available_memory", lambda r=room: r)
            assert places_for(tasks, None) == expected
        assert places_for(tasks, 3) == 3
        chain = [tasks[0], *(replace(t, needs=b.name) for b, t in pairwise(tasks))]
        assert places_for(chain, None) == 1
        monkeypatch.setattr("tltool.ensembles.processes.gpus", lambda: 2)
        assert places_for(tasks, None) == 2

    def test_a_failure_says_why_and_lets_the_others_end(self, tmp_path):
        tasks = [
            self.task(tmp_path, "wrong", "adapt", str(tmp_path / "nothing"), "--out", "x"),
            self.task(tmp_path, "right", "--help"),
        ]
        with pytest.raises(TltoolError, match="Member wrong failed: .*nothing"):
            run_tasks(tasks, 2)
        assert (tmp_path / "right.log").exists()


def test_settings_of_texts():
    found = settings_of(["epochs=5", "layer-decay=0.8", "norms=adapt", "tensorboard=true"])
    assert found == {"epochs": 5, "layer_decay": 0.8, "norms": "adapt", "tensorboard": True}
    assert settings_of(["learning-rate=auto"]) == {"learning_rate": "auto"}
    assert settings_of(["learning-rate=0.01"]) == {"learning_rate": "0.01"}
    for text, said in (
        ("epochs", "a name and a value"),
        ("epoch=5", "epochs"),
        ("epochs=many", "must be int"),
    ):
        with pytest.raises(TltoolError, match=said):
            settings_of([text])


def turned_classes(run, folder):
    """A copy of a run whose classes come in reverse."""
    shutil.copytree(run, folder)
    labels = json.loads((run / "labels.json").read_text())
    (folder / "labels.json").write_text(json.dumps(labels[::-1]))
    model = tltool.Run(run).model()
    last = model.get_layer("predictions")
    last.set_weights([np.ascontiguousarray(array[..., ::-1]) for array in last.get_weights()])
    model.save(folder / "model.keras")
    return folder
