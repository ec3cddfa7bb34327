"""For the scripts beside it, which are called with HEARTH MODEL SCRATCH: hearth on a pseudo-terminal,
and checks."""

import os
import pty
import select
import signal
import sys
import time

HEARTH, MODEL, SCRATCH = sys.argv[1:]
# Seconds for what has no promise.
SLOW = 200.0 if os.environ.get("HEARTH_SANITIZED") else 30.0
failures = []


def check(condition, what, seen=""):
    if not condition:
        failures.append(what)
        print("FAILED:", what, repr(seen)[-800:])


class Terminal:
    def __init__(self, *words, state="state"):
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup
            os.environ.update(TERM="xterm", XDG_STATE_HOME=os.path.join(SCRATCH, state))
            os.execv(HEARTH, [HEARTH, *words])

    def read(self, seconds):
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return False
        try:
            piece = os.read(self.fd, 65536)
        except OSError:
            return None
        self.seen += piece
        return piece or None

    def wait_for(self, text, seconds=SLOW):
        """Reads on until `text` has come since the last call; what came is taken away."""
        end = time.monotonic() + seconds
        while text not in self.seen and time.monotonic() < end:
            if self.read(0.05) is None:
                break
        found = text in self.seen
        check(found, f"the terminal shows {text!r}", self.seen)
        at = self.seen.find(text) + len(text) if found else len(self.seen)
        before, self.seen = self.seen[:at], self.seen[at:]
        return before

    def type(self, text):
        os.write(self.fd, text)

    def leave(self, seconds=SLOW):
        """The exit code, after reading to the end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.read(0.05) is not None:
            pass
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return None


PROMPT = b">>> "
