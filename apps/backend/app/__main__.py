"""Starts the server: `python3 -m app`.

Answers liveness before it imports the application; see app.core.gate and app.start.
"""

import os
import signal
import sys

from app.core.ending import EXIT_PORT, EXIT_SETTINGS, explain_end
from app.core.gate import Gate


def main() -> int:
    # The first process of a container ignores signals that it does not handle. An interrupted
    # start must not exit with 0: an evicted pod would count as successful.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    host = os.environ.get("HOST") or "0.0.0.0"  # noqa: S104 - only Kubernetes knows the pod's
    port = os.environ.get("PORT") or "8000"
    if not port.isdecimal() or int(port) > 65535:
        explain_end(f"todo-backend cannot start: PORT is not a port number: {port}")
        return EXIT_SETTINGS
    try:
        gate = Gate(host, int(port))
    except OSError as error:
        reason = error.strerror or error
        explain_end(f"todo-backend cannot listen on {host}, port {port}: {reason}; set HOST, PORT")
        return EXIT_PORT
    from app import start  # noqa: PLC0415 - the gate answers during the import

    return start.run(gate)


if __name__ == "__main__":
    sys.exit(main())
