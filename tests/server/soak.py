"""soak.py HEARTH MODEL [TEST...]: what `hearth serve` promises under load and in the long run, with a
real model. Takes minutes."""

import http.client
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time

from serving import HEARTH, MODEL, NAME, Daemon, check, is_alive, run_tests, ticks, together, user

COUNT = int(os.environ.get("HEARTH_SOAK", "10000"))


def test_two_hundred_open_streams_cost_little():
    with Daemon("--answers", "4") as daemon:
        daemon.text([user("Hi")])
        before = daemon.private()
        # at once: an answer that waits in the queue gets its head after some seconds
        streams = together(200, lambda n: daemon.stream([user(f"Count from {n}.")], 2000,
                                                        ignore_eos=True))
        check(all(answer.status == 200 for _, answer in streams), "all are streams")
        taken = daemon.private()
        print(f"    daemon: {before / 1e6:.1f} MB private, with 200 open streams {taken / 1e6:.1f} MB")
        check(taken < 12e6, "below 12 MB with 200 open streams", taken)
        for connection, _ in streams:
            connection.close()
        status, answer = daemon.ask("GET", "/hearth/v1/status")
        check(status == 200, "it goes on", answer)


def pace(daemon, tokens=200):
    """Seconds between two tokens of an answer: the median."""
    connection, answer = daemon.stream([user("Count upwards from one.")], tokens, ignore_eos=True)
    moments = []
    for line in answer:
        if b'"content"' in line:
            moments.append(time.monotonic())
    connection.close()
    return statistics.median(b - a for a, b in zip(moments, moments[1:]))


def test_a_token_costs_the_daemon_little():
    tokens = 2000
    with Daemon() as daemon:
        daemon.text([user("Hi")])
        before = ticks(daemon.process.pid)
        connection, answer = daemon.stream([user("Tell me a long story.")], tokens, ignore_eos=True)
        answer.read()
        connection.close()
        taken = (ticks(daemon.process.pid) - before) * 10 / tokens
        print(f"    the daemon computes {taken:.3f} ms a token")
        check(taken < 0.2, "less than 0.2 ms", taken)


def test_dribbling_connections_do_not_slow_an_answer():
    with Daemon() as daemon:
        daemon.text([user("Hi")])
        ratios = []
        for _ in range(5):
            alone = pace(daemon)
            dribbling = [socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(1000)]
            leave = threading.Event()

            def dribble():
                for byte in b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 50:
                    for connection in dribbling:
                        try:
                            connection.send(bytes([byte]))
                        except OSError:
                            pass
                    if leave.wait(1.0):
                        return

            thread = threading.Thread(target=dribble)
            thread.start()
            beside = pace(daemon)
            leave.set()
            thread.join()
            for connection in dribbling:
                connection.close()
            ratios.append(beside / alone)
        print(f"    1,000 dribbling connections: {statistics.median(ratios):.3f} of the time a token")
        check(statistics.median(ratios) < 1.1, "its pace stays within 10 %", ratios)


def test_requests_leave_nothing_behind():
    with Daemon() as daemon:
        def some(count):
            def work(at):
                connection = daemon.connect()
                for n in range(count // 4):
                    kind = (at + n) % 4
                    if kind == 0:
                        connection.request("GET", "/v1/models")
                    elif kind == 1:
                        connection.request("POST", "/v1/chat/completions", json.dumps(
                            {"model": NAME, "max_tokens": 1, "messages": [user(f"Hi {n % 7}")]}),
                            {"Content-Type": "application/json"})
                    elif kind == 2:
                        connection.request("POST", "/tokenize", json.dumps(
                            {"content": f"some text {n}"}), {"Content-Type": "application/json"})
                    else:
                        connection.request("POST", "/v1/chat/completions", b"{",
                                           {"Content-Type": "application/json"})
                    connection.getresponse().read()
                connection.close()
            together(4, work)

        some(COUNT // 10)
        worker = daemon.workers()[0]
        before = (daemon.private(), daemon.descriptors(), daemon.private(worker))
        some(COUNT)
        after = (daemon.private(), daemon.descriptors(), daemon.private(worker))
        print(f"    {COUNT} requests: daemon {before[0] / 1e6:.2f} -> {after[0] / 1e6:.2f} MB, descriptors "
              f"{before[1]} -> {after[1]}, worker {before[2] / 1e6:.2f} -> {after[2] / 1e6:.2f} MB")
        check(after[0] <= before[0] * 1.05 + 300e3, "the daemon's memory stays", (before, after))
        check(after[1] <= before[1] + 4, "its descriptors stay", (before, after))
        check(after[2] <= before[2] * 1.1 + 2e6, "the worker's memory stays", (before, after))


def test_a_hundred_killed_workers():
    random.seed(1)
    with Daemon() as daemon:
        begin = time.monotonic()
        daemon.text([user("Hi")], session="kept")
        load = time.monotonic() - begin
        worst, said = 0, []
        for attempt in range(100):
            connection, answer = daemon.stream([user(f"Say the number {attempt}.")], 40,
                                               session="kept", ignore_eos=True)
            time.sleep(random.random() * 0.4)
            workers = daemon.workers()
            if workers:
                os.kill(workers[0], signal.SIGKILL)
            try:
                answer.read()
            except (OSError, http.client.HTTPException):
                pass
            connection.close()
            begin = time.monotonic()
            status, answer = daemon.ask("POST", "/v1/chat/completions",
                                        {"model": NAME, "messages": [user("Hi")], "max_tokens": 1,
                                         "session": "kept"})
            worst = max(worst, time.monotonic() - begin)
            check(status == 200, "the next message is answered", (attempt, status, answer))
            daemon.ask("POST", "/hearth/v1/sessions/kept/truncate", {"count": 2})
        print(f"    the first answer with its load took {load:.2f} s; after a kill at worst {worst:.2f} s")
        check(worst < load + 1, "within the time of a load and a second", (worst, load))


def test_fifty_daemons_at_once():
    folder = tempfile.mkdtemp(prefix="hearth-serve-")
    command = [HEARTH, "serve", "--model", MODEL, "--no-tcp", "--socket",
               os.path.join(folder, "socket"), "--store", os.path.join(folder, "store")]
    daemons = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(50)]
    end = time.monotonic() + 60
    while sum(d.poll() is None for d in daemons) > 1 and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)
    alive = [d for d in daemons if d.poll() is None]
    check(len(alive) == 1, "one of fifty serves", len(alive))
    others = [d for d in daemons if d not in alive]
    for d in others:
        said = d.stderr.read()
        check(d.returncode == 1 and alive and str(alive[0].pid) in said, "the others say who does",
              (d.returncode, said))
    for d in alive:
        d.terminate()
        check(d.wait(20) == 0, "it ends")
    for d in daemons:
        d.stderr.close()
    shutil.rmtree(folder)


run_tests(globals())
