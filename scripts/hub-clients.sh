#!/usr/bin/env bash
# Compares LARQL with the official client of the hub, both ways, against the loopback hub of the tests.
#
#   scripts/hub-clients.sh [LARQL [TEST_HUB [--speed MEGABYTES]]]
#
# The programs to use are target/debug/larql and target/debug/larql-test-hub if none are given. The client goes into a
# virtual environment under target.
set -euo pipefail
cd "$(dirname "$0")/.."
larql=${1:-target/debug/larql}
hub=${2:-target/debug/larql-test-hub}
environment=target/hub-clients
if [ ! -x "$environment/bin/python" ]; then
    python3 -m venv "$environment"
fi
"$environment/bin/pip" install --quiet --disable-pip-version-check 'huggingface_hub==2.4.0'
exec "$environment/bin/python" scripts/hub-clients.py "$larql" "$hub" "${@:3}"
