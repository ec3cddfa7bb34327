"""portable.py PORTABLE MODEL HEARTH [TEST...]: what the executable of the packages needs of a system, which
is its C library alone. HEARTH is the one that is linked as usual."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from ctypes.util import find_library

HERE = os.path.dirname(os.path.abspath(__file__))
PORTABLE, MODEL, LINKED, *ONLY = sys.argv[1:]
sys.path[:0] = [os.path.join(HERE, "..", "server"), os.path.join(HERE, "..", "cli")]
sys.argv[1:] = [PORTABLE, MODEL, ""]  # as these are called
import pseudo_terminal  # noqa: E402
sys.argv[1:] = [PORTABLE, MODEL, *ONLY]
from serving import SLOW, Daemon, UnixConnection, check, run_tests, user  # noqa: E402

QUESTION = "Name three rivers."
SIZE_MAX = 10_000_000
GLIBC_MAX = (2, 36)


NAMESPACES = ["unshare", "--user", "--map-root-user", "--mount"]
HAS_NAMESPACES = subprocess.run([*NAMESPACES, "true"], capture_output=True).returncode == 0


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True,
                          env=os.environ | {"LC_ALL": "C"}).stdout


def needed(program):
    return set(re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-d", program)))


def c_library():
    """The files of the C library that the executable is started with: as it names them, here."""
    found = dict(re.findall(r"(\S+) => (/\S+)", output("ldd", PORTABLE)))
    loader = re.search(r"interpreter: (/\S+)\]", output("readelf", "-l", PORTABLE))[1]
    return {loader: loader} | {found[name]: found[name] for name in needed(PORTABLE) & set(found)}


class Root:
    """A root directory with the executable, the C library and the model, and nothing else."""

    def __init__(self, program=PORTABLE, system=True):
        self.path = tempfile.mkdtemp(prefix="hearth-")
        for place, file in c_library().items():
            self.put(file, place)
        self.put(program, "/hearth")
        self.put(MODEL, "/model.gguf")
        os.mkdir(self.path + "/tmp")
        if system:
            os.mkdir(self.path + "/proc")
            os.mkdir(self.path + "/dev")
            open(self.path + "/dev/null", "w").close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path)

    def put(self, file, place):
        place = self.path + place
        os.makedirs(os.path.dirname(place), exist_ok=True)
        try:
            os.link(os.path.realpath(file), place)
        except OSError:
            shutil.copy(file, place)

    def command(self, *words):
        return [*(NAMESPACES if HAS_NAMESPACES else []), "sh", HERE + "/bare_root.sh", self.path,
                "/hearth", *words]

    def run(self, *words):
        return subprocess.run(self.command(*words), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=SLOW)


class BareDaemon:
    """`hearth serve` in a bare root, and its socket seen from outside."""

    def __init__(self, root, *options):
        self.socket = root.path + "/tmp/s"
        self.process = subprocess.Popen(
            root.command("serve", "--model", "/model.gguf", "--port", "0", "--no-store", "--socket",
                         "/tmp/s", *options),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        check(self.process.stdout.readline().strip().isdigit(), "the daemon starts in a bare root")

    def ask(self, path, body=None):
        connection = UnixConnection(self.socket, SLOW)
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None,
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        read = json.loads(answer.read())
        connection.close()
        return answer.status, read

    def chat(self, model):
        return self.ask("/v1/chat/completions", {
            "model": model, "messages": [user(QUESTION)], "max_tokens": 12, "temperature": 0})

    def end(self):
        self.process.terminate()
        _, said = self.process.communicate(timeout=SLOW)
        check(self.process.returncode == 0, "it ends when told to", said)


# ---- the file ----

def test_only_the_c_library_is_needed():
    family = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
    check({"libc.so.6", "libm.so.6"} <= needed(PORTABLE) <= family,
          "the C library is needed, and nothing else", needed(PORTABLE))
    check(needed(LINKED) - family, "which is not so by itself", needed(LINKED))
    versions = {tuple(map(int, version.split(".")))
                for version in re.findall(r"GLIBC_([\d.]+)", output("readelf", "-V", PORTABLE))}
    check(versions and max(versions) <= GLIBC_MAX, "a glibc 2.36 is enough", max(versions))
    print(f"needs glibc {'.'.join(map(str, max(versions)))}, {os.path.getsize(PORTABLE):,} bytes")
    check(os.path.getsize(PORTABLE) < SIZE_MAX, "it is small", os.path.getsize(PORTABLE))


def test_it_is_hardened():
    dynamic = output("readelf", "-d", PORTABLE)
    check("PIE" in dynamic and "NOW" in dynamic, "position-independent, bound at once", dynamic)
    segments = output("readelf", "-lW", PORTABLE)
    check("GNU_RELRO" in segments and re.search(r"GNU_STACK.* RW ", segments),
          "relocations are read-only, the stack is not executable", segments)


# ---- a system that has nothing else ----

def test_a_bare_root_is_enough_for_an_answer():
    expected = subprocess.run([LINKED, "run", MODEL, QUESTION, "--temp", "0", "-n", "12"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    with Root(system=False) as root:
        ran = root.run("run", "/model.gguf", QUESTION, "--temp", "0", "-n", "12")
        check(ran.returncode == 0 and ran.stdout == expected and expected.strip(),
              "it answers what the other one does", (expected, ran))
    with Root(program=LINKED, system=False) as root:
        check(root.run("--version").returncode == 127, "where the other one does not start")


def test_a_daemon_answers_there():
    with Root() as root:
        daemon = BareDaemon(root)
        status, answer = daemon.chat("model")
        check(status == 200 and answer["choices"][0]["message"]["content"].strip(),
              "a worker computes in its sandbox", answer)
        listed = root.run("ps", "--socket", "/tmp/s")
        check(listed.returncode == 0 and "loaded" in listed.stdout, "commands see it", listed)
        daemon.end()


def test_without_libcurl_it_says_so():
    with Root() as root:
        added = root.run("upstream", "add", "far", "http://127.0.0.1:9/v1", "--file", "/tmp/list")
        check(added.returncode == 0, "an upstream can be written down", added)
        daemon = BareDaemon(root, "--upstreams", "/tmp/list")
        status, answer = daemon.chat("far")
        check(status == 500 and "libcurl4" in answer["error"]["message"],
              "who asks for it is told what to install", answer)
        status, answer = daemon.chat("model")
        check(status == 200, "all else is answered", answer)
        daemon.end()


def test_a_conversation_at_a_terminal_needs_no_terminfo():
    with Root() as root:
        program, *words = root.command("run", "/model.gguf", "--temp", "0", "-n", "3")
        pseudo_terminal.HEARTH = shutil.which(program)
        terminal = pseudo_terminal.Terminal(*words)
        terminal.wait_for(pseudo_terminal.PROMPT)
        terminal.type(b"Say h\xc3\xa4\x7fello\n")
        terminal.wait_for(b"\n")
        answer = terminal.wait_for(pseudo_terminal.PROMPT)
        check(re.search(rb"[A-Za-z]", answer), "it answers", answer)
        terminal.type(b"\x04")
        check(terminal.leave() == 0, "Ctrl-D leaves", terminal.seen)
    check(not pseudo_terminal.failures, "the terminal is usable", pseudo_terminal.failures)


# ---- a system that has libcurl ----

def test_with_libcurl_other_servers_answer():
    with Daemon() as far, tempfile.NamedTemporaryFile("w") as upstreams:
        name = os.path.basename(MODEL).removesuffix(".gguf")
        json.dump({"upstreams": [{"name": "far", "model": name,
                                  "url": f"http://127.0.0.1:{far.port}/v1"}]}, upstreams)
        upstreams.flush()
        with Daemon("--upstreams", upstreams.name) as near:
            with open(f"/proc/{near.process.pid}/maps") as maps:
                check("libcurl" not in maps.read(), "it is not opened before it is used")
            status, answer = near.ask("POST", "/v1/chat/completions", {
                "model": "far", "messages": [user(QUESTION)], "max_tokens": 12, "temperature": 0})
            check(status == 200 and answer["choices"][0]["message"]["content"].strip(),
                  "another server answers", answer)


def needs(possible, what, *tests):
    for test in tests:
        if not possible:
            print(f"skipped, as {what}: {test.__name__[5:].replace('_', ' ')}")
            del globals()[test.__name__]


needs(HAS_NAMESPACES or os.geteuid() == 0, "nobody may change the root directory here",
      test_a_bare_root_is_enough_for_an_answer)
needs(HAS_NAMESPACES, "no namespaces may be made here (unshare --user --mount)",
      test_a_daemon_answers_there, test_without_libcurl_it_says_so,
      test_a_conversation_at_a_terminal_needs_no_terminfo)
needs(find_library("curl"), "there is no libcurl here", test_with_libcurl_other_servers_answer)
run_tests(globals())
