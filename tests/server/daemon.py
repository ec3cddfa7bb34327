"""daemon.py HEARTH MODEL [TEST...]: `hearth serve` as a whole, with a real model."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from serving import (HEARTH, MODEL, NAME, SANITIZED, SLOW, Daemon, check, children, is_alive, run_tests,
                     ticks, together, user)

LONG = "Tell me a long story about a river, and count its bridges one by one."
TURNS = ["Name a colour.", "And another one?", "Which of the two is warmer?"]


def test_one_model_answers_everywhere():
    with Daemon() as daemon:
        check(daemon.workers() == [], "nothing is loaded before it is asked")
        alone = daemon.text([user("Name three rivers.")])
        check(len(alone) > 0, "there is a text", alone)
        check(len(daemon.workers()) == 1, "one worker computes", daemon.workers())
        status, listed = daemon.ask("GET", "/v1/models", unix=True)
        check(status == 200 and [m["id"] for m in listed["data"]] == [NAME],
              "the socket answers as well", listed)
        status, answer = daemon.ask("POST", "/api/chat", {
            "model": NAME, "messages": [user("Name three rivers.")], "stream": False,
            "options": {"temperature": 0, "num_predict": 16}})
        check(status == 200 and answer["message"]["content"] == alone,
              "each dialect gives the same answer", answer)
        status, answer = daemon.ask("POST", "/v1/chat/completions",
                                    {"model": "no such model", "messages": [user("Hi")]})
        check(status == 404 and "no such model" in answer["error"]["message"],
              "a model that is not there is named", answer)


def test_a_conversation_goes_on_after_a_restart_of_everything():
    folder = tempfile.mkdtemp(prefix="hearth-serve-")
    said = []
    for turn in TURNS:
        with Daemon(folder=folder) as daemon:
            answer = daemon.chat([user(turn)], session="colours", ignore_eos=True)
            said.append(answer["choices"][0]["message"]["content"])
            cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            check(cached > 0 or turn == TURNS[0], "what was computed is kept", answer["usage"])
    with Daemon() as daemon:
        messages = []
        for turn, expected in zip(TURNS, said):
            messages.append(user(turn))
            text = daemon.text(messages, ignore_eos=True)
            check(text == expected, "the answers are those of one process", (text, expected))
            messages.append({"role": "assistant", "content": text})
    shutil.rmtree(folder)


def test_a_response_is_followed_after_a_restart():
    folder = tempfile.mkdtemp(prefix="hearth-serve-")

    def follow(daemon, said, previous=None):
        body = {"model": NAME, "input": said, "temperature": 0, "max_output_tokens": 12}
        status, answer = daemon.ask("POST", "/api/v1/chat", body | (
            {"previous_response_id": previous} if previous else {}))
        check(status == 200, "it is answered", answer)
        return answer["output"][0]["content"], answer["response_id"]

    with Daemon(folder=folder) as daemon:
        first, name = follow(daemon, TURNS[0])
        expected, _ = follow(daemon, TURNS[1], name)
    with Daemon(folder=folder) as daemon:
        said, other = follow(daemon, TURNS[1], name)
        check(said == expected and other[:37] != name[:37], "a branch says the same", (said, other))
        _, further = follow(daemon, TURNS[2], other)
        check(further[:37] == other[:37], "the last response is followed in place", further)
        status, answer = daemon.ask("GET", f"/hearth/v1/sessions/lmstudio-{name[5:37]}/history")
        texts = [m["content"] for m in answer["messages"]] if status == 200 else answer
        check(texts == [TURNS[0], first, TURNS[1], expected], "the first one is as it was", texts)
    shutil.rmtree(folder)


def test_whoever_sends_everything_again_has_it_known():
    with Daemon() as daemon:
        messages = [user("Name three rivers.")]
        for turn in range(3):
            answer = daemon.chat(messages, ignore_eos=True)
            usage = answer["usage"]
            known = usage["prompt_tokens_details"]["cached_tokens"]
            if turn > 0:
                check(known >= before - 1, "the last prompt and its answer are known",
                      (usage, before))
            before = usage["total_tokens"]
            messages += [answer["choices"][0]["message"], user("Go on.")]


def test_ten_clients_get_what_each_gets_alone():
    prompts = [[user(f"Say something about the number {n}.")] for n in range(10)]
    tokens = 8 if SANITIZED else 24
    with Daemon() as daemon:
        alone = [daemon.text(prompt, tokens) for prompt in prompts]
    with Daemon() as daemon:
        at_once = together(10, lambda at: daemon.text(prompts[at], tokens))
    check(alone == at_once, "the answers are equal", (alone, at_once))


def test_a_killed_worker_costs_an_answer_and_no_conversation():
    with Daemon() as daemon:
        said = daemon.text([user(TURNS[0])], session="kept", ignore_eos=True)
        for attempt in range(3):
            connection, answer = daemon.stream([user(LONG)], 400)
            answer.readline()
            time.sleep(0.05 * attempt)
            worker = daemon.workers()[0]
            os.kill(worker, signal.SIGKILL)
            rest = answer.read().decode()
            connection.close()
            check('"error"' in rest, "the answer ends with an error", rest[-500:])
            daemon.wait_for("the worker is gone", lambda: worker not in daemon.workers())
            again = daemon.chat([user("Hi")])
            check("choices" in again, "the next one is answered")
        status, history = daemon.ask("GET", "/hearth/v1/sessions/kept/history")
        texts = [m["content"] for m in history["messages"]] if status == 200 else history
        check(texts == [TURNS[0], said], "the conversation is whole", texts)
        check(daemon.text([user(TURNS[1])], session="kept") is not None, "and goes on")


def test_a_stopped_worker_is_found():
    with Daemon("--hang-time", "2s") as daemon:
        daemon.text([user("Hi")])
        worker = daemon.workers()[0]
        os.kill(worker, signal.SIGSTOP)
        begin = time.monotonic()
        status, answer = daemon.ask("POST", "/v1/chat/completions",
                                    {"model": NAME, "messages": [user("Hi")], "max_tokens": 4})
        took = time.monotonic() - begin
        check(not is_alive(worker), "the one that hung is gone")
        check(status in (200, 500, 502, 503), "there is an answer", (status, answer))
        check(took < 20, "soon", took)
        check(daemon.text([user("Hi")]) is not None, "the next one is answered")


def test_no_worker_outlives_a_killed_daemon():
    for busy in (False, True):
        daemon = Daemon()
        daemon.text([user("Hi")])
        if busy:
            connection, answer = daemon.stream([user(LONG)], 400)
            answer.readline()
        workers = daemon.workers()
        daemon.process.kill()
        daemon.process.wait()
        end = time.monotonic() + 2
        while time.monotonic() < end and any(is_alive(pid) for pid in workers):
            time.sleep(0.01)
        check(not any(is_alive(pid) for pid in workers), "its workers are gone within two seconds")
        daemon.end()


def test_the_end_waits_for_answers():
    daemon = Daemon()
    daemon.text([user("Hi")])
    connection, answer = daemon.stream([user(LONG)], 48, ignore_eos=True)
    answer.readline()
    daemon.tell()
    rest = answer.read().decode()
    check("data: [DONE]" in rest, "an answer at work is completed", rest[-300:])
    check(daemon.stop() == 0, "and then the daemon ends with 0")
    daemon.end()


def test_a_second_signal_does_not_wait():
    daemon = Daemon()
    connection, answer = daemon.stream([user(LONG)], 4000, ignore_eos=True)
    answer.readline()
    workers = daemon.workers()
    daemon.tell()
    time.sleep(0.2)
    check(daemon.process.poll() is None, "the answer is waited for")
    daemon.process.send_signal(signal.SIGTERM)
    check(daemon.stop(5) == 0, "a second signal ends it at once")
    check(not any(is_alive(pid) for pid in workers), "with its workers")
    try:
        check(b"[DONE]" not in answer.read(), "the answer has no end")
    except http.client.IncompleteRead:
        pass
    connection.close()
    daemon.end()


def test_the_lifeline_ends_it():
    ours, its = os.pipe()
    daemon = Daemon("--lifeline-fd", str(ours), pass_fds=(ours,))
    os.close(ours)
    daemon.text([user("Hi")])
    workers = daemon.workers()
    os.close(its)
    check(daemon.process.wait(20) == 0, "it ends when the other end is closed")
    check(not any(is_alive(pid) for pid in workers), "with its workers")
    daemon.end()


def test_a_second_one_says_who_holds_the_socket():
    with Daemon() as daemon:
        second = subprocess.run([HEARTH, "serve", "--model", MODEL, "--port", "0", "--socket",
                                 daemon.socket, "--no-store"], capture_output=True, text=True,
                                timeout=60)
        check(second.returncode == 1 and str(daemon.process.pid) in second.stderr,
              "the process is named", second.stderr)
        store = os.path.join(daemon.folder, "store")
        second = subprocess.run([HEARTH, "serve", "--model", MODEL, "--port", "0", "--no-socket",
                                 "--store", store], capture_output=True, text=True, timeout=60)
        check(second.returncode == 1 and str(daemon.process.pid) in second.stderr,
              "and who holds the store", second.stderr)


def test_commands_talk_to_it():
    with Daemon("--models", os.path.dirname(MODEL)) as daemon:
        def command(*words):
            ended = subprocess.run([HEARTH, *words, "--socket", daemon.socket],
                                   capture_output=True, text=True, timeout=SLOW)
            return ended.returncode, ended.stdout, ended.stderr

        code, out, err = command("load", NAME)
        check(code == 0, "a model is loaded", err)
        code, out, err = command("ps")
        check(code == 0 and NAME in out and "loaded" in out, "and seen", (out, err))
        code, out, err = command("status")
        check(code == 0 and f"process {daemon.process.pid}" in out, "its state is told", (out, err))
        code, out, err = command("logs")
        check(code == 0 and "listening" in out and "route=/hearth/v1/status" in out,
              "so is its log", (out, err))
        code, out, err = command("load", "nothing")
        check(code == 1 and "nothing" in err, "and what it refuses", (out, err))
        code, out, err = command("stop")
        check(code == 0 and daemon.process.wait(SLOW) == 0, "it is ended", err)
        code, out, err = command("ps")
        check(code == 1 and "no daemon is running" in err, "and then nobody is there", err)


def test_a_client_that_leaves_stops_its_work():
    slow = 10 if SANITIZED else 1
    with Daemon() as daemon:
        daemon.text([user("Hi")])
        worker = daemon.workers()[0]
        words = " ".join(str(n) for n in range(3000))
        for moment in (0.05, 0.3):
            connection, = [daemon.connect()]
            connection.request("POST", "/v1/chat/completions", json.dumps(
                {"model": NAME, "messages": [user(words)], "max_tokens": 8}),
                {"Content-Type": "application/json"})
            time.sleep(moment)
            connection.close()
            time.sleep(0.1 * slow)
            before = ticks(worker)
            time.sleep(0.3)
            check(ticks(worker) - before <= 3, "it computes no more after 100 ms",
                  ticks(worker) - before)


def test_models_go_when_their_time_is_over():
    with Daemon("--ttl", "0") as daemon:
        daemon.text([user("Hi")])
        daemon.wait_for("a time to live of 0 ends it at once", lambda: daemon.workers() == [])
        daemon.chat([user("Hi")], ttl=600)
        time.sleep(0.5)
        check(len(daemon.workers()) == 1, "a request may say another one")
        status, answer = daemon.ask("POST", "/api/generate",
                                    {"model": NAME, "keep_alive": 0, "stream": False})
        check(status == 200 and answer.get("done_reason") == "unload", "or unload it", answer)
        daemon.wait_for("then it goes", lambda: daemon.workers() == [])


def test_keys_are_wanted_where_there_are_some():
    folder = tempfile.mkdtemp(prefix="hearth-serve-")
    path = os.path.join(folder, "keys")
    with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        file.write("# of the test\nsecret-one\nsecret-two\n")
    with Daemon("--key-file", path, folder=folder) as daemon:
        check(daemon.ask("GET", "/v1/models")[0] == 401, "none is given")
        check(daemon.ask("GET", "/v1/models", headers={"Authorization": "Bearer secret"})[0] == 401,
              "another one is given")
        for key in ("secret-one", "secret-two"):
            check(daemon.ask("GET", "/v1/models",
                             headers={"Authorization": f"Bearer {key}"})[0] == 200, "one is right")
        check(daemon.ask("GET", "/v1/models", unix=True)[0] == 200,
              "who may open the socket needs none")
        check("secret" not in daemon.said(), "the log has no key in it", daemon.said())
    os.chmod(path, 0o644)
    refused = subprocess.run([HEARTH, "serve", "--model", MODEL, "--port", "0", "--no-socket",
                              "--no-store", "--key-file", path], capture_output=True, text=True,
                             timeout=60)
    check(refused.returncode == 1 and "keys" in refused.stderr,
          "a key file that others may read is refused", refused.stderr)
    shutil.rmtree(folder)


def test_models_have_a_folder():
    folder = tempfile.mkdtemp(prefix="hearth-serve-")
    with Daemon(folder=folder, models=(), env=os.environ | {"XDG_DATA_HOME": folder}) as daemon:
        status, listed = daemon.ask("GET", "/v1/models")
        check(status == 200 and listed["data"] == [], "it is made, and empty", listed)
        models = os.path.join(folder, "hearth", "models")
        check(models in daemon.said(), "and named", daemon.said())
        os.symlink(MODEL, os.path.join(models, "mine.gguf"))
        answer = daemon.chat([user("Hi")], model="mine")
        check("choices" in answer, "what is put there can be asked", answer)
    shutil.rmtree(folder)


def start_by_systemd(*listeners, options=()):
    """As a service manager starts it, with sockets that are open already."""
    script = ('import fcntl, os, sys; count = int(sys.argv[1])\n'
              'copies = [fcntl.fcntl(int(n), fcntl.F_DUPFD_CLOEXEC, 50) for n in sys.argv[2:2 + count]]\n'
              'for at, fd in enumerate(copies): os.dup2(fd, 3 + at)\n'
              'os.environ.update(LISTEN_FDS=str(count), LISTEN_PID=str(os.getpid()))\n'
              'os.execv(sys.argv[2 + count], sys.argv[2 + count:])')
    numbers = [listener.fileno() for listener in listeners]
    return subprocess.Popen(
        ["python3", "-c", script, str(len(numbers)), *map(str, numbers), HEARTH, "serve", "--model", MODEL,
         "--no-store", *options], pass_fds=numbers, stderr=subprocess.PIPE, text=True)


def test_systemd_hands_it_sockets():
    folder = tempfile.mkdtemp(prefix="hearth-serve-")
    path = os.path.join(folder, "socket")
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        unix.bind(path)
        unix.listen()
        port = tcp.getsockname()[1]
        process = start_by_systemd(tcp, unix)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/v1/models")
        answer = connection.getresponse()
        text = answer.read()
        check(answer.status == 200 and NAME.encode() in text, "the inherited port answers", text)
        connection.request("GET", "/hearth/v1/status")
        status = json.loads(connection.getresponse().read())
        connection.close()
        check(status["listeners"] == [f"http://127.0.0.1:{port}", f"unix:{path}"],
              "both are where it listens", status)
        second = subprocess.run([HEARTH, "serve", "--model", MODEL, "--port", "0", "--socket", path,
                                 "--no-store"], capture_output=True, text=True, timeout=60)
        check(second.returncode == 1 and str(process.pid) in second.stderr,
              "a second one says who has the socket", second.stderr)
        stopped = subprocess.run([HEARTH, "stop", "--socket", path], capture_output=True, text=True,
                                 timeout=60)
        check(stopped.returncode == 0 and process.wait(20) == 0, "it is stopped", stopped.stderr)
        check(os.path.exists(path), "the socket stays, it is the service manager's")
        process.stderr.close()
    with socket.socket() as others:
        others.bind(("0.0.0.0", 0))
        others.listen()
        process = start_by_systemd(others)
        said = process.communicate(timeout=20)[1]
        check(process.returncode == 1 and "needs keys" in said,
              "a port that others reach needs keys, whoever opened it", said)
    shutil.rmtree(folder)


run_tests(globals())
