"""Drives the page of an attribution graph in headless Chromium: follows, pins, groups and ungroups nodes.

    python graph-page.py LARQL [CHROMIUM] [FOLDER]

`LARQL trace` writes the page for the bundled model. Screenshots go to FOLDER, target/graph-page if none is given. Needs the
package `websockets`. Exits with 1 if a step fails.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from chromium import Page

NODES = "[...document.querySelectorAll('.node')]"
EDGES = "[...document.querySelectorAll('.edge')]"


def count(page, script):
    return page.run(f"{script}.length")


def has(condition, problem):
    if not condition:
        raise AssertionError(problem)


def heads(page):
    """The ids of two heads, which may be grouped."""
    found = page.run(f"{NODES}.filter(node => /^L\\d+ H/.test(node.getAttribute('aria-label'))).map(node => node.dataset.id)")
    has(len(found) >= 2, f"expected heads among the nodes, found {len(found)}")
    return found[:2]


def press(page, node, key="Enter"):
    page.run(f"document.querySelector('.node[data-id=\"{node}\"]').focus()")
    page.key(key)


def draws(page):
    has(count(page, NODES) > 10 and count(page, EDGES) > 10, "expected nodes and edges")
    has(count(page, f"{EDGES}.filter(edge => edge.classList.contains('faded'))") == 0, "expected no edge to be faded at first")


def follows(page):
    """A node in focus shows its own edges and its figures."""
    first, _ = heads(page)
    page.run(f"document.querySelector('.node[data-id=\"{first}\"]').focus()")
    page.until("document.getElementById('details').innerText.includes('influence')")
    others = f"{EDGES}.filter(edge => ![edge.dataset.source, edge.dataset.target].includes('{first}'))"
    has(page.run(f"{others}.every(edge => edge.classList.contains('faded'))"), "expected the edges of other nodes to fade")
    own = f"{EDGES}.filter(edge => [edge.dataset.source, edge.dataset.target].includes('{first}'))"
    has(page.run(f"{own}.every(edge => !edge.classList.contains('faded'))"), "expected the node's edges to stay")
    # The list beside the graph leads on to a neighbour.
    page.click("#details li button")
    page.until(f"document.activeElement.classList.contains('node') && document.activeElement.dataset.id !== '{first}'")


def pins_and_groups(page):
    nodes = count(page, NODES)
    for head in heads(page):
        press(page, head)
    page.until("document.querySelectorAll('.node.pinned').length === 2")
    page.click("#group")
    page.until("[...document.querySelectorAll('.node')].some(node => node.getAttribute('aria-label').startsWith('group of 2'))")
    has(count(page, NODES) == nodes - 1, "expected one node in the place of two")
    page.shoot("grouped")
    page.click("#ungroup")
    page.until(f"document.querySelectorAll('.node').length === {nodes}")


def unpins(page):
    press(page, heads(page)[0], key=" ")
    page.until("document.querySelectorAll('.node.pinned').length === 1")
    page.click("#unpin")
    page.until("document.querySelectorAll('.node.pinned').length === 0")


def main(larql, chromium="chromium", folder="target/graph-page"):
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "graph.html"
        subprocess.run([larql, "trace", "atlas", "The capital of France is", "--graph", file], check=True, stdout=subprocess.DEVNULL)
        page = Page(chromium, file.as_uri(), folder)
        failed = 0
        try:
            page.send("Page.navigate", url=page.url)
            page.until("document.querySelector('.node')")
            for step in [draws, follows, pins_and_groups, unpins]:
                try:
                    step(page)
                    print(f"{step.__name__}: ok", flush=True)
                except Exception as error:
                    failed += 1
                    page.shoot(f"failed-{step.__name__}")
                    print(f"{step.__name__}: FAILED: {error}", flush=True)
            if page.problems:
                failed += 1
                print(f"the page threw: {page.problems}")
        finally:
            page.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
