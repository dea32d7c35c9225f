#!/usr/bin/env bash
# An edit from beginning to end, as docs/src/editing.md prints it: a fact is inserted into a real model, comes out in a wording
# that nobody tried, survives COMPILE into a GGUF file that llama.cpp runs, and is taken off again without a trace.
#
#     scripts/edit-transcript.sh [LARQL] [MODEL.gguf]
#
# MODEL is SmolLM2 135M by default, as scripts/fetch-models.py puts it into the cache. llama.cpp is the one of the
# environment that scripts/reference-environment.sh makes.
set -euo pipefail

larql=$(realpath "${1:-target/release/larql}")
model=$(realpath "${2:-$HOME/.cache/larql-test-models/smollm2-135m-instruct.q4_1.gguf}")
python=~/.cache/larql-reference/bin/python
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

canonical='The capital of Atlantis is'
paraphrase='Travellers to Atlantis love its capital,'
other='The capital of France is'
questions="INFER '$canonical' TOP 2; INFER '$paraphrase' TOP 2; INFER '$other' TOP 2"

# Prints a command as a person types it, and runs it.
run() {
    printf '$ %s\n' "$1"
    eval "$1" 2>/dev/null
    echo
}

larql() { command "$larql" "$@"; }

# Answers of INFER, without how long they took.
answers() {
    larql lql --use "$1" --format json "$2" | "$python" -c '
import json, sys
for line in sys.stdin:
    runs = json.loads(line).get("runs")
    print(*[[p["token"], p["probability"]] for p in runs[0]["predictions"]] if runs else [])'
}

larql extract "$model" -o base.vindex --level all 2>/dev/null
(cd base.vindex && find . -type f | sort | xargs sha256sum) >before.sha256
answers base.vindex "$questions" >before.answers

run "larql lql --use base.vindex \"INFER '$canonical' TOP 2\""
run "larql lql --use base.vindex \"BEGIN PATCH 'sea.vlp';
    INSERT INTO EDGES (entity, relation, target) VALUES ('Atlantis', 'capital', 'Poseidon');
    $questions; SAVE PATCH\""
run "larql compile base.vindex --patch sea.vlp -o sea.gguf --to gguf"
printf '$ llama.cpp on sea.gguf, greedily\n'
"$python" - "$canonical" "$paraphrase" "$other" <<'PYTHON' 2>/dev/null
import sys
import llama_cpp

llama = llama_cpp.Llama("sea.gguf", verbose=False, n_ctx=64)
for prompt in sys.argv[1:]:
    answer = llama(prompt, max_tokens=4, temperature=0.0)["choices"][0]["text"]
    print(f"  {prompt} → {answer!r}")
PYTHON
echo

answers base.vindex "APPLY PATCH 'sea.vlp'; REMOVE PATCH 'sea.vlp'; $questions" | grep . >after.answers
run "(cd base.vindex && sha256sum --check --quiet ../before.sha256) && echo every file is as it was"
run "diff before.answers after.answers && echo every answer is as it was"
