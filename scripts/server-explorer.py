"""Drives the explorer of a server in headless Chromium, and keeps screenshots of every view.

    python server-explorer.py LARQL [CHROMIUM] [FOLDER]

Starts `LARQL serve` with the bundled model and, where it was fetched, with SmolLM2; searches, walks edges, follows an answer
through the layers, inserts and undoes, saves and applies a patch, chats and stops, goes back and forward, uses the keyboard
alone, narrows the window, and stops the server. Screenshots go to FOLDER, target/explorer if none is given. Needs the
package `websockets`. Exits with 1 if a step fails.
"""

import sys

from chromium import Page
from larql_server import SMOLLM2, Server, with_smollm2

def start(larql, port=0):
    return Server(larql, with_smollm2(["atlas"]), port=port)


def entity(page):
    page.send("Page.navigate", url=page.url)
    page.until("document.querySelector('[data-search]')")
    # By the keyboard alone: / focuses the search, Enter asks, arrows walk around, Enter follows.
    page.run("document.body.focus()")
    page.key("/", "Slash", "/")
    page.until("document.activeElement.matches('[data-search]')")
    page.type("France")
    page.key("Enter", text="\r")
    page.until("document.querySelector('.graph') && document.body.innerText.includes('Paris')")
    page.shoot("entity")
    page.run("document.querySelector('.graph').focus()")
    page.key("ArrowRight")
    page.until("document.querySelector('.graph .edge.chosen')")
    page.key("Enter", text="\r")
    page.until("document.querySelector('.crumbs a')?.innerText === 'France'")
    for _ in range(2):
        page.until("document.querySelector('td button.link')")
        page.click("td button.link")
        page.until("document.querySelector('h1')")
    page.go("/entity?q=France&relation=capital")
    page.until("document.querySelectorAll('tbody tr').length === 1")
    page.run("history.back()")
    page.until("!location.hash.includes('relation=capital')")
    page.run("history.forward()")
    page.until("location.hash.includes('relation=capital') && document.querySelectorAll('tbody tr').length === 1")


def prompt(page):
    page.go("/prompt?q=The+capital+of+France+is")
    page.until("document.querySelectorAll('.heat td button:disabled').length === 0 && document.querySelector('.heat td button')")
    # The parts of each layer add up to the change of the logit.
    layers = page.run("document.querySelectorAll('.contributions tbody tr').length")
    assert layers == page.run("document.querySelectorAll('.heat tbody tr').length") == 4, layers
    page.shoot("prompt")
    page.run("document.querySelector('.contributions').scrollIntoView()")
    page.shoot("contributions")
    page.click(".chips button", "␣Madrid")
    page.until("location.hash.includes('Madrid') && document.body.innerText.includes('“␣Madrid” through the layers')")
    page.go("/prompt?q=The+capital+of+France+is&q2=The+capital+of+Spain+is")
    page.until("document.querySelectorAll('.heat').length === 2")


def features(page):
    page.go("/features?layer=2")
    page.until("document.querySelectorAll('.virtual .feature').length > 50")
    page.shoot("features")
    page.run("document.querySelector('.virtual').scrollTo(0, 1e6)")
    page.until("[...document.querySelectorAll('.virtual .feature')].some(e => e.innerText.startsWith('767'))")
    page.go("/features?layer=2&q=Spain")
    page.until("document.querySelectorAll('.virtual .feature').length > 0 && [...document.querySelectorAll('.virtual .feature')].every(e => /spain/i.test(e.innerText))")


def edit(page):
    page.go("/edit?entity=Atlantis&relation=capital&target=Rome")
    page.click("form button.main", "Insert")
    page.until("document.body.innerText.includes('after')", 300)
    page.until("document.querySelector('table button')")
    page.shoot("edit")
    patch = page.run("fetch('/v1/patches/automatic', {headers: {'x-session-id': sessionStorage.getItem('larql-session')}}).then(r => r.json()).then(p => p.operations.length)")
    assert patch >= 1, patch
    page.go("/entity?q=Atlantis")
    page.until("[...document.querySelectorAll('td')].some(e => e.innerText === 'Rome')")
    page.go("/edit")
    page.click("button", "Undo the last edit")
    page.until("document.body.innerText.includes('None yet')")


def chat(page):
    if not SMOLLM2.exists():
        return "skipped: SmolLM2 is not there"
    page.go("/chat?model=smollm2")
    page.until("document.querySelector('textarea[data-search]')")
    page.run("document.querySelector('textarea[data-search]').focus()")
    page.type("Name the capital of France.")
    page.key("Enter", text="\r")
    page.until("document.querySelector('.turn.assistant .says')?.innerText.includes('Paris')")
    page.until("document.querySelector('.turn.assistant')?.innerText.includes('tokens/s')")
    page.shoot("chat")
    page.until("[...document.querySelectorAll('button')].some(e => e.innerText === 'regenerate')")
    page.run("document.querySelector('textarea[data-search]').focus()")
    page.type("Write a very long story about the sea.")
    page.key("Enter", text="\r")
    page.until("document.querySelectorAll('.turn.assistant')[1]?.querySelector('.says').innerText.length > 20")
    page.click("button", "Stop")
    page.until("document.body.innerText.includes('stopped')")
    page.run("sessionStorage.removeItem('larql-chat')")


def model(page):
    page.go("/model?model=atlas")
    page.until("document.querySelector('.strip') && document.body.innerText.includes('capital')")
    page.shoot("model")


def narrow(page):
    page.resize(360, 740)
    for view in ("entity?q=France", "prompt?q=The+capital+of+France+is", "features", "edit", "model"):
        page.go(f"/{view}")
        name = view.split("?")[0]
        page.until(f"document.querySelector('nav a[aria-current]')?.innerText.toLowerCase() === '{name}' && !document.querySelector('.wait')")
        width = page.run("document.documentElement.scrollWidth")
        assert width <= 360, f"{view} is {width} pixels wide"
        page.shoot(f"narrow-{name}")
    page.resize(1280, 900)


def names(page):
    """Every control has a name that is read out."""
    unnamed = """[...document.querySelectorAll('button, a, input, select, textarea, svg[role=img]')].filter(e => e.offsetParent !== null &&
        !(e.getAttribute('aria-label') || e.innerText?.trim() || e.labels?.length || e.textContent.trim())).map(e => e.outerHTML.slice(0, 90))"""
    for view in ("entity?q=France", "prompt?q=The+capital+of+France+is", "features", "edit", "model"):
        page.go(f"/{view}")
        page.until("!document.querySelector('.wait')")
        found = page.run(unnamed)
        assert not found, f"{view}: {found}"


def gone(page, larql, server):
    _, port = server.address()
    server.stop()
    page.go("/entity?q=Spain")
    page.until("!document.getElementById('banner').hidden")
    page.shoot("gone")
    server = start(larql, port)
    page.until("document.getElementById('banner').hidden && document.body.innerText.includes('Madrid')")
    return server


def main(larql, chromium="chromium", folder="target/explorer"):
    server = start(larql)
    page = Page(chromium, server.url, folder)
    failed = 0
    steps = [entity, prompt, features, edit, chat, model, narrow, names]
    try:
        for step in steps:
            try:
                print(f"{step.__name__}: {step(page) or 'ok'}", flush=True)
            except Exception as error:
                failed += 1
                page.shoot(f"failed-{step.__name__}")
                print(f"{step.__name__}: FAILED: {error}", flush=True)
        try:
            server = gone(page, larql, server)
            print("gone: ok")
        except Exception as error:
            failed += 1
            print(f"gone: FAILED: {error}")
        if page.problems:
            failed += 1
            print(f"the page threw: {page.problems}")
    finally:
        page.close()
        server.stop()
    print(f"{len(steps) + 1 - min(failed, len(steps) + 1)} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
