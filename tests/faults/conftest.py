"""How much chaos there is: `make chaos` sets both."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--kills", type=int, default=70, help="of whole runs of the pipeline, at least")
    group.addoption("--chaos-seed", type=int, default=1, help="of the moments of the kills")


@pytest.fixture(scope="session")
def kills(pytestconfig) -> int:
    return pytestconfig.getoption("--kills", 70)


@pytest.fixture(scope="session")
def chaos_seed(pytestconfig) -> int:
    return pytestconfig.getoption("--chaos-seed", 1)
