"""Reports why the process ends, in the log and as Kubernetes' termination message."""

import os
import sys
from contextlib import suppress

EXIT_SETTINGS = 2
EXIT_PORT = 3
TERMINATION_MESSAGE = "/dev/termination-log"  # Kubernetes creates it in every container


def explain_end(message: str) -> None:
    """Prints the message as the log's last line and writes it to the termination message."""
    print(message, file=sys.stderr, flush=True)
    with suppress(OSError):
        file = os.open(TERMINATION_MESSAGE, os.O_WRONLY | os.O_TRUNC)
        os.write(file, message.encode())
        os.close(file)
