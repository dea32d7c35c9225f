#!/usr/bin/env python3
"""Summarises a JUnit report of nextest: the slowest tests, and those that skipped for want of a model.

    scripts/test-report.py target/nextest/ci/junit.xml [--no-skips]

With --no-skips, a test that printed a line `skipped: …` is an error.
"""

import argparse
import sys
import xml.etree.ElementTree as ElementTree

SHOWN = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report")
    parser.add_argument("--no-skips", action="store_true")
    arguments = parser.parse_args()

    tests = []
    skipped = []
    for suite in ElementTree.parse(arguments.report).getroot().iter("testsuite"):
        for case in suite.iter("testcase"):
            name = f"{suite.get('name')} {case.get('name')}"
            tests.append((float(case.get("time")), name))
            output = "".join(part.text or "" for part in case if part.tag in ("system-out", "system-err"))
            skipped += [f"{name}: {line}" for line in output.splitlines() if line.startswith("skipped:")]

    tests.sort(reverse=True)
    total = sum(seconds for seconds, _ in tests)
    print(f"{len(tests)} tests took {total:.0f} s together; the slowest:")
    for seconds, name in tests[:SHOWN]:
        print(f"  {seconds:6.1f} s  {name}")
    for line in skipped:
        print(line)
    if skipped and arguments.no_skips:
        sys.exit("error: tests were skipped; here everything must be present")


if __name__ == "__main__":
    main()
