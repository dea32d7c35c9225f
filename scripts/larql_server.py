"""A running `larql serve`, for scripts that ask it."""

import subprocess
from pathlib import Path

SMOLLM2 = Path.home() / ".cache/larql-test-models/smollm2-135m-instruct.q4_1.gguf"


class Server:
    """A server on a free port, unless one is given: `url` is its address, `grpc` that of gRPC without the scheme."""

    def __init__(self, larql, models, *options, port=0):
        command = [larql, "serve", *models, "--port", str(port), "--grpc-port", "0", "--no-log", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.url = None
        for line in self.process.stderr:
            if line.startswith("listening on "):
                self.url = line.split()[-1]
            if line.startswith("gRPC on "):
                self.grpc = line.split()[-1].split("//")[1]
                return
        raise SystemExit(f"{command} did not start")

    def address(self):
        """Host and port."""
        host, port = self.url.split("//")[1].split(":")
        return host, int(port)

    def stop(self):
        """Asks the server to end, and returns its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=60)


def with_smollm2(models):
    """The models, and SmolLM2 where it was fetched."""
    return [*models, *([f"smollm2={SMOLLM2}"] if SMOLLM2.exists() else [])]
