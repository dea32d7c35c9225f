"""What an operator counts on, tried on a real server: TLS, many connections of every kind, flat memory, files that stay.

    python server-operation.py LARQL [--seconds 60] [--connections 256] [--requests 10000]

Starts `LARQL serve` with the bundled model. Needs the program openssl and the packages grpcio and grpcio-tools. Exits with 1
if something does not hold.
"""

import argparse
import asyncio
import hashlib
import http.client
import json
import random
import ssl
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
from pathlib import Path

from larql_server import Server

PROMPT = "The capital of France is"

# Bodies and addresses that are wrong, each with the statuses that it may be answered with.
MALFORMED = [
    ("POST", "/v1/chat/completions", b"{", {400}),
    ("POST", "/v1/chat/completions", b'{"messages": 3}', {400}),
    ("POST", "/v1/chat/completions", b'{"messages": [{"role": "robot", "content": "a"}]}', {400}),
    ("POST", "/v1/completions", b'{"prompt": "a", "max_tokens": -1}', {400}),
    ("POST", "/v1/completions", b'{"prompt": "a", "temperature": "hot"}', {400}),
    ("POST", "/v1/completions", b'{"prompt": [999999999]}', {400}),
    ("POST", "/v1/completions", b'{"prompt": "a", "model": "none"}', {404}),
    ("POST", "/v1/infer", b'{"prompt": "", "top": 5}', {400}),
    ("POST", "/v1/infer", b'{"prompt": "a", "top": 0}', {400}),
    ("POST", "/v1/lql", b'{"query": "SELECT SELECT"}', {400}),
    ("POST", "/v1/lql", b'{"query": "EXTRACT MODEL \\"a\\" INTO \\"b\\""}', {403}),
    ("POST", "/v1/select", b"\xff\xfe", {400}),
    ("GET", "/v1/describe", b"", {400}),
    ("GET", "/v1/describe?entity=France&limit=many", b"", {400}),
    ("GET", "/v1/walk?prompt=a&layers=9-x", b"", {400}),
    ("GET", "/nowhere", b"", {404}),
    ("DELETE", "/v1/infer", b"", {405}),
]


def resident(server):
    """Bytes of memory that a server has in use."""
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def stop_cleanly(server):
    """Ends a server, which has to end with 0."""
    if (code := server.stop()) != 0:
        raise AssertionError(f"expected the server to end with 0, found {code}")


async def request(address, method, path, body=b"", pause=0.0):
    """Sends a request on a connection of its own, with a pause in its middle; returns the status and the body."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        head = f"{method} {path} HTTP/1.1\r\nHost: {address[0]}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        whole = head + body
        middle = len(whole) // 2
        writer.write(whole[:middle])
        await writer.drain()
        await asyncio.sleep(pause)
        writer.write(whole[middle:])
        await writer.drain()
        answer = await reader.read()
        status = int(answer.split(maxsplit=2)[1])
        return status, answer.partition(b"\r\n\r\n")[2]
    finally:
        writer.close()


def tls(larql, _):
    """HTTPS and gRPC with a certificate that openssl makes; without TLS the port does not answer."""
    import grpc

    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
        server = Server(larql, ["atlas"], "--tls-cert", str(certificate), "--tls-key", str(key))
        try:
            trust = ssl.create_default_context(cafile=certificate)
            with urllib.request.urlopen(f"{server.url}/v1/describe?entity=France", context=trust) as answer:
                assert json.load(answer)["edges"]
            try:
                urllib.request.urlopen(f"{server.url}/v1/health", context=ssl.create_default_context())
                raise AssertionError("a certificate that nobody vouches for was taken")
            except urllib.error.URLError as error:
                assert isinstance(error.reason, ssl.SSLError), error
            try:
                urllib.request.urlopen(server.url.replace("https", "http") + "/v1/health", timeout=10)
                raise AssertionError("the port answers without TLS")
            except (OSError, http.client.HTTPException):
                pass
            channel = grpc.secure_channel(server.grpc, grpc.ssl_channel_credentials(certificate.read_bytes()))
            health = channel.unary_unary("/vindex.VindexService/Health")
            assert b"ok" in health(b"", timeout=30)
        finally:
            stop_cleanly(server)
    return "https and grpc"


def clients_that_go_away(larql, _):
    """Clients that close or reset their connection while an answer comes end nothing but their own request."""
    server = Server(larql, ["atlas"])
    address = server.address()

    async def one(moment):
        _, writer = await asyncio.open_connection(*address)
        body = json.dumps({"prompt": PROMPT, "max_tokens": 200, "stream": True}).encode()
        writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        await asyncio.sleep(moment)
        writer.transport.abort()

    async def all_of_them():
        for _ in range(5):
            await asyncio.gather(*(one(number * 0.01) for number in range(60)))

    try:
        asyncio.run(all_of_them())
        status, _ = asyncio.run(request(address, "GET", "/v1/health"))
        assert status == 200, status
    finally:
        stop_cleanly(server)
    return "300 connections"


def connections(larql, options):
    """Connections of every kind at once: each gets its answer, and health is never blocked."""
    server = Server(larql, ["atlas"])
    address, end = server.address(), time.monotonic() + options.seconds
    counts, healths = {"good": 0, "generated": 0, "malformed": 0, "slow": 0, "gone": 0}, []

    async def one(number):
        choose = random.Random(number)
        while time.monotonic() < end:
            kind = choose.choices(list(counts), [60, 5, 25, 8, 2])[0]
            if kind == "good":
                status, body = await request(address, "GET", f"/v1/describe?entity={choose.choice(['France', 'Japan', 'Peru'])}")
                assert status == 200 and json.loads(body)["model"] == "atlas", (status, body)
            elif kind == "generated":
                body = json.dumps({"prompt": PROMPT, "max_tokens": choose.randint(1, 40), "temperature": 0}).encode()
                status, body = await request(address, "POST", "/v1/completions", body)
                assert (status == 200 and "Paris" in json.loads(body)["choices"][0]["text"]) or status == 503, (status, body)
            elif kind == "malformed":
                method, path, body, expected = choose.choice(MALFORMED)
                status, answer = await request(address, method, path, body)
                assert status in expected and json.loads(answer)["error"], (path, status, answer)
            elif kind == "slow":
                status, _ = await request(address, "GET", "/v1/stats", pause=choose.uniform(0.5, 3))
                assert status == 200, status
            else:
                # A client that asks and goes away.
                _, writer = await asyncio.open_connection(*address)
                body = json.dumps({"prompt": PROMPT, "max_tokens": 500}).encode()
                writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
                await asyncio.sleep(0.05)
                writer.transport.abort()
            counts[kind] += 1

    async def watch():
        while time.monotonic() < end:
            begun = time.perf_counter()
            status, _ = await request(address, "GET", "/v1/health")
            assert status == 200, status
            healths.append(time.perf_counter() - begun)
            await asyncio.sleep(0.1)

    async def all_of_them():
        await asyncio.gather(watch(), *(one(number) for number in range(options.connections)))

    try:
        asyncio.run(all_of_them())
        text = urllib.request.urlopen(f"{server.url}/metrics").read().decode()
        assert "larql" in text
    finally:
        stop_cleanly(server)
    healths.sort()
    total = sum(counts.values())
    return f"{options.connections} connections, {options.seconds} s: {total} requests answered, {counts}; health p99 {healths[len(healths) * 99 // 100] * 1e3:.0f} ms, longest {healths[-1] * 1e3:.0f} ms"


def memory(larql, options):
    """Resident memory after the last requests, against that after a tenth of them."""
    server = Server(larql, ["atlas"])
    address = server.address()

    async def ask(count, first):
        places = asyncio.Semaphore(16)

        async def one(number):
            async with places:
                if number % 10 == 0:
                    body = json.dumps({"prompt": f"The number {number} and the capital of France", "max_tokens": 8}).encode()
                    status, answer = await request(address, "POST", "/v1/completions", body)
                else:
                    status, answer = await request(address, "GET", f"/v1/describe?entity=city{number}")
                assert status == 200, (status, answer)

        await asyncio.gather(*(one(number) for number in range(first, first + count)))

    try:
        tenth, sizes = options.requests // 10, []
        for first in range(0, 10 * tenth, tenth):
            asyncio.run(ask(tenth, first))
            sizes.append(resident(server))
    finally:
        stop_cleanly(server)
    # What the allocator keeps moves up and down by some per cent; what leaks would raise the least of the last sizes too.
    early, late = sizes[0], min(sizes[-3:])
    table = " ".join(f"{size / 1e6:.1f}" for size in sizes)
    assert late <= early * 1.02, f"MB after each {tenth} requests: {table}"
    return f"MB after each {tenth} requests: {table}; {late / early:.3f}"


def killed(larql, _):
    """A server that is killed under load leaves every file as it was."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.vindex"
        subprocess.run([larql, "extract", "atlas", "--level", "all", "-o", model], check=True, capture_output=True)

        def digests():
            files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
            return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

        before = digests()
        for moment in (0.2, 0.5, 1.0):
            server = Server(larql, [model])
            address = server.address()

            async def load():
                insert = b'{"entity": "Atlantis", "relation": "capital", "target": "Lima"}'
                work = [request(address, "POST", "/v1/insert", insert), *(request(address, "POST", "/v1/completions", json.dumps({"prompt": PROMPT, "max_tokens": 200}).encode()) for _ in range(16))]
                running = asyncio.gather(*work, return_exceptions=True)
                await asyncio.sleep(moment)
                server.process.kill()
                await running

            asyncio.run(load())
            server.process.wait(timeout=30)
            assert digests() == before, "files changed"
    return f"{len(before)} files unchanged after 3 kills"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("larql")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    failed = 0
    for test in [tls, killed, clients_that_go_away, memory, connections]:
        try:
            print(f"{test.__name__}: {test(options.larql, options)}", flush=True)
        except Exception:
            failed += 1
            print(f"{test.__name__}: FAILED", flush=True)
            traceback.print_exc()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
