"""terminal.py HEARTH MODEL SCRATCH: drives hearth on a pseudo-terminal, and interrupts it."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time

from pseudo_terminal import HEARTH, MODEL, PROMPT, SCRATCH, SLOW, Terminal, check, failures

# What is promised of Ctrl-C, in seconds; a build with sanitizers is given more.
LIMIT = 1.0 if os.environ.get("HEARTH_SANITIZED") else 0.1


def messages_of(t, name):
    """What /save writes, into a file of that name."""
    path = os.path.join(SCRATCH, name + ".json")
    t.type(b"/save " + path.encode() + b"\r")
    t.wait_for(PROMPT)
    with open(path) as file:
        return json.load(file)


def test_conversation():
    t = Terminal("run", MODEL, "--temp", "0", "-n", "12", "-v")
    t.wait_for(PROMPT)
    t.type(b"Name a colour.\r")
    first = t.wait_for(PROMPT)
    check(b"prompt: " in first and b"tokens/s" in first, "-v tells times", first)
    t.type(b"Another one.\r")
    second = t.wait_for(PROMPT)
    kept = re.search(rb"\((\d+) of them kept from before\)", second)
    check(kept and int(kept[1]) > 30, "a second turn keeps the first one's tokens", second)
    t.type(b"/help\r")
    check(b"/reset" in t.wait_for(PROMPT), "/help lists commands")
    t.type(b"/rest\r")
    check(b"there is no command /rest" in t.wait_for(PROMPT), "a wrong command is told")
    t.type(b" \t \r")
    check(b"answer: " not in t.wait_for(PROMPT), "a blank line asks nothing")
    t.type(b"/system Answer in French.\r")
    check(b"is set" in t.wait_for(PROMPT), "/system sets the message")
    t.type(b"/system\r")
    check(b"Answer in French." in t.wait_for(PROMPT), "/system shows the message")
    saved = os.path.join(SCRATCH, "saved.json")
    t.type(b"/save " + saved.encode() + b"\r")
    t.wait_for(PROMPT)
    check(open(saved).read().count('"role"') == 5, "/save writes all messages")
    t.type(b"/history\r")
    shown = t.wait_for(PROMPT)
    check(b"user: Name a colour." in shown and shown.count(b"assistant: ") == 2,
          "/history shows the messages", shown)
    t.type(b"/regenerate\r")  # with the system message
    again = t.wait_for(PROMPT)
    check(b"answer: " in again, "/regenerate answers again", again)
    before = messages_of(t, "before")
    t.type(b"/regenerate\r")
    t.wait_for(PROMPT)
    check(messages_of(t, "again") == before, "a greedy answer written again is the same")
    t.type(b"/undo\r")
    check(b"taken back" in t.wait_for(PROMPT), "/undo tells what it did")
    check(messages_of(t, "undone") == before[:3], "/undo takes a text and its answer back")
    t.type(b"/undo\r")
    t.wait_for(PROMPT)
    t.type(b"/undo\r")
    check(b"no turn to take back" in t.wait_for(PROMPT), "there is an end to /undo")
    check(messages_of(t, "empty") == before[:1], "the system message stays")
    t.type(b"/regenerate\r")
    check(b"nothing to answer" in t.wait_for(PROMPT), "/regenerate needs a text")
    t.type(b"/reset\r")
    check(b"a new conversation" in t.wait_for(PROMPT), "/reset begins anew")
    t.type(b"\x04")
    check(t.leave() == 0, "Ctrl-D leaves with 0")


def test_lines_and_history():
    """Pasted lines, quoted lines and what the history keeps."""
    t = Terminal("run", MODEL, "-n", "1", state="history")
    t.wait_for(PROMPT)
    t.type(b"\x1b[200~pasted one\rpasted two\x1b[201~")
    t.wait_for(b"pasted two")
    t.type(b"\r")
    t.wait_for(PROMPT)
    t.type(b'"""quoted one\r')
    t.wait_for(b"... ")
    t.type(b'quoted two"""\r')
    t.wait_for(PROMPT)
    t.type("gr\u00fc\u00dfe\r".encode())
    t.wait_for(PROMPT)
    t.type(b"/save " + os.path.join(SCRATCH, "lines.json").encode() + b"\r")
    t.wait_for(PROMPT)
    t.type(b"\x04")
    check(t.leave() == 0, "Ctrl-D leaves with 0")
    messages = open(os.path.join(SCRATCH, "lines.json")).read()
    check("pasted one\\npasted two" in messages, "a paste is one message", messages)
    check("quoted one\\nquoted two" in messages, "quotes hold several lines", messages)
    check("gr\u00fc\u00dfe" in messages, "letters beyond ASCII arrive", messages)
    path = os.path.join(SCRATCH, "history", "hearth", "history")
    check(stat.S_IMODE(os.stat(path).st_mode) == 0o600, "the history is the user's alone")
    check(len(open(path).read().splitlines()) == 5, "each entry is kept once", open(path).read())
    t = Terminal("run", MODEL, "-n", "1", state="history")
    t.wait_for(PROMPT)
    t.type(b"\x1b[A\x1b[A")  # up twice: past /save, to the line before
    t.wait_for("gr\u00fc\u00dfe".encode())
    t.type(b"\x15\x04")
    check(t.leave() == 0, "a later conversation has the history")


def test_typing_ahead():
    """What is typed while an answer is written is there at the next prompts, Ctrl-D too."""
    saved = os.path.join(SCRATCH, "ahead.json")
    t = Terminal("run", MODEL, "-n", "40", "--temp", "0")
    t.wait_for(PROMPT)
    t.type(b"Write a story.\r")
    t.wait_for(b"\n")
    while len(t.seen) < 8 and t.read(SLOW):
        pass
    t.type("Gr\u00fc\u00dfe.\r/save ".encode() + saved.encode() + b"\r\x04")
    check(t.leave() == 0, "Ctrl-D typed ahead leaves with 0", t.seen)
    text = open(saved).read() if os.path.exists(saved) else ""
    check(text.count('"user"') == 2 and "Gr\u00fc\u00dfe." in text, "lines typed ahead are taken",
          text)


def test_keys_at_each_prompt():
    """Keys that a terminal treats by itself work from the moment on at which a prompt stands."""
    t = Terminal("run", MODEL)
    for _ in range(20):
        t.wait_for(PROMPT)
        t.type(b"abandoned\x03")
        t.wait_for(b"Ctrl-C again")
        t.wait_for(PROMPT)
        t.type(b"/rest\r")
    t.wait_for(PROMPT)
    t.type(b"\x04")
    check(t.leave() == 0, "Ctrl-D leaves with 0")


def test_ctrl_c_in_conversation():
    t = Terminal("run", MODEL)
    t.wait_for(PROMPT)
    t.type(b"abandoned\x03")
    t.wait_for(b"Ctrl-C again")
    t.wait_for(PROMPT)
    t.type(b"Write a very long story about the sea.\r")
    t.wait_for(b"\n")
    while len(t.seen) < 20 and t.read(SLOW):
        pass
    begin = time.monotonic()
    t.type(b"\x03")
    t.wait_for(b"stopped")
    took = time.monotonic() - begin
    check(took < LIMIT, f"Ctrl-C stops an answer in time, not after {took * 1e3:.0f} ms")
    t.wait_for(PROMPT)
    t.type(b"\x03")
    check(t.leave() == 130, "a second Ctrl-C leaves with 130")


def interrupt_once(words, when, stdin):
    """Sends SIGINT after `when(process)`; returns exit code, output and seconds until it was gone."""
    process = subprocess.Popen([HEARTH, *words], stdin=stdin, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    when(process)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=SLOW)
    return process.returncode, out, time.monotonic() - begin


def interrupt(words, when, name, stdin=subprocess.DEVNULL):
    """The same, checked. Of three tries one must be in time: a busy machine may delay any of them,
    but a program that does not look for Ctrl-C is late in all."""
    times = []
    while not times or (times[-1] >= LIMIT and len(times) < 3):
        code, out, took = interrupt_once(words, when, stdin)
        times.append(took)
        check(code == 130, f"{name}: exit code 130, not {code}", out)
    print(f"{name}: {times[-1] * 1e3:.0f} ms")
    check(times[-1] < LIMIT, f"{name}: within {LIMIT * 1e3:.0f} ms, not {times}")
    return out


def test_ctrl_c():
    story = ["run", MODEL, "Write a very long story about the sea."]
    out = interrupt(story, lambda p: p.stdout.read(8), "Ctrl-C while an answer is written")
    check(out.endswith(b"\n"), "what was written ends in a newline", out)
    out = interrupt([*story, "--json"], lambda p: time.sleep(1.0), "Ctrl-C in --json")
    check(b'"stop": "cancelled"' in out, "--json says that it was cancelled", out)
    prompt = "The quick brown fox jumps over the lazy dog. " * 600
    for pause in (0.3, 0.5, 0.8):
        interrupt(["run", MODEL, prompt], lambda p: time.sleep(pause),
                  f"Ctrl-C while a prompt is read, after {pause} s")
    interrupt(["run", MODEL], lambda p: time.sleep(0.3), "Ctrl-C while standard input is awaited",
              subprocess.PIPE)
    text = os.path.join(SCRATCH, "long.txt")
    with open(text, "w") as file:
        file.write(prompt * 4)
    interrupt(["perplexity", MODEL, text], lambda p: time.sleep(0.5), "Ctrl-C in perplexity")


def test_control_characters():
    """What a model writes cannot steer the terminal: here an escape character, forced."""
    escape = subprocess.run([HEARTH, "tokenize", MODEL, "--ids"], input=b"\x1b",
                            capture_output=True, check=True).stdout.split()
    t = Terminal("run", MODEL, "--raw", "x", "-n", "2", "--logit-bias",
                 escape[0].decode() + "+1000", "--temp", "0")
    seen = b""
    while t.read(SLOW):
        pass
    seen = t.seen
    check(t.leave() == 0, "it leaves with 0")
    # standard input is the terminal and a PROMPT is given: one answer, no editor
    check(b"\x1b" not in seen and "\ufffd".encode() in seen, "an escape character is not shown", seen)


test_conversation()
test_lines_and_history()
test_typing_ahead()
test_keys_at_each_prompt()
test_ctrl_c_in_conversation()
test_ctrl_c()
test_control_characters()
print("all is well" if not failures else f"{len(failures)} checks failed")
sys.exit(1 if failures else 0)
