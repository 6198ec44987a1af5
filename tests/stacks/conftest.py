"""Where the stacks leave what the other one is to read."""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("stacks").addoption("--shared", type=Path, help="folder that both stacks see, at the same path")


@pytest.fixture(scope="session")
def shared(pytestconfig) -> Path:
    """Absolute: the metadata of a run names the files of its artifacts by their paths."""
    return pytestconfig.getoption("--shared").resolve()
