"""`make test-next` without a Debian 13: when it is skipped or refused, and that no mount outlives its end."""

import os
import select
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASH = shutil.which("bash")
TOOLS = (
    "bash",
    "cat",
    "cp",
    "env",
    "flock",
    "git",
    "grep",
    "install",
    "mkdir",
    "mv",
    "realpath",
    "rm",
    "tail",
    "true",
    "xargs",
)


def script(path, *lines):
    path.unlink(missing_ok=True)  # never through a link into the machine's own tool
    path.write_text("\n".join([f"#!{BASH}", *lines, ""]))
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path):
    """A machine with all that is needed, whose debootstrap makes empty folders and whose chroot runs nothing."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in TOOLS:
        (tools / tool).symlink_to(shutil.which(tool))
    script(tools / "id", "echo 0")
    script(tools / "uname", "echo Linux x86_64")
    script(tools / "unshare", 'while [[ "$1" == --* || "$1" == private ]]; do shift; done', 'exec "$@"')
    script(tools / "debootstrap", f'echo "$@" >> {tmp_path}/debootstrapped; mkdir -p "${{@: -1}}"/{{dev,proc}}')
    script(tools / "mount", f'echo mount "$@" >> {tmp_path}/calls')
    script(tools / "chroot", f'printf "%s\\n" "$@" >> {tmp_path}/calls')
    source = tmp_path / "source"
    source.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=source, check=True)
    (source / ".gitignore").write_text("ignored\n")
    (source / "kept").write_text("1")
    (source / "ignored").write_text("2")
    subprocess.run(["git", "add", "kept"], cwd=source, check=True)
    return tmp_path


def run(machine, **environment):
    return subprocess.run(
        [BASH, str(ROOT / "tests" / "debian13.sh"), "../root", "make test"],
        cwd=machine / "source", env={"PATH": str(machine / "bin"), "HOME": str(machine), **environment},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def start(machine):
    return subprocess.Popen(
        [BASH, str(ROOT / "tests" / "debian13.sh"), "../root", "make test"],
        cwd=machine / "source", env={"PATH": str(machine / "bin"), "HOME": str(machine)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tool", "answer", "reason"),
    [
        ("id", "echo 1000", "only root"),
        ("uname", "echo Linux aarch64", "x86_64"),
        ("debootstrap", None, "debootstrap is missing"),
        ("unshare", "exit 1", "no mount namespaces"),
    ],
)
def test_what_is_missing_is_the_reason_for_skipping(machine, tool, answer, reason):
    (machine / "bin" / tool).unlink()
    if answer:
        script(machine / "bin" / tool, answer)
    done = run(machine)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("skipped: ") and reason in done.stdout
    assert not (machine / "root").exists()


def test_mac_whose_realpath_knows_no_option_is_skipped(machine):
    script(machine / "bin" / "uname", "echo Darwin arm64")
    script(machine / "bin" / "realpath", "echo 'realpath: illegal option -- m' >&2; exit 1")
    done = run(machine)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("skipped: ") and "this is Darwin arm64" in done.stdout


def test_command_runs_in_a_copy_of_the_tree_with_the_settings_of_the_index_and_no_others(machine):
    files = {name: str(machine / name.lower()) for name in ("SSL_CERT_FILE", "PIP_CERT", "PIP_CONFIG_FILE")}
    for name, path in files.items():
        Path(path).write_text(f"{name} of this machine")
    done = run(machine, PIP_INDEX_URL="https://index.test", SECRET="s", UV_CACHE_DIR="/c", **files)
    assert done.returncode == 0, done.stderr
    calls = (machine / "calls").read_text().splitlines()
    assert "cd /src && { make test; }; exit $?" in calls
    handed_over = {f"{name}={path}" for name, path in files.items()}
    assert {"PIP_INDEX_URL=https://index.test", "HOME=/root", *handed_over} <= set(calls)
    assert not [call for call in calls if call.startswith(("SECRET", "UV_CACHE_DIR"))]
    assert sorted(path.name for path in (machine / "root" / "src").iterdir()) == [".gitignore", "kept"]
    for name, path in files.items():
        assert Path(f"{machine}/root{path}").read_text() == f"{name} of this machine"


def test_second_call_makes_no_root_again_keeps_the_environment_and_takes_the_tree_anew(machine):
    run(machine)
    (machine / "root" / "src" / ".venv").mkdir()
    (machine / "source" / "kept").unlink()
    (machine / "source" / "new").write_text("3")
    assert run(machine).returncode == 0
    assert sorted(path.name for path in (machine / "root" / "src").iterdir()) == [".gitignore", ".venv", "new"]
    assert len((machine / "debootstrapped").read_text().splitlines()) == 1


def test_root_that_was_not_finished_is_made_again(machine):
    script(machine / "bin" / "debootstrap", 'mkdir -p "${@: -1}"; echo "E: no mirror"; exit 1')
    done = run(machine)
    assert done.returncode == 1 and "E: no mirror" in done.stdout
    script(
        machine / "bin" / "debootstrap", f'echo again >> {machine}/debootstrapped; mkdir -p "${{@: -1}}"/{{dev,proc}}'
    )
    assert run(machine).returncode == 0
    assert (machine / "debootstrapped").exists()


def test_no_mirror_is_a_reason_for_skipping(machine):
    script(
        machine / "bin" / "debootstrap", 'echo "E: Failed getting release file https://mirror.test/Release"; exit 1'
    )
    done = run(machine)
    assert done.returncode == 0 and "skipped: no mirror of Debian answers" in done.stdout


def test_exit_code_of_the_command_is_the_scripts(machine):
    script(machine / "bin" / "chroot", "exit 7")
    assert run(machine).returncode == 7


def test_second_call_is_refused_while_anything_runs_in_the_root(machine):
    """Also after the first one was killed, which leaves what it had started."""
    told, end = machine / "told", machine / "end"
    os.mkfifo(told)
    os.mkfifo(end)
    script(machine / "bin" / "chroot", f"exec 3> {told}", "echo runs >&3", f"cat {end}")
    process = start(machine)
    with told.open() as lines:
        assert lines.readline() == "runs\n"
        script(machine / "bin" / "chroot", "exit 0")
        refused = [run(machine)]
        process.kill()
        process.wait(timeout=10)
        refused.append(run(machine))
        end.write_text("")
        assert lines.read() == ""
    for done in refused:
        assert done.returncode == 1 and f"another call works in {machine}/root" in done.stderr
    assert len((machine / "debootstrapped").read_text().splitlines()) == 1
    assert run(machine).returncode == 0


def mounts_below(path):
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {path}/" in line]


def may_make_namespaces():
    unshare = shutil.which("unshare")
    return (
        unshare
        and not subprocess.run([unshare, "--mount", "--pid", "--fork", "true"], capture_output=True).returncode
    )


@pytest.mark.skipif(not may_make_namespaces(), reason="no mount namespaces may be made here")
@pytest.mark.parametrize("end", ["exit 0", "exit 3", "interrupt"])
def test_no_mount_and_no_process_is_left(machine, end):
    for tool in ("mount", "unshare"):
        (machine / "bin" / tool).unlink()
        (machine / "bin" / tool).symlink_to(shutil.which(tool))
    told = machine / "told"
    os.mkfifo(told)
    # What a pipe's reader sees last is that its writer is gone.
    script(
        machine / "bin" / "chroot",
        f"exec 3> {told}",
        "cat /proc/self/mountinfo >&3",
        "echo mounted >&3",
        "sleep 30" if end == "interrupt" else end,
    )
    (machine / "bin" / "sleep").symlink_to(shutil.which("sleep"))
    process = start(machine)
    with told.open() as lines:
        inside = "".join(iter(lines.readline, "mounted\n"))
        if end == "interrupt":
            process.send_signal(signal.SIGTERM)
        ended, _, _ = select.select([lines], [], [], 10)
        assert ended and lines.read() == ""
    assert process.wait(timeout=10) == {"exit 0": 0, "exit 3": 3, "interrupt": 130}[end]
    assert f" {machine}/root/dev " in inside and f" {machine}/root/proc " in inside
    assert mounts_below(machine / "root") == []
