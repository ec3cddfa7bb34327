"""What the tests of the whole daemon share: starting `hearth serve`, asking it, looking at it."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HEARTH, MODEL = sys.argv[1:3]
NAME = os.path.basename(MODEL).removesuffix(".gguf")
SANITIZED = "HEARTH_SANITIZED" in os.environ
SLOW = 600 if SANITIZED else 120

failures = []


def check(fine, what, seen=None):
    if not fine:
        failures.append(what)
        print(f"FAILED: {what}" + (f"\n    seen: {seen!r}"[:4000] if seen is not None else ""),
              file=sys.stderr, flush=True)
    return fine


def run_tests(names):
    """Runs the functions test_… of a module's globals(); leaves with 1 where a check failed."""
    only = sys.argv[3:]
    for name, test in list(names.items()):
        if name.startswith("test_") and (not only or name in only):
            begin = time.monotonic()
            test()
            print(f"{name[5:].replace('_', ' ')}: {time.monotonic() - begin:.1f} s", flush=True)
    sys.exit(1 if failures else 0)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """A `hearth serve` of its own, with a folder of its own for socket and store."""

    def __init__(self, *options, folder=None, wait=True, models=("--model", MODEL), **started):
        self.made = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="hearth-serve-")
        self.socket = os.path.join(self.folder, "socket")
        self.told = False
        self.log_path = os.path.join(self.folder, "log")
        self.log = open(self.log_path, "ab")
        command = [HEARTH, "serve", *models, "--port", "0", "--socket", self.socket,
                   "--store", os.path.join(self.folder, "store"), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, **started)
        self.port = int(self.process.stdout.readline() or 0) if wait else 0
        check(self.port > 0 or not wait, "the port is printed", self.said())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def said(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()[-3000:]

    # ---- asking ----

    def connect(self, unix=False, timeout=SLOW):
        return (UnixConnection(self.socket, timeout) if unix
                else http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout))

    def ask(self, method, path, body=None, headers=None, unix=False):
        """Status and JSON (or text) of one request."""
        connection = self.connect(unix)
        data = body if isinstance(body, (bytes, str, type(None))) else json.dumps(body)
        sent = {"Content-Type": "application/json"} if data is not None else {}
        connection.request(method, path, data, sent | (headers or {}))
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text.decode(errors="replace")

    def chat(self, messages, tokens=16, path="/v1/chat/completions", **fields):
        """The whole answer's JSON."""
        body = {"model": NAME, "messages": messages, "max_tokens": tokens, "temperature": 0} | fields
        status, answer = self.ask("POST", path, body)
        check(status == 200, "a chat is answered", (status, answer, self.said()))
        return answer

    def text(self, messages, tokens=16, **fields):
        answer = self.chat(messages, tokens, **fields)
        return answer["choices"][0]["message"]["content"] if "choices" in answer else None

    def stream(self, messages, tokens=16, **fields):
        """A connection with the answer's lines still to be read."""
        connection = self.connect()
        connection.request("POST", "/v1/chat/completions", json.dumps(
            {"model": NAME, "messages": messages, "max_tokens": tokens, "temperature": 0,
             "stream": True} | fields), {"Content-Type": "application/json"})
        return connection, connection.getresponse()

    # ---- looking ----

    def workers(self):
        return children(self.process.pid)

    def private(self, pid=None):
        return status_bytes(pid or self.process.pid, ("RssAnon", "RssShmem", "VmSwap"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def wait_for(self, what, condition, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.01)
        return check(False, what, self.said())

    # ---- ending ----

    def tell(self):
        """To end; a second time would end it at once."""
        if self.process.poll() is None and not self.told:
            self.process.send_signal(signal.SIGTERM)
        self.told = True

    def stop(self, seconds=60):
        """Its exit code; None where it does not end."""
        self.tell()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self):
        code = self.stop()
        if code is None:
            check(False, "the daemon ends when told to", self.said())
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()
        text = self.said()
        if "Sanitizer" in text:
            check(False, "no sanitizer complains", text)
        if self.made:
            shutil.rmtree(self.folder, ignore_errors=True)


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def is_alive(pid):
    """Neither gone nor a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def status_bytes(pid, names):
    total = 0
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(names):
                total += int(line.split()[1]) * 1024
    return total


def ticks(pid):
    """Of processor time, a hundredth of a second each."""
    with open(f"/proc/{pid}/stat") as file:
        words = file.read().rsplit(")", 1)[1].split()
    return int(words[11]) + int(words[12])


def user(text):
    return {"role": "user", "content": text}


def together(count, work):
    """work(0) … work(count - 1), each on a thread; their results."""
    results = [None] * count

    def run(at):
        results[at] = work(at)

    threads = [threading.Thread(target=run, args=(at,)) for at in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
