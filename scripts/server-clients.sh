#!/usr/bin/env bash
# Drives a real server with the official clients of the interfaces that it speaks: openai, ollama, mcp, websockets and
# grpcio.
#
#   scripts/server-clients.sh [LARQL]
#
# LARQL is the program to test; target/debug/larql if none is given. The clients go into a virtual environment under target.
set -euo pipefail
cd "$(dirname "$0")/.."
larql=${1:-target/debug/larql}
environment=target/server-clients
if [ ! -x "$environment/bin/python" ]; then
    python3 -m venv "$environment"
fi
"$environment/bin/pip" install --quiet --disable-pip-version-check \
    'openai>=2' 'ollama>=0.5' 'mcp>=2' 'websockets>=13' 'grpcio>=1.60' 'grpcio-tools>=1.60'
exec "$environment/bin/python" scripts/server-clients.py "$larql"
