"""What keeps the parts apart: the direction of imports, Keras by its own name, modules that fit a reader's head."""

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PACKAGES = ("trainer", "components", "pipeline")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_MODULE_LINES = 400
RUNNERS = "pipeline.runners"
ENTRY_POINTS = {
    "pipeline.cli",
    "pipeline.cli_cloud",
    "pipeline.cli_models",
    "pipeline.cli_schedules",
    "pipeline.cli_session",
    "pipeline.__main__",
}  # they choose a runner, so they stand above them
ORCHESTRATION = ("tfx", "apache_beam", "kfp", "tensorflow_transform", "tfx_bsl", "ml_metadata", "tensorflow_metadata")
INSTALLED_AS = {"sklearn": "scikit-learn", "tf_keras": "tf-keras", "yaml": "pyyaml"}


@pytest.fixture(scope="module")
def direct_imports():
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    return [
        (importer, imported)
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
    ]


def within(module, package):
    return module == package or module.startswith(f"{package}.")


def offending(direct_imports, importer_package, *imported_packages):
    return [
        (importer, imported)
        for importer, imported in direct_imports
        if within(importer, importer_package) and any(within(imported, package) for package in imported_packages)
    ]


def test_graph_holds_every_module(direct_imports):
    assert ("trainer.stages", "trainer.losses") in direct_imports
    assert ("pipeline.pipeline", "components.push.component") in direct_imports


def test_trainer_imports_neither_components_nor_pipeline(direct_imports):
    assert offending(direct_imports, "trainer", "components", "pipeline") == []


def test_components_do_not_import_the_pipeline(direct_imports):
    assert offending(direct_imports, "components", "pipeline") == []


def test_pipeline_takes_nothing_but_the_configuration_from_the_trainer(direct_imports):
    imported = {imported for _, imported in offending(direct_imports, "pipeline", "trainer")}
    assert imported == {"trainer.config"}


def test_pipeline_does_not_import_its_runners(direct_imports):
    importers = {importer for importer, _ in offending(direct_imports, "pipeline", RUNNERS)}
    assert {importer for importer in importers if not within(importer, RUNNERS)} <= ENTRY_POINTS


def test_trainer_runs_without_the_orchestration():
    program = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ORCHESTRATION!r} + ("components", "pipeline"):
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocked())
import importlib, pkgutil, trainer
for module in pkgutil.walk_packages(trainer.__path__, "trainer."):
    if not module.name.endswith("__main__"):
        print(importlib.import_module(module.name).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"trainer.stages", "trainer.export", "trainer.probes"} <= set(done.stdout.split())


def imported_distributions(package):
    """What the modules of a package import from others, by the names that installers know."""
    names = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    third_party = names - set(sys.stdlib_module_names) - set(PACKAGES)
    return {INSTALLED_AS.get(name, name) for name in third_party}


def test_trainer_is_installed_with_all_that_it_imports_and_nothing_of_the_pipeline():
    requirements = map(Requirement, importlib.metadata.requires("simclr-pipeline"))
    # Markers tell the two stacks, too; those of the pipeline name its extra. TensorBoard is imported by tf.summary.
    assert imported_distributions("trainer") | {"tensorboard"} == {
        needed.name for needed in requirements if not needed.marker or needed.marker.evaluate({"extra": ""})
    }


def keras_by_another_name(tree):
    """Lines that reach Keras through TensorFlow, or as the `keras` package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "keras" and isinstance(node.value, ast.Name):
            yield node.lineno
        if isinstance(node, ast.Import) and any(
            alias.name.split(".")[0] == "keras" or alias.name.startswith("tensorflow.keras") for alias in node.names
        ):
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module:
            of_tensorflow = node.module == "tensorflow" and any(alias.name == "keras" for alias in node.names)
            if of_tensorflow or node.module.startswith("tensorflow.keras") or node.module.split(".")[0] == "keras":
                yield node.lineno


@pytest.mark.parametrize(
    "line",
    [
        "tf.keras.layers.Dense(1)",
        "import tensorflow.keras as k",
        "import keras",
        "from tensorflow import keras",
        "from tensorflow.keras import layers",
        "from keras.layers import Dense",
    ],
)
def test_keras_by_another_name_is_found(line):
    assert list(keras_by_another_name(ast.parse(line))) == [1]


def test_keras_is_always_tf_keras():
    found = [f"{path}:{line}" for path in SOURCES for line in keras_by_another_name(ast.parse(path.read_text()))]
    assert found == []


def test_modules_are_short_enough_to_be_read():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > MAX_MODULE_LINES} == {}
