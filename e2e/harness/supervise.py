"""Runs one program and makes sure that it never outlives the test run.

Purpose: ``python supervise.py PIDFILE PROGRAM ARGUMENT…`` starts the program, writes its process id to PIDFILE and
exits as it does. Standard input is a pipe whose other end the test run holds and never writes to.

Invariants: when the test run ends, however it ends (``kill -9`` included), the pipe closes and the program is
killed. When this supervisor is killed, the kernel kills the program (Linux). A parent-death signal on the test run
itself would not do: it fires when the *thread* that started the program ends, and threads come and go there. Here
the main thread starts it and lives as long as the process.

Only the standard library, and no import of this project: it runs isolated (``python -I -S``) to start fast.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1


def main() -> int:
    """Supervises until the program ends; its exit status is ours."""
    pidfile, *command = sys.argv[1:]
    parent, me = os.getppid(), os.getpid()
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def die_with_supervisor() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != me:
            os._exit(1)

    try:
        # No second thread has been started yet.
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_supervisor)  # noqa: PLW1509
    except OSError as error:
        print(f"cannot start {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    Path(pidfile).write_text(str(child.pid))
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())

    def watch() -> None:
        # The parent's id is looked at too: a child forked by the test run may hold the pipe open after it.
        while os.getppid() == parent:
            readable, _, _ = select.select([0], [], [], 1.0)
            if readable and not os.read(0, 1):
                break
        child.kill()

    threading.Thread(target=watch, daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    # Not sys.exit: the watching thread sits in a system call and has nothing to clean up.
    status = main()
    sys.stderr.flush()
    os._exit(status)
