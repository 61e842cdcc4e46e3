"""Why the process ends, where people and Kubernetes look for it."""

import os
import sys
from contextlib import suppress

EXIT_SETTINGS = 2
EXIT_PORT = 3
TERMINATION_MESSAGE = "/dev/termination-log"  # Kubernetes makes it, in every container


def explain_end(message: str) -> None:
    """Prints the message as the log's last line and leaves it as the termination message."""
    print(message, file=sys.stderr, flush=True)
    with suppress(OSError):
        file = os.open(TERMINATION_MESSAGE, os.O_WRONLY | os.O_TRUNC)
        os.write(file, message.encode())
        os.close(file)
