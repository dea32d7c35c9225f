#!/usr/bin/env bash
# Drives the pages that LARQL shows in headless Chromium: the explorer of a server, and the page of an attribution graph.
#
#   scripts/browser-tests.sh [LARQL]
#
# LARQL is the program to test; target/debug/larql if none is given. Screenshots go to target/explorer and target/graph-page.
# Chromium is installed with apt-get where it is absent and this user may do so; otherwise the tests are skipped with a line.
set -euo pipefail
cd "$(dirname "$0")/.."
larql=${1:-target/debug/larql}
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$chromium" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null || true
    chromium=$(command -v chromium || true)
fi
if [ -z "$chromium" ]; then
    echo "skipped: there is no Chromium on this machine"
    exit 0
fi
environment=target/server-clients
if [ ! -x "$environment/bin/python" ]; then
    python3 -m venv "$environment"
fi
"$environment/bin/pip" install --quiet --disable-pip-version-check 'websockets>=13'
"$environment/bin/python" scripts/graph-page.py "$larql" "$chromium"
exec "$environment/bin/python" scripts/server-explorer.py "$larql" "$chromium"
