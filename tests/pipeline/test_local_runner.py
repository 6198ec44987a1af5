"""Parts of the pipeline that cannot run: refused in words, before any node has begun."""

import io

import pytest
from rich.console import Console

from pipeline import preflight
from pipeline.config import load_config
from pipeline.runners import local
from pipeline.runners.run_folder import RunFolderError, only_run_into
from trainer.config import ConfigError


@pytest.fixture
def run(class_folders, tmp_path):
    config = load_config(None, [f"data.labeled={class_folders}", f"output={tmp_path / 'run'}"])
    fingerprints = {name: look.fingerprint for name, look in preflight.inspect(config).items()}

    def run(**nodes):
        local.run(config, fingerprints, console=Console(file=io.StringIO()), **nodes)

    return run


def test_last_node_before_the_first_is_refused_with_both_names(run):
    with pytest.raises(ConfigError, match=r"nothing runs from Report to Pretrain: the second does not depend"):
        run(from_node="Report", to_node="Pretrain")


@pytest.mark.parametrize("nodes", [{"from_node": "Nowhere"}, {"to_node": "Nowhere"}])
def test_node_that_is_not_there_is_refused_with_the_names_that_are(run, nodes):
    with pytest.raises(ConfigError, match=r"there is no node 'Nowhere'; the nodes are .*FineTune-10pct"):
        run(**nodes)


def test_part_whose_inputs_were_never_made_says_what_to_run(run):
    with pytest.raises(ConfigError, match=r"LinearEval needs the results of the nodes before it.*an earlier node"):
        run(from_node="LinearEval", to_node="LinearEval")


def test_run_into_a_folder_that_another_one_is_in_begins_nothing(run, tmp_path):
    output = tmp_path / "run"
    output.mkdir()
    with only_run_into(output), pytest.raises(RunFolderError, match="another run"):
        run()
    assert {path.name for path in output.iterdir()} == {".lock"}


def test_run_over_damaged_metadata_begins_nothing(run, tmp_path):
    output = tmp_path / "run"
    output.mkdir()
    (output / "metadata.sqlite").write_bytes(b"no database " * 100)
    with pytest.raises(RunFolderError, match="is damaged"):
        run()
    assert {path.name for path in output.iterdir()} == {".lock", "metadata.sqlite"}
