"""End-to-end tests of a server with the official clients of the interfaces that it speaks.

    python server-clients.py LARQL

Starts `LARQL serve` on a free port with the bundled model and, where it was fetched, with SmolLM2, and asks it with openai,
ollama, mcp (over HTTP and over standard input and output), websockets, grpcio and plain requests. Exits with 1 if a test fails.
"""

import asyncio
import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
import urllib.error
import urllib.request
from pathlib import Path

from larql_server import SMOLLM2, Server, with_smollm2

KEY = "a-key-for-tests"
CHATS = "smollm2"
PROMPT = "The capital of France is"


class KeyedServer(Server):
    """A server that asks for a key, with the bundled model and, where it was fetched, SmolLM2."""

    def __init__(self, larql):
        super().__init__(larql, with_smollm2(["atlas"]), "--api-key", KEY)
        self.larql, self.chats = larql, SMOLLM2.exists()

    def get(self, path, key=KEY):
        request = urllib.request.Request(self.url + path, headers={"authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request) as response:
            return json.load(response)


def openai_client(server):
    import openai

    return openai.OpenAI(base_url=server.url + "/v1", api_key=KEY, max_retries=0)


def test_openai_models_and_completions(server):
    client = openai_client(server)
    assert "atlas" in [model.id for model in client.models.list()]
    assert client.models.retrieve("atlas").owned_by == "larql"
    whole = client.completions.create(model="atlas", prompt=PROMPT, max_tokens=3, temperature=0, logprobs=2)
    assert "Paris" in whole.choices[0].text, whole
    assert len(whole.choices[0].logprobs.tokens) == 3
    pieces = client.completions.create(model="atlas", prompt=PROMPT, max_tokens=3, temperature=0, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
    vectors = client.embeddings.create(model="atlas", input=["France", "Spain"])
    assert len(vectors.data[0].embedding) == 256


def test_openai_errors(server):
    import openai

    client = openai_client(server)
    for error, ask in [
        (openai.NotFoundError, lambda: client.completions.create(model="other", prompt="a")),
        (openai.BadRequestError, lambda: client.completions.create(model="atlas", prompt="a", n=1000)),
        (openai.AuthenticationError, lambda: client.with_options(api_key="wrong").models.list()),
    ]:
        try:
            ask()
        except error as caught:
            assert caught.body and caught.body["message"], caught.body
        else:
            raise AssertionError(f"{error} was expected")


def test_openai_chat(server):
    if not server.chats:
        return "skipped: SmolLM2 is not there"
    client = openai_client(server)
    messages = [{"role": "user", "content": "Name the capital of France."}]
    whole = client.chat.completions.create(model=CHATS, messages=messages, max_tokens=24, temperature=0)
    assert "Paris" in whole.choices[0].message.content, whole
    stream = client.chat.completions.create(
        model=CHATS, messages=messages, max_tokens=24, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    several = client.chat.completions.create(model=CHATS, messages=messages, max_tokens=8, n=3, seed=1, logprobs=True, top_logprobs=3)
    assert len(several.choices) == 3 and len(several.choices[0].logprobs.content[0].top_logprobs) == 3


def test_openai_formats_and_tools(server):
    if not server.chats:
        return "skipped: SmolLM2 is not there"
    client = openai_client(server)
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "country": {"enum": ["France", "Italy"]}},
        "required": ["city", "country"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=CHATS,
        messages=[{"role": "user", "content": "Name a city."}],
        max_tokens=80,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema}},
    )
    value = json.loads(answer.choices[0].message.content)
    assert value["country"] in ("France", "Italy"), value
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"], "additionalProperties": False}}}
    answer = client.chat.completions.create(
        model=CHATS,
        messages=[{"role": "user", "content": "What is the weather in Rome?"}],
        max_tokens=60,
        temperature=0,
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": "weather"}},
    )
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and "city" in json.loads(call.function.arguments)


def test_openai_responses(server):
    if not server.chats:
        return "skipped: SmolLM2 is not there"
    client = openai_client(server)
    first = client.responses.create(model=CHATS, input="My name is Ada.", max_output_tokens=16, temperature=0)
    assert first.output_text
    second = client.responses.create(model=CHATS, input="What is my name?", previous_response_id=first.id, max_output_tokens=24, temperature=0)
    assert second.usage.input_tokens > first.usage.total_tokens
    with client.responses.stream(model=CHATS, input="What is my name?", previous_response_id=first.id, max_output_tokens=24, temperature=0) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert text == second.output_text
    assert client.responses.retrieve(first.id).output_text == first.output_text
    client.responses.delete(first.id)


def test_ollama(server):
    import ollama

    client = ollama.Client(host=server.url, headers={"authorization": f"Bearer {KEY}"})
    assert "atlas:latest" in [model.model for model in client.list().models]
    assert client.show("atlas").modelinfo
    assert client.ps().models
    answer = client.generate("atlas", PROMPT, options={"temperature": 0, "num_predict": 3, "repeat_penalty": 1})
    assert "Paris" in answer.response and answer.done, answer
    assert len(client.embed("atlas", ["France", "Spain"]).embeddings) == 2
    try:
        client.generate("other", "a")
    except ollama.ResponseError as error:
        assert error.status_code == 404 and "other" in error.error
    else:
        raise AssertionError("404 was expected")
    if not server.chats:
        return "in part: SmolLM2 is not there"
    messages = [{"role": "user", "content": "Name the capital of France."}]
    options = {"temperature": 0, "num_predict": 24}
    pieces = list(client.chat(CHATS, messages, stream=True, options=options))
    assert "Paris" in "".join(piece.message.content for piece in pieces) and pieces[-1].done


def test_mcp_over_http(server):
    import httpx2
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def talk():
        client = httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=300)
        async with streamable_http_client(server.url + "/mcp", http_client=client) as (read, write, *_):
            async with ClientSession(read, write) as session:
                await use_mcp(session)

    asyncio.run(talk())


def test_mcp_over_stdio(server):
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    async def talk():
        async with stdio_client(StdioServerParameters(command=server.larql, args=["mcp", "atlas"], env=dict(os.environ))) as (read, write):
            async with ClientSession(read, write) as session:
                await use_mcp(session)

    asyncio.run(talk())


async def use_mcp(session):
    await session.initialize()
    tools = (await session.list_tools()).tools
    assert 0 < len(tools) <= 6, tools
    schemas = json.dumps([tool.model_dump(exclude_none=True) for tool in tools])
    # A token has some four characters.
    assert len(schemas) < 8000, f"{len(schemas)} characters of descriptions"

    async def call(tool, **arguments):
        result = await session.call_tool(tool, arguments)
        return result.is_error, result.content[0].text

    failed, text = await call("describe", entity="France")
    assert not failed and "Paris" in text, text
    failed, text = await call("query", statement="SELECT entity, target FROM EDGES WHERE relation = 'capital' LIMIT 2;")
    assert not failed, text
    failed, text = await call("infer", prompt=PROMPT)
    assert not failed and "Paris" in text, text
    failed, text = await call("explain", prompt=PROMPT)
    assert not failed and "Paris" in text, text
    failed, text = await call("edit", action="insert", entity="Atlantis", relation="capital", target="Rome")
    assert not failed, text
    failed, text = await call("infer", prompt="The capital of Atlantis is")
    assert not failed and "Rome" in text, text
    failed, text = await call("query", statement="SAVE PATCH 'x.vlp';")
    assert failed and "files" in text, text
    resources = (await session.list_resources()).resources
    assert "larql://atlas" in [str(resource.uri) for resource in resources]
    figures = await session.read_resource("larql://atlas")
    assert "capital" in figures.contents[0].text


def test_websocket(server):
    import websockets

    async def talk():
        address = server.url.replace("http", "ws") + "/v1/stream"
        async with websockets.connect(address, additional_headers={"authorization": f"Bearer {KEY}"}) as socket:

            async def until(*ends):
                messages = []
                while not messages or messages[-1]["type"] not in ends:
                    messages.append(json.loads(await asyncio.wait_for(socket.recv(), 60)))
                return messages

            async def send(**message):
                await socket.send(json.dumps(message))

            await send(type="describe", entity="France", band="all")
            layers = await until("done")
            assert layers[-1]["total_edges"] == sum(len(layer["edges"]) for layer in layers[:-1]) > 0
            await send(type="infer", prompt=PROMPT, top=3)
            assert [message.get("rank") for message in (await until("infer_done"))[:-1]] == [1, 2, 3]
            await send(type="generate", prompt=PROMPT, max_tokens=3)
            pieces = await until("done")
            assert "Paris" in "".join(piece.get("text", "") for piece in pieces) and pieces[-1]["tokens"] == 3
            await send(type="generate", prompt="The", max_tokens=200, temperature=1.0)
            await send(type="cancel")
            ended = (await until("done"))[-1]
            assert ended.get("cancelled") or ended["tokens"] <= 200
            await send(type="nonsense")
            assert (await until("error"))[-1]["message"]

    asyncio.run(talk())


def grpc_messages():
    """The messages of the service, as the official compiler makes them."""
    from grpc_tools import protoc

    proto = Path(__file__).parent.parent / "crates/larql-server/proto"
    folder = tempfile.mkdtemp()
    assert protoc.main(["protoc", f"-I{proto}", f"--python_out={folder}", f"--grpc_python_out={folder}", "vindex.proto"]) == 0
    sys.path.insert(0, folder)
    return importlib.import_module("vindex_pb2"), importlib.import_module("vindex_pb2_grpc")


def test_grpc(server):
    import grpc

    messages, services = grpc_messages()
    with grpc.insecure_channel(server.grpc) as channel:
        client = services.VindexServiceStub(channel)
        assert client.Health(messages.HealthRequest()).status == "ok"
        key = (("authorization", f"Bearer {KEY}"),)

        def ask(method, message, metadata=key):
            return getattr(client, method)(message, metadata=metadata, timeout=60)

        # Answers are those of the HTTP routes.
        described = ask("Describe", messages.DescribeRequest(entity="France", limit=5))
        expected = server.get("/v1/describe?entity=France&limit=5")
        assert [edge.target for edge in described.edges] == [edge["target"] for edge in expected["edges"]]
        assert described.model == expected["model"] == "atlas"
        walked = ask("Walk", messages.WalkRequest(prompt=PROMPT, top=2, layers="1-2"))
        assert [(hit.layer, hit.feature) for hit in walked.hits] == [
            (hit["layer"], hit["feature"]) for hit in server.get("/v1/walk?prompt=The+capital+of+France+is&top=2&layers=1-2")["hits"]
        ]
        selected = ask("Select", messages.SelectRequest(relation="capital", limit=2))
        assert len(selected.edges) == 2 and selected.total > 2 and all(edge.relation == "capital" for edge in selected.edges)
        inferred = ask("Infer", messages.InferRequest(prompt=PROMPT, top=3))
        assert inferred.predictions[0].token.strip() == "Paris" and inferred.mode == "walk"
        compared = ask("Infer", messages.InferRequest(prompt=PROMPT, mode="compare"))
        assert compared.walk_predictions[0].token == compared.dense_predictions[0].token == inferred.predictions[0].token
        assert "capital" in [relation.name for relation in ask("GetRelations", messages.RelationsRequest()).relations]
        stats = ask("GetStats", messages.StatsRequest())
        assert (stats.layers, stats.hidden_size, stats.features) == (4, 256, 3072) and list(stats.layer_bands.knowledge)
        layers = list(ask("StreamDescribe", messages.DescribeRequest(entity="France", band="all")))
        assert layers[-1].done and layers[-1].total_edges == sum(len(layer.edges) for layer in layers[:-1]) > 0
        residual = [float(i % 7) - 3 for i in range(256)]
        found = ask("WalkFfn", messages.WalkFfnRequest(layers=[1, 2], residual=residual, top_k=4)).results
        assert [len(layer.features) for layer in found] == [4, 4] and found[0].scores[0] != 0
        whole = ask("WalkFfn", messages.WalkFfnRequest(layer=1, residual=residual * 2, seq_len=2, full_output=True)).results
        assert len(whole[0].output) == 512 and whole[0].output[:256] == whole[0].output[256:]

        for code, call in [
            (grpc.StatusCode.UNAUTHENTICATED, lambda: ask("GetStats", messages.StatsRequest(), metadata=())),
            (grpc.StatusCode.INVALID_ARGUMENT, lambda: ask("Describe", messages.DescribeRequest(entity=" "))),
            (grpc.StatusCode.INVALID_ARGUMENT, lambda: ask("Infer", messages.InferRequest(prompt="a", mode="fast"))),
            (grpc.StatusCode.INVALID_ARGUMENT, lambda: ask("WalkFfn", messages.WalkFfnRequest(layer=1, residual=[1.0]))),
            (grpc.StatusCode.INVALID_ARGUMENT, lambda: ask("WalkFfn", messages.WalkFfnRequest(layer=9, residual=residual))),
            (grpc.StatusCode.NOT_FOUND, lambda: ask("GetStats", messages.StatsRequest(), metadata=(*key, ("x-model", "other")))),
        ]:
            try:
                call()
            except grpc.RpcError as error:
                assert error.code() == code and error.details(), error
            else:
                raise AssertionError(f"expected {code}")


def test_plain_requests(server):
    edges = server.get("/v1/describe?entity=France")["edges"]
    assert any(edge.get("relation") == "capital" for edge in edges)
    for path, status in [("/v1/stats", 401), ("/v1/health", 200)]:
        try:
            code = urllib.request.urlopen(server.url + path).status
        except urllib.error.HTTPError as error:
            code = error.code
        assert code == status, f"{path} without a key answers {code}"
    assert server.get("/openapi.json")["openapi"].startswith("3.1")


def main(larql: str) -> int:
    server = KeyedServer(larql)
    failed = 0
    tests = {name: test for name, test in globals().items() if name.startswith("test_")}
    try:
        for name, test in tests.items():
            try:
                print(f"{name}: {test(server) or 'ok'}", flush=True)
            except Exception:
                failed += 1
                print(f"{name}: FAILED", flush=True)
                traceback.print_exc()
    finally:
        code = server.stop()
    if code != 0:
        failed += 1
        print(f"the server ended with {code}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
