#!/usr/bin/env bash
# Tries every operation of the server's description, /openapi.json, with right and wrong requests by schemathesis.
#
#   scripts/server-description.sh [LARQL] [MODEL]
#
# LARQL is the program to test; target/debug/larql if none is given. MODEL is a vindex that can chat; one that is extracted from
# SmolLM2 if none is given, where it was fetched.
set -euo pipefail
cd "$(dirname "$0")/.."
larql=${1:-target/debug/larql}
environment=target/schemathesis
if [ ! -x "$environment/bin/python" ]; then
    python3 -m venv "$environment"
fi
"$environment/bin/pip" install --quiet --disable-pip-version-check 'schemathesis>=4'
model=${2:-target/tmp/schemathesis.vindex}
gguf=~/.cache/larql-test-models/smollm2-135m-instruct.q4_1.gguf
if [ ! -e "$model" ]; then
    [ -e "$gguf" ] || { echo "skipped: there is no SmolLM2 on this machine"; exit 0; }
    "$larql" extract "$gguf" -o "$model" >/dev/null 2>&1
fi
log=$(mktemp)
"$larql" serve "$model" --port 0 --no-log --max-tokens 32 2>"$log" &
trap 'kill $!; rm -f "$log"' EXIT
until url=$(sed -n 's/^listening on //p' "$log") && [ -n "$url" ]; do sleep 0.1; done
"$environment/bin/schemathesis" --config-file scripts/schemathesis.toml run "$url/openapi.json" \
    --max-examples 5 --request-timeout 120 --seed 1
