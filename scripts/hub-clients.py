"""LARQL and the official client of the hub, each reading what the other published and cached.

    hub-clients.py LARQL TEST_HUB [--speed MEGABYTES [--rounds N]] [--xet STORE]

Starts the loopback hub of the tests. Files of several kinds go up by one client and come down by the other, byte for byte;
a cache that one has filled is read by the other without the hub. With --speed, both download and upload a file of that size,
and time and memory are printed. With --xet, the program of Xet's store, large files go by Xet, of LARQL with the feature `xet` and of
the official client.
"""

import argparse
import filecmp
import os
import pathlib
import subprocess
import socket
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("larql")
parser.add_argument("hub")
parser.add_argument("--speed", type=int, metavar="MEGABYTES")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--xet", metavar="STORE")
arguments = parser.parse_args()

programs = []
command = [arguments.hub, "0"]
if arguments.xet:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = [arguments.xet, "--in-memory", "--port", str(port)]
    programs.append(subprocess.Popen(store, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    command.append(f"http://127.0.0.1:{port}")
hub = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
programs.append(hub)
endpoint = hub.stdout.readline().strip().removeprefix("HF_ENDPOINT=")
token = hub.stdout.readline().strip().removeprefix("HF_TOKEN=")
folder = pathlib.Path(tempfile.mkdtemp(prefix="hub-clients-", dir="target"))

# The variables are read when the client is imported.
os.environ.update(
    HF_ENDPOINT=endpoint, HF_TOKEN=token, HF_HOME=str(folder / "python"),
    HF_HUB_DISABLE_XET="0" if arguments.xet else "1", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1",
)
from huggingface_hub import HfApi, ModelCard, hf_hub_download, snapshot_download  # noqa: E402

api = HfApi()
passed = []


def check(what, holds):
    passed.append(what)
    print(("ok      " if holds else "FAILED  ") + what, flush=True)
    if not holds:
        sys.exit(1)


def larql(*words, home="larql", offline=False):
    """Runs LARQL; returns what it printed."""
    variables = dict(os.environ, HF_HOME=str(folder / home), XDG_CACHE_HOME=str(folder / "cache"))
    variables["HF_HUB_OFFLINE"] = "1" if offline else "0"
    command = [arguments.larql, *map(str, words)]
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output, messages = process.communicate()
    check(f"larql {' '.join(map(str, words[:2]))}: " + (messages.strip().splitlines() or ["done"])[-1][:90], process.returncode == 0)
    check("no token is printed", token not in output + messages)
    return output.strip()


def same(one, other):
    """True if two folders hold the same files, hidden ones apart."""
    def names(root):
        paths = (path for path in pathlib.Path(root).rglob("*") if path.is_file())
        relative = (path.relative_to(root) for path in paths)
        return sorted(path for path in relative if not any(part.startswith(".") for part in path.parts))
    return names(one) == names(other) and all(
        filecmp.cmp(pathlib.Path(one) / name, pathlib.Path(other) / name, shallow=False) for name in names(one)
    )


source = folder / "source"
(source / "sub dir").mkdir(parents=True)
(source / "small.json").write_text("{}")
(source / "empty.txt").write_bytes(b"")
(source / "sub dir" / "ü #1.txt").write_text("odd")
(source / "parts.bin").write_bytes(os.urandom(12_000_000))
(source / "whole.safetensors").write_bytes(os.urandom(300_000))

try:
    check("the official client knows its user", api.whoami()["name"] == "alice")

    # Up by the official client, down by LARQL.
    api.create_repo("alice/from-python", private=True)
    api.create_repo("alice/from-python", exist_ok=True)
    api.upload_folder(repo_id="alice/from-python", folder_path=source)
    path = larql("hf", "download", "alice/from-python")
    check("LARQL has what the official client published", same(source, path))
    larql("hf", "download", "alice/from-python", "-o", folder / "own")
    check("LARQL has it in a folder of its own", same(source, folder / "own"))

    # Up by LARQL, down by the official client.
    larql("hf", "publish", source, "--repo", "alice/from-larql", "--private")
    path = snapshot_download("alice/from-larql")
    check("the official client has what LARQL published", same(source, path))
    tree = {entry.path: entry for entry in api.list_repo_tree("alice/from-larql", recursive=True)}
    check("large files are outside of git", tree["parts.bin"].lfs is not None and tree["small.json"].lfs is None)
    by_xet = {path for path in tree if getattr(tree[path], "xet_hash", None)}
    check("large files went by Xet" if arguments.xet else "nothing went by Xet",
          by_xet == ({"parts.bin", "whole.safetensors"} if arguments.xet else set()))
    commits = len(api.list_repo_commits("alice/from-larql"))
    larql("hf", "publish", source, "--repo", "alice/from-larql", "--private")
    api.upload_folder(repo_id="alice/from-larql", folder_path=source)
    check("publishing again by either makes no commit", len(api.list_repo_commits("alice/from-larql")) == commits)
    larql("hf", "visibility", "alice/from-larql", "--public")
    check("it is public", not api.model_info("alice/from-larql").private)

    # A cache that LARQL filled, read without the hub.
    code = (
        "from huggingface_hub import snapshot_download, hf_hub_download;"
        "print(snapshot_download('alice/from-python'));"
        "print(hf_hub_download('alice/from-python', 'parts.bin'))"
    )
    variables = dict(os.environ, HF_HOME=str(folder / "larql"), HF_HUB_OFFLINE="1")
    result = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    found = result.returncode == 0 and same(source, result.stdout.splitlines()[0])
    check("the official client reads LARQL's cache " + result.stderr[-300:], found)

    # A model that the official client has cached opens by its name in LARQL.
    model = pathlib.Path("tests/data/fixtures/llama-checkpoint")
    vindex = folder / "tiny.vindex"
    larql("extract", model, "-o", vindex, "--level", "all")
    larql("publish", vindex, "--repo", "alice/tiny", "--slices", "client,server")
    path = snapshot_download("alice/tiny")
    check("the official client has the vindex", same(path, larql("pull", "alice/tiny")))
    larql("verify", "alice/tiny", home="python", offline=True)
    larql("verify", "alice/tiny", home="larql", offline=True)
    titles = sorted(collection.title for collection in api.list_collections(owner="alice"))
    check("the official client sees three collections", len(titles) == 3 and titles[0] == "LARQL Vindex Library")
    card = hf_hub_download("alice/tiny-client", "README.md")
    data = ModelCard.load(card).data.to_dict()
    check("the official client reads the card", data["library_name"] == "larql" and "vindex" in data["tags"])
    ModelCard.load(card).validate(repo_type="model")
    check("the card is valid", True)

    if arguments.speed:
        large = folder / "large"
        large.mkdir()
        with open(large / "large.bin", "wb") as file:
            for _ in range(arguments.speed):
                file.write(os.urandom(1_000_000))

        def timed(command, **variables):
            """Seconds and peak megabytes of a command."""
            variables = dict(os.environ, **variables)
            begun = time.monotonic()
            process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            peak = 0
            # What the system says at the end counts this process too, of which that one was a copy.
            while process.poll() is None:
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
                peak = max([peak] + [int(line.split()[1]) for line in status if line.startswith("VmHWM")])
                time.sleep(0.02)
            if process.returncode != 0:
                sys.exit(process.stderr.read().decode())
            return time.monotonic() - begun, peak / 1000

        def python(code):
            return [sys.executable, "-c", "from huggingface_hub import *;" + code]

        rows = []
        for round_number in range(arguments.rounds):
            up = [
                ("larql", [arguments.larql, "hf", "publish", large, "--repo", f"alice/speed-larql-{round_number}"]),
                ("python", python(f"api=HfApi();api.create_repo('alice/speed-python-{round_number}');"
                                  f"api.upload_folder(repo_id='alice/speed-python-{round_number}',folder_path='{large}')")),
            ]
            down = [
                ("larql", [arguments.larql, "hf", "download", "alice/speed-larql-0"]),
                ("python", python("snapshot_download('alice/speed-larql-0')")),
            ]
            for name, command in up:
                # The storage keeps objects: other bytes each time, so that they move.
                with open(large / "large.bin", "r+b") as file:
                    file.write(os.urandom(1_000))
                seconds, memory = timed(list(map(str, command)))
                rows.append(("publish", name, seconds, memory))
            for name, command in down:
                home = str(folder / f"speed-{name}-{round_number}")
                seconds, memory = timed(list(map(str, command)), HF_HOME=home)
                rows.append(("pull", name, seconds, memory))
                subprocess.run(["rm", "-rf", home], check=True)
        for what in ["publish", "pull"]:
            for name in ["larql", "python"]:
                best = min((row for row in rows if row[:2] == (what, name)), key=lambda row: row[2])
                print(f"{what:<8} {name:<7} {arguments.speed / best[2]:8.0f} MB/s  {best[3]:7.0f} MB of memory")
    print(f"{len(passed)} checks passed")
finally:
    for program in programs:
        program.terminate()
    subprocess.run(["rm", "-rf", str(folder)], check=True)
