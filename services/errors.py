"""What can go wrong with services and set-up: one class a cause, one sentence a message (what, where, what to do)."""

import errno
import signal
import sys
from contextlib import contextmanager


class CourseError(Exception):
    """Something a person can mend; its text says what, where and how."""


class SetupError(CourseError):
    """A tool or file that the course needs could not be had."""


class ChecksumError(SetupError):
    """A downloaded file is not the file that was pinned."""


class WrongVersion(SetupError):
    """A program or a library is here in a version that does not go with the others."""


class PortTaken(CourseError):
    """A port that was asked for belongs to another process."""


class NotRunning(CourseError):
    """A service is needed and does not run."""


class StartFailed(CourseError):
    """A service was started and did not become ready."""


class NoRoom(StartFailed):
    """A service did not start for want of memory or disk."""


class ForeignSession(CourseError):
    """This process has a Spark session that the course did not make and cannot use."""


class TooLate(CourseError):
    """A setting was given that counts only before Spark starts, and it runs."""


class AlreadyRunning(CourseError):
    """Another process of this checkout holds a lock."""


def disk_full(error: Exception) -> bool:
    """True if the error says that a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class Stopped(BaseException):
    """The process was asked to end, by Ctrl-C or SIGTERM; a BaseException of our own, so that only clean-up code sees it."""


def _stop(number: int, _frame) -> None:
    raise Stopped("Ctrl-C" if number == signal.SIGINT else "SIGTERM", 128 + number)


@contextmanager
def one_sentence():
    """Turn what a person can mend into one line on stderr and exit 1; Ctrl-C into exit 130, SIGTERM into 143, both after clean-up."""
    # A shell that starts a job in the background lets it ignore Ctrl-C; then nothing would be cleaned up.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        yield
    except CourseError as error:
        sys.exit(f"error: {error}")
    except Stopped as stopped:
        print(f"stopped by {stopped.args[0]}", file=sys.stderr)
        sys.exit(stopped.args[1])
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if not disk_full(error):
            raise
        place = f" while writing {error.filename}" if error.filename else ""
        sys.exit(f"error: the disk is full{place}; free some space there, then run the same command again")
