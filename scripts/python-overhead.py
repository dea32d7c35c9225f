#!/usr/bin/env python3
"""Measures what a call from Python costs beside the work itself.

    PYTHONPATH=target/python python3 scripts/python-overhead.py "cargo run --quiet --example statement_times -p larql-session"

The command prints the times of the same statements in Rust, of the same build. The shortest times are compared: other work on
the machine only adds. `embedding` is compared with nothing, as its work is the decoding of one row.
"""

import subprocess
import sys
import time

import larql

CALLS = 100


def shortest(call):
    """Returns the shortest and the median time of a call, in microseconds."""
    times = []
    for number in range(2 * CALLS):
        begun = time.perf_counter()
        call()
        if number >= CALLS:
            times.append((time.perf_counter() - begun) * 1e6)
    times.sort()
    return times[0], times[CALLS // 2]


def main(command):
    printed = subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout
    in_rust = [tuple(map(float, line.split()[:2])) for line in printed.splitlines()]
    vindex = larql.load("atlas")
    session = vindex.session
    calls = [
        ("infer", lambda: session.infer("The capital of France is", top=5)),
        ("describe", lambda: session.describe("France")),
        ("status", lambda: session.query("SHOW COMPACT STATUS")),
        ("embedding", lambda: vindex.embedding(17)),
    ]
    print("call        Rust, shortest and median   Python, shortest and median   difference of the shortest")
    for index, (name, call) in enumerate(calls):
        rust = in_rust[index] if index < len(in_rust) else (0.0, 0.0)
        python = shortest(call)
        difference = python[0] - rust[0]
        share = f"{difference / rust[0]:.1%}" if rust[0] else ""
        print(f"{name:10} {rust[0]:10.1f} {rust[1]:10.1f} µs {python[0]:12.1f} {python[1]:10.1f} µs {difference:14.1f} µs {share}")


if __name__ == "__main__":
    main(sys.argv[1])
