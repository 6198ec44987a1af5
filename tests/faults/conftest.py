"""How much chaos there is, which `make chaos` sets; where runs live and die."""

from collections.abc import Iterator

import hypothesis
import lives
import pytest

# By its name: what it means for each test, `fuzzing.fuzz` says.
hypothesis.settings.register_profile("chaos")


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


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lives.Nursery]:
    with lives.nursery(tmp_path_factory.mktemp("lives"), ["whole_runs"]) as found:
        yield found
