#!/usr/bin/env bash
# Makes the Python environment of the reference implementations that LARQL's answers are compared with: transformers on
# CPU, llama.cpp, and the official readers of GGUF and safetensors.
#
#     scripts/reference-environment.sh [transformers] [llama.cpp]     both, if neither is named
#
# It lies in the user's cache folder, takes 1.8 GB, and is left alone where it is complete. Needs Python 3.11 or later,
# a C and C++ compiler, binutils and PyPI. transformers takes two minutes; llama.cpp is built from source on one core at
# low priority, in about ten.
set -euo pipefail

folder="${XDG_CACHE_HOME:-$HOME/.cache}/larql-reference"
here="$(cd "$(dirname "$0")" && pwd)"
[ $# -gt 0 ] || set -- transformers llama.cpp

[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
pip() { "$folder/bin/python" -m pip --quiet "$@" --no-warn-conflicts; }
has() { "$folder/bin/python" -c "import $1" 2>/dev/null; }

has gguf && has safetensors || pip install numpy "gguf==0.19.0" safetensors

for part in "$@"; do
    case "$part" in
    transformers)
        if ! has transformers || ! has torch; then
            # The wheel of torch for Linux asks for gigabytes of GPU libraries that it never calls on a CPU.
            pip install --no-deps "torch==2.15.0"
            pip install "transformers==5.23.0" filelock typing-extensions sympy networkx jinja2 fsspec
            "$folder/bin/python" "$here/stand-in-for-gpu-libraries.py"
        fi
        # transformers reads GGUF files with it.
        has accelerate || pip install --no-deps accelerate psutil
        ;;
    llama.cpp)
        if ! has llama_cpp; then
            pip install cmake ninja scikit-build-core
            # Explicit instruction sets: what `native` finds depends on the machine, and AMX is not everywhere allowed.
            flags="-DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DLLAVA_BUILD=OFF -DGGML_AMX_TILE=OFF -DGGML_AMX_INT8=OFF"
            if grep -q avx512_vnni /proc/cpuinfo; then
                flags="$flags -DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON"
            fi
            CMAKE_BUILD_PARALLEL_LEVEL=1 CMAKE_ARGS="$flags" PATH="$folder/bin:$PATH" \
                nice -n 15 "$folder/bin/python" -m pip --quiet install --no-build-isolation "llama-cpp-python==0.3.36"
        fi
        ;;
    *)
        echo "unknown part: $part; expected transformers or llama.cpp" >&2
        exit 2
        ;;
    esac
done
"$folder/bin/python" --version
du -sh "$folder"
