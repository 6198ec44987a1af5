"""A worker process of Beam, for `python -m pipeline.runners.beam_worker`; its start is most of a small job's time.

It is Beam's own worker. Only what it imports to be ready for uses that no node has is left out: 1.5 s of 2.5.
"""

import os
import sys

# Beam is written to do without: its connector to BigQuery, which brings even IPython, and its type hints for pandas.
_NOT_NEEDED_AT_START = ("apache_beam.io.gcp.bigquery", "pandas")


def main() -> None:
    """Works for the runner that started this process, until that closes the connection."""
    # By the import system's own rule, None stands for a module that cannot be found.
    sys.modules.update(dict.fromkeys(_NOT_NEEDED_AT_START))
    from apache_beam.runners.worker import sdk_worker_main

    # A node that does use one of them finds it.
    for name in _NOT_NEEDED_AT_START:
        del sys.modules[name]
    sdk_worker_main.main(sys.argv)
    sys.stdout.flush()
    sys.stderr.flush()
    # Beam waits for one worker after the other, and each would take its 1,400 modules apart.
    os._exit(0)


if __name__ == "__main__":
    main()
