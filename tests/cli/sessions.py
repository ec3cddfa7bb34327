"""sessions.py HEARTH MODEL SCRATCH: conversations that are kept, as a user holds them: in one process
after the other, on a terminal, interrupted, removed, damaged."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unicodedata

from pseudo_terminal import HEARTH, MODEL, PROMPT, SCRATCH, SLOW, Terminal, check, failures

STATE = os.path.join(SCRATCH, "state")
STORE = os.path.join(STATE, "hearth", "store")
os.environ["XDG_STATE_HOME"] = STATE
GREEDY = ["--temp", "0", "-n", "16"]


def hearth(*words, code=0, text=""):
    """Runs it; checks the exit code; returns standard output and error."""
    done = subprocess.run([HEARTH, *words], input=text, capture_output=True, text=True,
                          timeout=SLOW)
    check(done.returncode == code, f"{words} gives {code}, not {done.returncode}",
          done.stdout + done.stderr)
    return done.stdout, done.stderr


def answer(*words, code=0):
    return json.loads(hearth("run", MODEL, *words, *GREEDY, "--json", code=code)[0])


def sessions():
    return {s["name"]: s for s in json.loads(hearth("sessions", "--json")[0])["sessions"]}


def messages(name):
    return json.loads(hearth("sessions", "show", name, "--json")[0])["messages"]


def test_it_goes_on_in_another_process():
    turns = ["Name a colour.", "And another one?", "Which of the two is warmer?"]
    # all in one process, on a terminal
    t = Terminal("run", MODEL, *GREEDY, "--session", "one process")
    t.wait_for(PROMPT)
    for turn in turns:
        t.type(turn.encode() + b"\r")
        t.wait_for(PROMPT)
    t.type(b"\x04")
    check(t.leave() == 0, "Ctrl-D leaves with 0")
    whole = messages("one process")
    # each in its own
    answers = [answer("--session", "a", turn) for turn in turns]
    check(messages("a") == whole, "the answers are those of one process", messages("a"))
    for before, after in zip(answers, answers[1:]):
        known = before["prompt_ids"] + before["ids"]
        check(after["prompt_ids"][:len(known)] == known, "the prompt begins with what was there")
        check(after["timings"]["cached_tokens"] >= len(known) - 1 and after["miss"] == "nothing",
              "what was computed is kept", after["timings"])
    out, err = hearth("run", MODEL, "--session", "a", "One more.", "-v", *GREEDY)
    check(re.search(r"\((\d+) of them kept from before\)", err), "-v tells what was kept", err)
    # and with nothing that was computed kept
    shutil.rmtree(os.path.join(STORE, "spills"), ignore_errors=True)
    hearth("run", MODEL, "--session", "b", turns[0], *GREEDY)
    for turn in turns[1:]:
        shutil.rmtree(os.path.join(STORE, "spills"), ignore_errors=True)
        after = answer("--session", "b", turn)
        check(after["miss"] == "evicted" and after["timings"]["cached_tokens"] == 0,
              "what is gone is computed again", after["timings"])
    check(messages("b") == whole, "computed again they are the same", messages("b"))


def test_listed_shown_removed():
    all_of_them = sessions()
    check(sorted(all_of_them) == ["a", "b", "one process"], "all are listed", all_of_them)
    a = all_of_them["b"]
    check(sorted(a) == sorted(["name", "model", "model_name", "message_count", "tokens", "kept_tokens",
                               "memory_bytes", "disk_bytes", "used_unix"]), "the fields", a)
    check(a["message_count"] == 6 and a["tokens"] > 60, "messages and tokens are counted", a)
    check(a["kept_tokens"] > 60 and a["memory_bytes"] > 10000, "a spill is there", a)
    check(a["disk_bytes"] > a["memory_bytes"] and abs(a["used_unix"] - time.time()) < 60,
          "disk and last use", a)
    out, err = hearth("sessions")
    lines = out.splitlines()
    check(lines[0].split() == ["NAME", "MESSAGES", "TOKENS", "MEMORY", "DISK", "LAST", "USE",
                                 "MODEL"],
          "the table has a head", out)
    check(a["model_name"] and lines[1].endswith(a["model_name"]), "the model has a name", out)
    check(len({line.index(end) for line, end in
               zip(lines, ["LAST USE"] + ["just now"] * 3)}) == 1, "columns are aligned", out)
    check(lines[1].startswith("b "), "the one used last is the first", out)
    check(hearth("sessions", "list", "--names")[0] == "b\na\none process\n", "--names lists names")
    out, err = hearth("sessions", "show", "a")
    check("user: Name a colour." in out and out.count("assistant: ") == 4, "show shows it", out)
    check(re.search(r"^messages +8$", out, re.M) and re.search(r"^disk +.*iB$", out, re.M),
          "and what it takes", out)
    hearth("sessions", "show", "nothing", code=1)
    hearth("sessions", "show", code=2)
    hearth("sessions", "list", "a", code=2)
    hearth("sessions", "remove", code=2)
    hearth("sessions", "remove", "--all", code=2)  # nobody can be asked
    check(hearth("sessions", "lits", code=2)[1].count("did you mean list?") == 1, "a near word")
    out, err = hearth("sessions", "remove", "nothing", "b", "--json", code=1)
    check(json.loads(out) == {"removed": ["b"]} and "nothing" in err, "one is removed", out + err)
    check("b" not in sessions(), "what is removed is gone")
    check(answer("--session", "b", "Name a colour.")["miss"] == "new", "its name is free")
    t = Terminal("sessions", "remove", "--all")
    t.wait_for(b"Remove all 3 conversations?")
    t.type(b"n\r")
    check(t.leave() == 1 and len(sessions()) == 3, "a question can be answered with no")
    t = Terminal("sessions", "remove", "--all")
    t.wait_for(b"[y/N]")
    t.type(b"y\r")
    check(t.leave() == 0 and not sessions(), "or with yes")
    check(hearth("sessions")[1].count("no conversations") == 1, "an empty list says so")


def memory_of(pid):
    """Private memory in bytes."""
    with open(f"/proc/{pid}/status") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("RssAnon")) * 1024


def test_in_a_conversation():
    """/keep gives a name, /info tells, /undo and /reset are kept too; memory alone may do."""
    t = Terminal("run", MODEL, *GREEDY)
    t.wait_for(PROMPT)
    t.type(b"Name a colour.\r")
    t.wait_for(PROMPT)
    t.type(b"/keep first\r")
    t.wait_for(b"kept as")
    t.wait_for(PROMPT)
    t.type(b"And another one?\r")
    t.wait_for(PROMPT)
    t.type(b"/info\r")
    check(re.search(rb'"first": 4 messages, \d+ tokens; [\d.]+ [KM]iB in memory',
                    t.wait_for(PROMPT)), "/info tells what it takes")
    t.type(b"/undo\r")
    t.wait_for(PROMPT)
    t.type(b"/keep first\r")
    check(b"there is a conversation" in t.wait_for(PROMPT), "a name is taken once")
    t.type(b"\x04")
    check(t.leave() == 0 and len(messages("first")) == 2, "what was taken back is gone")
    t = Terminal("run", MODEL, "--session", "first", *GREEDY)
    check(b"goes on behind 2 messages" in t.wait_for(PROMPT), "it says where it goes on")
    t.type(b"/reset\r")
    t.wait_for(PROMPT)
    t.type(b"\x04")
    check(t.leave() == 0 and "first" not in sessions(), "nothing is left after /reset")
    t = Terminal("run", MODEL, "--no-store", "--idle", "0", "-v", *GREEDY)
    t.wait_for(PROMPT)
    t.type(b"/keep second\r")
    check(b"no store" in t.wait_for(PROMPT), "without a store nothing can be kept")
    t.type(b"Name a colour.\r")
    t.wait_for(PROMPT)
    t.type(b"And another one?\r")
    said = t.wait_for(PROMPT)
    check(b"of them kept" not in said and b"answer: " in said,
          "what is disposed at once, and not written, is computed again", said)
    t.type(b"\x04")
    check(t.leave() == 0, "Ctrl-D leaves with 0")


def test_idle():
    """An unused conversation gives its memory back while the prompt waits, and goes on."""
    text = "The sea is wide and deep. " * 150
    t = Terminal("run", MODEL, *GREEDY, "-v", "--idle", "1500ms")
    t.wait_for(PROMPT)
    t.type(b'"""' + text.encode() + b'"""\r')
    t.wait_for(PROMPT)
    before = memory_of(t.pid)
    end = time.monotonic() + SLOW
    while memory_of(t.pid) > before - 8e6 and time.monotonic() < end:
        time.sleep(0.05)
    after = memory_of(t.pid)
    check(after < before - 8e6, f"memory is given back: {before / 1e6:.1f}, {after / 1e6:.1f} MB")
    t.type(b"Go on.\r")
    said = t.wait_for(PROMPT)
    kept = re.search(rb"\((\d+) of them kept from before\)", said)
    check(kept and int(kept[1]) > 900, "it goes on from what was written to the disk", said)
    t.type(b"\x04")
    check(t.leave() == 0, "Ctrl-D leaves with 0")
    check(not os.listdir(os.path.join(STORE, "spills")), "anonymous ones leave no file behind")


def test_completion():
    """The shell offers names of conversations."""
    script = os.path.join(SCRATCH, "completion")
    with open(script, "w") as file:
        file.write(hearth("completion", "bash")[0])
    hearth("run", MODEL, "--session", "sea stories", "Hello.", *GREEDY)
    for words in (["sessions", "show", "se"], ["run", "model", "--session", "s"],
                  ["sessions", "remove", "sea\\ s"]):
        if not shutil.which("bash"):
            return
        out = subprocess.run(
            ["bash", "-c", '. "$1"; PATH=$2:$PATH; shift 2; COMP_WORDS=("$@"); '
             'COMP_CWORD=$(($# - 1)); _hearth; printf "%s\n" "${COMPREPLY[@]}"', "-", script,
             os.path.dirname(HEARTH), "hearth", *words], capture_output=True, text=True).stdout
        check(out == "sea\\ stories\n", f"bash completes {words}", out)
    hearth("sessions", "remove", "sea stories")


def test_two_processes():
    t = Terminal("run", MODEL, "--session", "held", *GREEDY)
    t.wait_for(PROMPT)
    out, err = hearth("run", MODEL, "--session", "other", "Hello.", *GREEDY, code=1)
    check(str(t.pid) in err and out == "" and err.count("\n") == 1, "who holds it is named", err)
    hearth("sessions", code=1)
    out, err = hearth("run", MODEL, "Hello.", *GREEDY)
    check(err == "" and out, "one answer needs no store", err)
    other = Terminal("run", MODEL, *GREEDY)
    other.wait_for(b"goes on without")
    other.wait_for(PROMPT)
    other.type(b"Hello.\r")
    other.wait_for(PROMPT)
    other.type(b"\x04")
    check(other.leave() == 0, "a conversation without a name goes on without the store")
    other = Terminal("run", MODEL, "--no-store", *GREEDY)
    check(b"without" not in other.wait_for(PROMPT), "--no-store has nothing to say")
    other.type(b"\x04")
    other.leave()
    t.type(b"\x04")
    check(t.leave() == 0, "Ctrl-D leaves with 0")
    hearth("run", MODEL, "--session", "x", "--no-store", "Hello.", code=2)
    hearth("run", MODEL, "--session", "", "Hello.", code=1)
    hearth("run", MODEL, "--session", "x" * 300, "Hello.", code=1)


def columns(text):
    """As a terminal counts them."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
               for c in text)


def test_names_in_all_scripts():
    names = ["plain", "\u65e5\u672c\u8a9e\u306e\u8a71", "cafe\u0301", "\ud55c\uad6d" * 30,
             "tab\tand \x1b[31m"]
    for name in names:
        hearth("run", MODEL, "--session", name, "Hello.", "-n", "1")
    head, *rows = hearth("sessions")[0].splitlines()
    at = {columns(row[:row.index("just now")]) for row in rows}
    check(at == {columns(head[:head.index("LAST USE")])}, "columns are aligned", rows)
    check(any("\u2026  " in row and columns(row.split("  ")[0]) in (39, 40) for row in rows),
          "a long name is cut", rows)
    check(not any("\x1b" in row for row in rows), "no name steers the terminal", rows)
    hearth("sessions", "remove", *names)
    check(not sessions(), "each is removed by its name")


def test_a_store_that_cannot_be_written():
    path = os.path.join(SCRATCH, "file")
    with open(path, "w"):
        pass
    for where in (path, path + "/below", "/proc/hearth"):
        out, err = hearth("run", MODEL, "--session", "x", "--store", where, "Hi.", code=1)
        check(out == "" and err.count("\n") == 1, "a sentence says why", err)
        hearth("sessions", "--store", where, code=1)
    t = Terminal("run", MODEL, "--store", path, *GREEDY)
    t.wait_for(b"goes on without")
    t.wait_for(PROMPT)
    t.type(b"\x04")
    check(t.leave() == 0, "without a name it goes on without the store")
    elsewhere = os.path.join(SCRATCH, "else where")
    hearth("run", MODEL, "--session", "x", "--store", elsewhere, "Hi.", *GREEDY)
    check("x" not in sessions() and os.path.isdir(elsewhere), "--store keeps it elsewhere")
    check(os.stat(elsewhere).st_mode & 0o777 == 0o700, "the folder is the user's alone")
    hearth("sessions", "remove", "x", "--store", elsewhere)


def test_interrupted():
    """Ctrl-C keeps the text so far; kill -9 loses no conversation."""
    def start():
        process = subprocess.Popen([HEARTH, "run", MODEL, "--session", "c", "--temp", "0",
                                    "Write a very long story about the sea."],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        seen = process.stdout.read(40)
        return process, seen

    process, seen = start()
    process.send_signal(signal.SIGINT)
    seen += process.stdout.read()
    check(process.wait(SLOW) == 130, "Ctrl-C gives 130")
    kept = messages("c")
    check(len(kept) == 2 and kept[1]["content"] == seen.decode().rstrip("\n"),
          "the history keeps the text so far", kept)
    hearth("run", MODEL, "--session", "c", "Go on.", *GREEDY)
    kept = messages("c")
    check(len(kept) == 4, "and it goes on", kept)
    process, seen = start()
    process.kill()
    process.wait()
    check(messages("c")[:4] == kept, "kill -9 loses nothing that was said", messages("c"))
    hearth("run", MODEL, "--session", "c", "Go on.", *GREEDY)
    check(len(messages("c")) == 6, "and it goes on", messages("c"))
    hearth("run", MODEL, "--session", "never", "-c", "64", "word " * 200, code=1)
    check("never" not in sessions(), "a conversation in which nothing was said is not kept")
    # a prompt that cannot be answered leaves no trace
    hearth("run", MODEL, "--session", "c", "-c", "64", "word " * 200, code=1)
    check(len(messages("c")) == 6, "what has no answer is not kept")


def test_asked_to_end():
    """SIGTERM and the end of the terminal leave in order: what was computed is kept, too."""
    for number, code in ((signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        t = Terminal("run", MODEL, "--session", "ended", "--temp", "0")
        t.wait_for(PROMPT)
        t.type(b"Name a colour, and say where one sees it.\r")
        t.wait_for(PROMPT)
        os.kill(t.pid, number)
        check(t.leave() == code, f"while keys are awaited {number.name} gives {code}")
        first = messages("ended")
        check(len(first) == 2 and sessions()["ended"]["kept_tokens"] > 40,
              "what was computed is on the disk", sessions())
        t = Terminal("run", MODEL, "--session", "ended", "--temp", "0")
        t.wait_for(PROMPT)
        t.type(b"Write a very long story about the sea.\r")
        t.wait_for(b"\n")
        while len(t.seen) < 60 and t.read(SLOW):
            pass
        os.kill(t.pid, number)
        check(t.leave() == code, f"while an answer is written {number.name} gives {code}")
        both = messages("ended")
        check(len(both) == 4 and both[:2] == first and len(both[3]["content"]) > 40,
              "the history keeps the text so far", both)
        kept = sessions()["ended"]
        check(kept["kept_tokens"] >= kept["tokens"] - 1, "and what was computed of it", kept)
        hearth("sessions", "remove", "ended")
    process = subprocess.Popen([HEARTH, "run", MODEL, "--session", "ended", "--temp", "0",
                                "Write a very long story about the sea."],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    seen = process.stdout.read(40)
    process.terminate()
    seen += process.stdout.read()
    check(process.wait(SLOW) == 143, "one answer ends with 143")
    check(messages("ended")[1]["content"] == seen.decode().rstrip("\n"), "its text is kept")
    check(answer("--session", "ended", "Go on.")["miss"] == "nothing", "it goes on")
    hearth("sessions", "remove", "ended")


def test_damaged_and_other():
    first = answer("--session", "d", "Name a colour.")
    spills = os.path.join(STORE, "spills")
    for name in os.listdir(spills):
        with open(os.path.join(spills, name), "r+b") as file:
            file.seek(os.path.getsize(file.name) // 2)
            file.write(b"damage")
    out, err = hearth("run", MODEL, "--session", "d", "And another?", *GREEDY, "--json")
    second = json.loads(out)
    check(second["miss"] == "damaged" and "damaged" in err, "damage is found and said", err)
    hearth("run", MODEL, "--session", "e", "Name a colour.", *GREEDY)
    check(second["ids"] == answer("--session", "e", "And another?")["ids"], "and changes nothing")
    out, err = hearth("run", MODEL, "--session", "e", "--kv", "q8_0", "Once more.", *GREEDY,
                      "--json")
    check(json.loads(out)["miss"] == "model" and "another" in err, "another KV type is told", err)
    check(first["miss"] == "new", "a conversation begins as new")
    out, err = hearth("run", MODEL, "--session", "e", "--system", "Answer in French.", "Hello.",
                      "--kv", "q8_0", *GREEDY, "--json")
    check(messages("e")[0] == {"role": "system", "content": "Answer in French."},
          "--system sets the message of one that is there")
    check(json.loads(out)["miss"] == "edited", "which costs what it changes", out)
    hearth("run", MODEL, "--session", "raw", "--raw", "One, two,", "-n", "2")
    out, err = hearth("run", MODEL, "--session", "raw", "three,", "-n", "2")
    check("was begun with --raw" in err, "one without the template stays so, and says it", err)


for test in (test_it_goes_on_in_another_process, test_listed_shown_removed,
             test_in_a_conversation, test_idle, test_completion, test_two_processes,
             test_names_in_all_scripts, test_a_store_that_cannot_be_written, test_interrupted, test_asked_to_end,
             test_damaged_and_other):
    begin = time.monotonic()
    test()
    print(f"{test.__name__}: {time.monotonic() - begin:.1f} s")
print("all is well" if not failures else f"{len(failures)} checks failed")
sys.exit(1 if failures else 0)
