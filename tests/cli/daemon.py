"""daemon.py HEARTH MODEL SCRATCH: what a user asks of a running daemon, with the program's own commands."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

from pseudo_terminal import HEARTH, MODEL, PROMPT, SCRATCH, SLOW, Terminal, check, failures

NAME = os.path.basename(MODEL).removesuffix(".gguf")
os.environ["XDG_STATE_HOME"] = os.path.join(SCRATCH, "state")
GREEDY = ["--temp", "0", "-n", "12"]
NOBODY = "no daemon is running"


def hearth(*words, code=0):
    """Runs it; checks the exit code; returns standard output and error."""
    done = subprocess.run([HEARTH, *words], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=SLOW)
    check(done.returncode == code, f"{words} gives {code}, not {done.returncode}",
          done.stdout + done.stderr)
    return done.stdout, done.stderr


class Daemon:
    def __init__(self, *options):
        self.log = open(os.path.join(SCRATCH, "log"), "ab")
        self.process = subprocess.Popen([HEARTH, "serve", "--port", "0", *options], text=True,
                                        stdout=subprocess.PIPE, stderr=self.log)
        self.port = int(self.process.stdout.readline() or 0)
        check(self.port > 0, "the port is printed")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        check(self.process.wait(SLOW) == 0, "the daemon ends with 0")
        self.process.stdout.close()
        self.log.close()


def loaded():
    return {m["name"]: m for m in json.loads(hearth("ps", "--json")[0])["models"]
            if m["state"] == "loaded"}


def asked():
    """Requests for answers so far."""
    return hearth("logs")[0].count("route=/v1/chat/completions")


def test_nobody_is_there():
    for words in (["ps"], ["status"], ["load", NAME], ["unload", NAME], ["logs"], ["stop"]):
        out, err = hearth(*words, code=1)
        check(NOBODY in err and out == "" and err.count("\n") == 1, f"{words[0]} says so", err)
    out, err = hearth("run", MODEL, "Hi.", *GREEDY)
    check(out and err == "", "run does without", err)


def test_models_come_and_go():
    with Daemon("--model", MODEL) as daemon:
        out, err = hearth("ps")
        check(out == "" and "no model is loaded" in err, "nothing is loaded", out + err)
        out, err = hearth("load", NAME, "--ttl", "90s")
        check(NAME in err and out == "", "it is loaded", err)
        one = loaded()[NAME]
        check(one["private_bytes"] > 1e6 and one["mapped_bytes"] > 5e7, "what it takes is known", one)
        check(80 < one["expires_in_s"] <= 90, "its time is as said", one)
        out, err = hearth("ps")
        check(out.splitlines()[0].startswith("MODEL ") and re.search(
            rf"^{re.escape(NAME)} +loaded .* 1 min 2\d s|1 min 30 s", out, re.M), "ps shows it", out)
        out, err = hearth("status")
        for words in (f"process {daemon.process.pid}", "1 known, 1 loaded",
                      f"http://127.0.0.1:{daemon.port}", "unix:"):
            check(words in out, f"status has {words}", out)
        hearth("load", "nobody", code=1)
        hearth("unload", code=2)
        hearth("unload", NAME)
        check(loaded() == {}, "it is unloaded")
        out, err = hearth("unload", NAME, code=1)
        check("not loaded" in err, "once", err)
        hearth("load", NAME, "-c", "512")
        check(loaded()[NAME]["context"] == 512, "with its own context")
        hearth("unload", "--all")
        check(loaded() == {}, "all are unloaded")
        check(hearth("ps", "--all", "--names")[0] == NAME + "\n" and hearth("ps", "--names")[0] == "",
              "--names lists names")
        out, err = hearth("ps", "--all")
        check(out.splitlines()[1].split() == [NAME, "-"], "--all shows what is not loaded", out)


def test_run_lets_it_compute():
    with Daemon("--model", MODEL):
        alone, _ = hearth("run", MODEL, "Name three rivers.", "--no-daemon", *GREEDY)
        before = asked()
        for model in (NAME, MODEL, os.path.relpath(MODEL)):
            out, err = hearth("run", model, "Name three rivers.", *GREEDY)
            check(out == alone and err == "", "the answer is the same", (out, err))
        check(asked() == before + 3, "the daemon gave it")
        out, err = hearth("run", NAME, "Name three rivers.", "-v", *GREEDY)
        check(re.search(r"\(\d+ of them kept from before\)", err), "-v says what was known", err)
        hearth("run", "nobody", "Hi.", code=1)
        out, err = hearth("run", NAME, "word " * 20000, code=1)
        check("context" in err and err.count("\n") == 1, "what does not fit is said", err)
        for option in (["-c", "256"], ["--threads", "1"], ["--json"], ["--raw"]):
            before = asked()
            out, err = hearth("run", MODEL, "Hi.", *option, *GREEDY)
            check(out and asked() == before, f"with {option[0]} it works alone", err)


def test_a_model_without_a_template():
    folder = os.path.join(SCRATCH, "models")
    os.mkdir(folder)
    with open(MODEL, "rb") as file, open(os.path.join(folder, "plain.gguf"), "wb") as copy:
        copy.write(file.read().replace(b"tokenizer.chat_template", b"tokenizer.chat_nothing_"))
    text = "Once upon a time"
    with Daemon("--models", folder):
        alone, said = hearth("run", os.path.join(folder, "plain.gguf"), text, "--no-daemon", *GREEDY)
        out, err = hearth("run", "plain", text, *GREEDY)
        check(out == alone and err == said and "no chat template" in err, "it goes on with the text",
              (out, err))
        out, err = hearth("run", "plain", text, "--temp", "0")
        check("256" in err, "not without end", err)
        hearth("run", "plain", text, "--system", "Be brief.", code=1)
    shutil.rmtree(folder)


def test_conversations_are_the_daemons():
    turns = ["Name a colour.", "And another one?"]
    for turn in turns:  # before there is a daemon
        hearth("run", MODEL, turn, "--session", "alone", *GREEDY)
    alone = json.loads(hearth("sessions", "show", "alone", "--json")[0])["messages"]
    with Daemon("--model", MODEL):
        for turn in turns:
            hearth("run", NAME, turn, "--session", "colours", *GREEDY)
        names = hearth("sessions", "--names")[0].split()
        check(sorted(names) == ["alone", "colours"], "sessions lists what it has", names)
        shown = json.loads(hearth("sessions", "show", "colours", "--json")[0])
        check(shown["messages"] == alone, "it is the same conversation", shown)
        check(shown["message_count"] == 4 and shown["tokens"] > 40 and shown["model"] and
              shown["model_name"], "with what is known of it", shown)
        out, err = hearth("run", NAME, "One more?", "--session", "alone", "-v", *GREEDY)
        check("kept from before" in err, "it goes on with what was computed without it", err)
        out, err = hearth("sessions", "remove", "alone", "nobody", code=1)
        check("nobody" in err or "no conversation" in err, "what is not there is said", err)
        check(hearth("sessions", "--names")[0] == "colours\n", "it is removed")
        out, err = hearth("run", MODEL, "Hi.", "--session", "x", "--no-daemon", *GREEDY, code=1)
        check("process" in err, "the store is the daemon's", err)
        out, err = hearth("run", MODEL, "Hi.", "--session", "x", "--store",
                          os.path.join(SCRATCH, "elsewhere"), *GREEDY)
        check(out and err == "", "another store is another place", err)
    elsewhere = os.path.join(SCRATCH, "daemon's store")
    with Daemon("--model", MODEL, "--store", elsewhere):
        hearth("run", NAME, "Hi.", "--session", "there", *GREEDY)
        check(hearth("sessions", "--names")[0] == "there\n", "sessions asks whom run asks")
    check(hearth("sessions", "--names", "--store", elsewhere)[0] == "there\n", "where it kept them")
    with Daemon("--model", MODEL, "--no-store"):
        check(hearth("sessions", "--names")[0] == "colours\n",
              "without a store of the daemon's the user's own is looked into")
    out, err = hearth("run", MODEL, "One more?", "--session", "colours", "-v", *GREEDY)
    check("kept from before" in err, "and it goes on without the daemon", err)
    hearth("sessions", "remove", "colours")


def test_completion():
    """The shell offers names of models."""
    if not shutil.which("bash"):
        return
    script = os.path.join(SCRATCH, "completion")
    with open(script, "w") as file:
        file.write(hearth("completion", "bash")[0])
    with Daemon("--model", MODEL):
        out = subprocess.run(
            ["bash", "-c", '. "$1"; PATH=$2:$PATH; COMP_WORDS=(hearth load Smol); COMP_CWORD=2; '
             '_hearth; printf "%s\\n" "${COMPREPLY[@]}"', "-", script, os.path.dirname(HEARTH)],
            capture_output=True, text=True).stdout
        check(out == NAME + "\n", "bash completes the name of a model", out)


def test_a_conversation_on_the_terminal():
    def say(terminal, text):
        terminal.type(text.encode() + b"\r")
        return terminal.wait_for(PROMPT).decode()

    with Daemon("--model", MODEL):
        for words in ([], ["--session", "held"]):
            t = Terminal("run", NAME, *GREEDY, *words)
            t.wait_for(PROMPT)
            first = say(t, "Name a colour.")
            say(t, "And another one?")
            check(say(t, "/history").count("assistant: ") == 2, "the history is there")
            say(t, "/undo")
            check(say(t, "/history").count("user: ") == 1, "a turn is taken back")
            again = say(t, "/regenerate")
            check(first.splitlines()[1] in again, "an answer is written again", (first, again))
            check("2 messages" in say(t, "/info"), "what it takes is said")
            say(t, "/system Be brief.")
            check("Be brief." in say(t, "/system"), "a system message is set")
            check("system: Be brief." in say(t, "/history"), "and is the first")
            say(t, "/keep copy")
            check("there is a conversation" in say(t, "/keep copy"), "a name is taken once")
            say(t, "Go on.")
            t.type(b"\x04")
            check(t.leave() == 0, "Ctrl-D leaves with 0")
            messages = json.loads(hearth("sessions", "show", "copy", "--json")[0])["messages"]
            check([m["role"] for m in messages] == ["system"] + 2 * ["user", "assistant"],
                  "the copy went on", messages)
            hearth("sessions", "remove", "copy")
        check("held" in hearth("sessions", "--names")[0], "the one it was copied from stays")
        t = Terminal("run", NAME, *GREEDY, "--session", "held")
        t.wait_for(b"goes on behind 3 messages")
        t.wait_for(PROMPT)
        say(t, "/reset")
        t.type(b"\x04")
        check(t.leave() == 0, "Ctrl-D leaves with 0")


def test_interrupted():
    with Daemon("--model", MODEL):
        for session in ([], ["--session", "cut"]):
            process = subprocess.Popen(
                [HEARTH, "run", NAME, "--temp", "0", *session, "Write a very long story about the sea."],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            seen = process.stdout.read(40)
            process.send_signal(signal.SIGINT)
            seen += process.stdout.read()
            check(process.wait(SLOW) == 130, "Ctrl-C gives 130")
        end = time.monotonic() + SLOW
        while json.loads(hearth("status", "--json")[0])["running"] and time.monotonic() < end:
            time.sleep(0.05)
        messages = json.loads(hearth("sessions", "show", "cut", "--json")[0])["messages"]
        check(len(messages) == 2 and seen.decode().rstrip("\n").startswith(messages[1]["content"][:40]),
              "the history keeps what was said", (seen, messages))
        out, err = hearth("run", NAME, "Go on.", "--session", "cut", *GREEDY)
        check(out and err == "", "and it goes on", err)
        hearth("sessions", "remove", "cut")


def test_a_daemon_without_a_store():
    with Daemon("--model", MODEL, "--no-store"):
        t = Terminal("run", NAME, *GREEDY)
        t.wait_for(PROMPT)
        t.type(b"/keep it\r")
        check(b"no store" in t.wait_for(PROMPT), "nothing can be kept")
        t.type(b"\x04")
        check(t.leave() == 0, "Ctrl-D leaves with 0")
        out, err = hearth("run", NAME, "Hi.", "--session", "x", *GREEDY, code=1)
        check("store" in err, "and a name is an error", err)


def test_logs_and_the_end():
    with Daemon("--model", MODEL) as daemon:
        follower = subprocess.Popen([HEARTH, "logs", "--follow"], stdout=subprocess.PIPE, text=True)
        hearth("run", NAME, "Hi.", *GREEDY)
        for line in follower.stdout:
            if "/v1/chat/completions" in line:
                break
        check(re.match(r"\S+Z info +request request=\d+ method=POST route=/v1/chat/completions "
                       r"status=200 ms=", line), "a line has what a request was", line)
        lines = hearth("logs")[0]
        check("worker ready" in lines and "Hi." not in lines, "nothing that was said is in it", lines)
        out, err = hearth("stop")
        check(out == "" and err == "", "stop says nothing", err)
        check(daemon.process.poll() == 0 or daemon.process.wait(1) == 0, "it returns when it is gone")
        check(follower.wait(SLOW) == 0, "who follows the log is told the end")
        hearth("status", code=1)


for name, test in list(globals().items()):
    if name.startswith("test_"):
        begin = time.monotonic()
        test()
        print(f"{name[5:].replace('_', ' ')}: {time.monotonic() - begin:.1f} s", flush=True)
sys.exit(1 if failures else 0)
