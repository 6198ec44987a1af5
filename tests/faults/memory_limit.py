"""A limit of memory that a process gives itself.

It is RLIMIT_DATA, which takes no privilege: what the process may hold beyond what it holds already. A control group's
limit would count the page cache as well, which gives way by itself.
"""

import resource


def held_bytes() -> int:
    """What this process holds of private memory that it may write, threads and all."""
    with open("/proc/self/status") as status:
        [held_kb] = [int(line.split()[1]) for line in status if line.startswith("VmData:")]
    return held_kb << 10


def limit_memory(megabytes: int) -> None:
    """Lets this process hold so much more than it does now."""
    most = held_bytes() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
