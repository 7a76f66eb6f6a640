"""The house's rules: imports point down only, and light commands load nothing heavy."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tltool

PACKAGE = Path(tltool.__file__).parent

# From the ground up; modules in one row are peers and never import each other.
LAYERS = (
    ("_validation", "_clock", "_cores", "_files", "_progress", "_keras"),
    ("_presets",),
    ("data", "backbones"),
    (
        "changes",
        "features",
        "label_errors",
        "layout",
        "linear",
        "metrics",
        "similarity",
        "transferability",
    ),
    ("training", "domain", "learning_curve", "comparison", "combining", "layer_facts"),
    ("advice",),
    (
        "advisor",
        "filters",
        "layer_probes",
        "looked_at",
        "map_taps",
        "maximal",
        "merging",
        "receptive_fields",
        "saliency",
    ),
    ("strategies", "evaluation", "doctor"),
    ("evidence",),
    ("settings", "results", "predictor"),
    ("race",),
    ("advising",),
    ("image_estimator", "feature_tables", "runs"),
    ("comparing", "run_features", "teachers", "trained_networks"),
    ("report",),
    ("reporting",),
    (
        "classifier",
        "explaining",
        "feature_extractor",
        "gallery",
        "inference",
        "label_checking",
        "layer_atlas",
        "looking",
        "mapping",
        "workflow",
    ),
    ("ensembles", "ensemble_classifier"),
    ("demo", "display"),
    ("cli",),
)
HEIGHT = {name: height for height, row in enumerate(LAYERS) for name in row}
GROUND = set(LAYERS[0])


def unit(parts: tuple[str, ...]) -> str:
    """The module or subpackage directly below tltool that a path or import belongs to."""
    return parts[0].removesuffix(".py")


def tltool_imports(source: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: write imports in full"
            names = [
                f"{node.module}.{a.name}" if node.module == "tltool" else str(node.module)
                for a in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("tltool.")}
    return found


SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(source):
    own = unit(source.relative_to(PACKAGE).parts)
    assert own in HEIGHT, f"{own} has no place in LAYERS"
    for other in tltool_imports(source) - {own, "presets", "__version__"}:
        allowed = HEIGHT[other] < HEIGHT[own] or (own in GROUND and other in GROUND)
        assert allowed, (
            f"{source.relative_to(PACKAGE)} imports tltool.{other}, which is not below it"
        )


@pytest.mark.parametrize(
    "code",
    [
        "import tltool; tltool.__all__",
        "import sys; sys.argv = ['tltool', '--help']\nfrom tltool.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code",
        "import tltool; tltool.adapt, tltool.predict, tltool.check",
        "import tltool.advisor; tltool.advisor.advise_on",
    ],
    ids=["import", "help", "names", "advisor"],
)
def test_nothing_heavy_is_loaded(code):
    heavy = {"tensorflow", "keras", "sklearn", "openvino", "matplotlib", "pyarrow"}
    check = f"\nimport sys\nloaded = {heavy!r} & set(sys.modules)\nassert not loaded, loaded"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    for name in tltool.__all__:
        assert getattr(tltool, name) is not None
    with pytest.raises(AttributeError):
        _ = tltool.no_such_name


def test_no_public_name_is_a_module():
    modules = {p.stem for p in PACKAGE.iterdir()}
    assert not modules & set(tltool.__all__)


def test_every_package_is_installed():
    """What pyproject.toml leaves out is missing from a wheel, and from no editable install."""
    root = PACKAGE.parent
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [p.parent for top in ("tltool", "presets") for p in (root / top).rglob("__init__.py")]
    names = {".".join(folder.relative_to(root).parts) for folder in folders}
    assert set(listed) == {
        "tltool." + name if name.split(".")[0] == "presets" else name for name in names
    }
