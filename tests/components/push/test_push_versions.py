"""Versions under kill -9 and under concurrent pushes, each in a process of its own."""

import contextlib
import multiprocessing
import os
import signal
from pathlib import Path
from unittest import mock

import pytest
from push_saved_models import save_model, write_test_split

from components.push import publishing, versions
from components.push.comparison import Rule
from components.push.decision import push_model
from components.push.fingerprint import FINGERPRINT_FILE, fingerprint, model_files
from components.push.rivals import OvertakenError, again_if_overtaken
from components.push.versions import VersionedDirectory
from components.span_ingest.folder import LocalFolder

TIMEOUT_S = 60


@pytest.fixture(scope="module")
def processes():
    # Forked from a server that has imported the code but never run TensorFlow, which doesn't survive a fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["components.push.decision"])
    return context


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models")
    return [save_model(directory / str(mistakes), mistakes=mistakes) for mistakes in (2, 5)]


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "pushed"


def add_and_crown(model, destination):
    directory = VersionedDirectory(str(destination))
    with directory.exclusive():
        version = directory.find(fingerprint(model))
        if version is None:
            version = directory.add(model, model_fingerprint=fingerprint(model))
        directory.crown(version)


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_the_middle_of_file(number, copy_to_disk):
    copied = []

    def copy_and_perhaps_die(source, target):
        copied.append(target)
        copy_to_disk(source, target)
        if len(copied) == number:
            os.truncate(target, target.stat().st_size // 2)
            die()

    return copy_and_perhaps_die


def push_and_die(model, destination, moment):
    copying = die_in_the_middle_of_file(moment, publishing._copy_to_disk)
    patches = {
        "fingerprint": mock.patch.object(publishing, "_write_to_disk", die),
        "rename": mock.patch.object(Path, "rename", die),
        "pointer": mock.patch.object(LocalFolder, "swap", die),
    }
    with patches.get(moment) or mock.patch.object(publishing, "_copy_to_disk", copying):
        add_and_crown(model, destination)


def whole_versions(destination):
    return {int(path.name): fingerprint(str(path)) for path in destination.iterdir() if path.name.isdecimal()}


@pytest.mark.parametrize("moment", [1, 3, "fingerprint", "rename", "pointer"])
def test_killed_push_leaves_nothing_or_a_whole_version_and_the_next_completes_it(
    moment, processes, models, destination
):
    first, second = models
    add_and_crown(first, destination)
    child = processes.Process(target=push_and_die, args=(second, destination, moment))
    child.start()
    child.join(TIMEOUT_S)
    assert child.exitcode == -signal.SIGKILL

    whole = {1: fingerprint(first), 2: fingerprint(second)}
    assert whole_versions(destination) == (whole if moment == "pointer" else {1: whole[1]})
    assert VersionedDirectory(str(destination)).champion() == 1
    assert VersionedDirectory(str(destination)).versions() == sorted(whole_versions(destination))
    assert len(list(destination.glob(".incoming-*"))) == (moment != "pointer")

    add_and_crown(second, destination)
    assert whole_versions(destination) == whole
    assert VersionedDirectory(str(destination)).champion() == 2
    assert sorted(path.name for path in destination.iterdir()) == [".lock", "1", "2", "CHAMPION"]


def push_when_all_are_ready(barrier, results, model, test_split, destination):
    barrier.wait(TIMEOUT_S)
    decision = push_model(
        model, blessed=True, test_split_uri=test_split, destination=str(destination), rule=Rule(1.0)
    )
    results.put(decision)


def push_at_once(processes, models, tmp_path):
    barrier, results = processes.Barrier(len(models)), processes.Queue()
    test_split = write_test_split(tmp_path / "Split-test")
    children = [
        processes.Process(
            target=push_when_all_are_ready, args=(barrier, results, model, test_split, tmp_path / "pushed")
        )
        for model in models
    ]
    for child in children:
        child.start()
    decisions = [results.get(timeout=TIMEOUT_S) for _ in children]
    for child in children:
        child.join(TIMEOUT_S)
    return decisions


def test_concurrent_pushes_of_two_models_give_two_whole_versions(processes, models, tmp_path):
    decisions = push_at_once(processes, models, tmp_path)
    assert sorted(decision.version for decision in decisions) == ["1", "2"]
    assert set(whole_versions(tmp_path / "pushed").values()) == {fingerprint(model) for model in models}
    assert (tmp_path / "pushed" / "CHAMPION").read_text() == "2\n"


def test_concurrent_pushes_of_one_model_give_one_version(processes, models, tmp_path):
    decisions = push_at_once(processes, [models[0], models[0]], tmp_path)
    assert [decision.version for decision in decisions] == ["1", "1"]
    assert sorted(decision.reason.split(" as ")[0] for decision in decisions) == ["Already pushed", "Pushed"]
    assert list(whole_versions(tmp_path / "pushed")) == [1]


def announce_and_add(announced, model, destination):
    announced.set()
    add_and_crown(model, destination)


def test_push_waits_while_another_holds_the_directory(processes, models, destination):
    announced = processes.Event()
    child = processes.Process(target=announce_and_add, args=(announced, models[0], destination))
    with VersionedDirectory(str(destination)).exclusive():
        child.start()
        assert announced.wait(TIMEOUT_S)
        child.join(0.5)
        assert child.is_alive()
        assert not whole_versions(destination)
    child.join(TIMEOUT_S)
    assert child.exitcode == 0
    assert list(whole_versions(destination)) == [1]


def test_version_is_readable_by_others_as_the_umask_says(models, destination):
    add_and_crown(models[0], destination)
    (destination / "plain").mkdir()
    assert (destination / "1").stat().st_mode == (destination / "plain").stat().st_mode


def test_fingerprint_ignores_its_own_file_and_sees_content_and_names(tmp_path):
    for name in ("saved_model.pb", "variables/variables.index"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("content")
    original = fingerprint(str(tmp_path))
    (tmp_path / FINGERPRINT_FILE).parent.mkdir()
    (tmp_path / FINGERPRINT_FILE).write_text(original)
    assert fingerprint(str(tmp_path)) == original == fingerprint(f"{tmp_path}/")
    (tmp_path / "variables" / "variables.index").rename(tmp_path / "variables" / "other.index")
    renamed = fingerprint(str(tmp_path))
    (tmp_path / "saved_model.pb").write_text("another")
    assert len({original, renamed, fingerprint(str(tmp_path))}) == 3


@pytest.fixture
def object_store(destination):
    # Stands in for gs://: the code of object stores, on a local directory.
    directory = VersionedDirectory(str(destination))
    directory._is_remote = True
    return directory


def test_object_store_gets_the_model_file_last(object_store, models):
    copied = []
    copy = publishing.fileio.copy

    def record(source, target):
        copied.append(os.path.relpath(source, models[0]))
        copy(source, target)

    with mock.patch.object(publishing.fileio, "copy", record), object_store.exclusive():
        assert object_store.add(models[0], model_fingerprint=fingerprint(models[0])) == 1
        object_store.crown(1)
    assert copied[-1] == "saved_model.pb"
    assert sorted(copied) == model_files(models[0])
    assert object_store.find(fingerprint(models[0])) == 1
    assert object_store.champion() == 1


def test_number_of_a_half_written_version_on_an_object_store_is_never_used_again(object_store, models):
    def fail_at_the_model_file(source, target):
        if source.endswith("saved_model.pb"):
            raise ConnectionError("gone")

    with (
        mock.patch.object(publishing.fileio, "copy", fail_at_the_model_file),
        pytest.raises(ConnectionError),
        object_store.exclusive(),
    ):
        object_store.add(models[0], model_fingerprint=fingerprint(models[0]))
    assert object_store.versions() == []
    assert object_store.champion() is None
    with object_store.exclusive():
        assert object_store.add(models[0], model_fingerprint=fingerprint(models[0])) == 2
    assert object_store.versions() == [2]


def test_of_two_pushes_at_once_onto_an_object_store_each_has_a_version_of_its_own(object_store, models, destination):
    """The second one begins and ends after the first has looked for a number, before it has taken one."""
    first, second = models
    theirs = VersionedDirectory(str(destination))
    theirs._is_remote = True
    numbers, rival = versions.pointer.numbers, []

    def looked(path):
        found = numbers(path)
        if not rival:
            rival.append(None)
            rival[0] = theirs.add(second, model_fingerprint=fingerprint(second))
        return found

    with mock.patch.object(versions.pointer, "numbers", looked):
        ours = object_store.add(first, model_fingerprint=fingerprint(first))
    assert (ours, rival) == (2, [1])
    # As a server reads them: no file of the one among those of the other.
    assert whole_versions(destination) == {1: fingerprint(second), 2: fingerprint(first)}
    assert [object_store.find(fingerprint(model)) for model in models] == [2, 1]


def test_pointer_that_others_have_moved_meanwhile_stays_where_it_is(object_store, models, destination):
    with object_store.exclusive():
        object_store.crown(1)
    with object_store.exclusive():
        (destination / "CHAMPION").write_text("2\n")
        with pytest.raises(OvertakenError, match=r"others changed .*CHAMPION each time"):
            object_store.crown(3)
    assert (destination / "CHAMPION").read_text() == "2\n"


@pytest.mark.parametrize(("n_rivals", "ends"), [(4, True), (5, False)])
def test_push_that_is_overtaken_again_and_again_gives_up(n_rivals, ends):
    decisions = []

    @again_if_overtaken
    def decide(answer, *, path):
        decisions.append(answer)
        if len(decisions) <= n_rivals:
            raise OvertakenError(path)
        return answer

    with contextlib.nullcontext() if ends else pytest.raises(OvertakenError, match="Repeat it when they have ended"):
        assert decide("done", path="gs://bucket/CHAMPION") == "done"
    assert len(decisions) == 5


def test_url_is_kept_as_it_is():
    assert VersionedDirectory("gs://bucket/models/").path_of(3) == "gs://bucket/models/3"
