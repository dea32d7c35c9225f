"""Load on servers with OpenAI's interface, side by side: LARQL's and, as its peer, llama.cpp's.

    python3 server-load.py larql=http://127.0.0.1:8080 llama=http://127.0.0.1:8081 [--model NAME] [--quick]

Start the servers on the same file, threads and machine, one after the other or both at once (the one that is not asked is
idle), for instance:

    larql serve smollm2=smollm2-135m-instruct.q4_1.gguf --port 8080 --threads 2 --no-log
    llama-server -m smollm2-135m-instruct.q4_1.gguf --port 8081 -t 2 -np 32 -c 65536

Prints a line for each figure, and the ratio where there are two servers. Nothing but the standard library is used, so that
the client takes little of the machine.
"""

import argparse
import asyncio
import json
import time
from urllib.parse import urlparse

TOPICS = ["rivers", "bread", "the moon", "trains", "bees", "glass", "winter", "salt", "clocks", "whales", "maps", "tea"]


class Client:
    def __init__(self, url, model):
        parts = urlparse(url)
        self.host, self.port, self.model = parts.hostname, parts.port, model

    async def request(self, path, body=None):
        """Yields the lines of an answer, each with the time at which it came."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            method, data = ("GET", b"") if body is None else ("POST", json.dumps(body).encode())
            head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + data)
            await writer.drain()
            status = (await reader.readline()).split()[1]
            while (await reader.readline()).strip():
                pass
            async for line in reader:
                yield int(status), line, time.perf_counter()
        finally:
            writer.close()

    async def chat(self, prompt, tokens, system=None):
        """The times of a streamed chat: its start, and when each token came."""
        messages = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": prompt}]
        body = {"model": self.model, "messages": messages, "max_tokens": tokens, "temperature": 0.7, "seed": 1, "stream": True}
        started, times = time.perf_counter(), []
        async for status, line, now in self.request("/v1/chat/completions", body):
            if status != 200:
                raise RuntimeError(line.decode())
            if line.startswith(b"data: {"):
                delta = json.loads(line[6:])["choices"]
                if delta and delta[0]["delta"].get("content"):
                    times.append(now)
        return started, times


def story(index):
    return f"Write a long story, number {index}, about {TOPICS[index % len(TOPICS)]}. Describe every detail."


def words(count):
    """A text of about so many tokens that begins differently each time."""
    return f"{time.time_ns()} " + " ".join(TOPICS[i % len(TOPICS)] for i in range(count)) + ". Summarise this."


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def gaps(chats):
    return [b - a for _, times in chats for a, b in zip(times, times[1:])]


async def throughput(client, chats, tokens):
    started = time.perf_counter()
    done = await asyncio.gather(*(client.chat(story(index), tokens) for index in range(chats)))
    count = sum(len(times) for _, times in done)
    return count / (max(times[-1] for _, times in done if times) - started), done


async def first_token(client, prompt, system=None):
    started, times = await client.chat(prompt, 1, system)
    return times[0] - started


async def measure(client, quick):
    tokens = 32 if quick else 64
    figures = {}
    await client.chat("Hello", 4)
    for chats in (1, 8, 32):
        rate, done = await throughput(client, chats, tokens)
        figures[f"tokens/s, {chats} chats"] = rate
        if chats == 32:
            figures["p99 between tokens, 32 chats, ms"] = quantile(gaps(done), 0.99) * 1e3
    tries = [await first_token(client, words(430)) for _ in range(3)]
    figures["first token, 512-token prompt, idle, ms"] = sorted(tries)[1] * 1e3
    running = [asyncio.create_task(client.chat(story(index), 3 * tokens)) for index in range(8)]
    await asyncio.sleep(1)
    arrived = time.perf_counter()
    first = await first_token(client, words(1000 if quick else 3400))
    read = time.perf_counter()
    done = await asyncio.gather(*running)
    during = [b - a for _, times in done for a, b in zip(times, times[1:]) if arrived < b < read]
    before = [b - a for _, times in done for a, b in zip(times, times[1:]) if b <= arrived or b > read]
    figures["first token, long prompt beside 8 chats, ms"] = first * 1e3
    figures["p99 between tokens, 8 chats, ms"] = quantile(before, 0.99) * 1e3
    figures["p99 between tokens, 8 chats beside a long prompt, ms"] = quantile(during, 0.99) * 1e3
    system = words(900)
    figures["first token, 1,000-token prefix, ms"] = await first_token(client, "Why?", system) * 1e3
    figures["first token, the same prefix again, ms"] = await first_token(client, "How?", system) * 1e3
    return figures


async def describe(client, connections, count):
    times = []

    async def one(index):
        started = time.perf_counter()
        async for status, _, now in client.request(f"/v1/describe?entity={TOPICS[index % len(TOPICS)].split()[-1]}"):
            assert status == 200
        times.append(now - started)

    started = time.perf_counter()
    for begin in range(0, count, connections):
        await asyncio.gather(*(one(index) for index in range(begin, min(begin + connections, count))))
    return len(times) / (time.perf_counter() - started), quantile(times, 0.99) * 1e3


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="+", metavar="NAME=URL")
    parser.add_argument("--model", default="smollm2", help="name of the model")
    parser.add_argument("--quick", action="store_true", help="fewer tokens")
    parser.add_argument("--describe", action="store_true", help="measure describe alone, on a server of a vindex")
    arguments = parser.parse_args()
    table = {}
    for server in arguments.servers:
        name, url = server.split("=", 1)
        client = Client(url, arguments.model)
        if arguments.describe:
            for connections in (1, 32, 256):
                rate, p99 = await describe(client, connections, 64 if connections == 1 else 512)
                print(f"{name}: describe, {connections} connections: {rate:.1f} requests/s, p99 {p99:.1f} ms")
            continue
        table[name] = await measure(client, arguments.quick)
    names = list(table)
    for figure in next(iter(table.values()), {}):
        values = [table[name][figure] for name in names]
        ratio = f"{values[0] / values[1]:>9.2f}" if len(values) > 1 else ""
        print(f"{figure:<56}" + "".join(f"{value:>11.1f}" for value in values) + ratio)


if __name__ == "__main__":
    asyncio.run(main())
