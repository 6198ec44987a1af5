#!/usr/bin/env bash
# The report is tested in a real browser. Where Debian's packages can be had, this installs one; elsewhere the test
# says that it was skipped, or fails where CI=true.
set -euo pipefail
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing chromium for the report's test ..."
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
        >/dev/null 2>&1 || echo "chromium could not be installed: the report's browser test will be skipped"
else
    echo "no chromium here, and no right to install one: the report's browser test will be skipped"
fi
