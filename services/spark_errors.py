"""The cause of a Spark error in one sentence, and how a notebook shows it: the sentence, and Java's 80 lines one click away.

`cause_of` reads what Spark and Java wrote, from the innermost Python or Java error outwards; it asks the JVM nothing, for that may have ended.
"""

import html
import linecache
import logging
import re
import site
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MOST = 500
"""Characters of a message that is passed on as it is."""
NEW_PATH = "give the query a checkpoint path of its own"
WRAPPERS = {"STREAM_FAILED", "FOREACH_BATCH_USER_FUNCTION_ERROR", "PYTHON_EXCEPTION", "FAILED_EXECUTE_UDF", "TASK_WRITE_FAILED", "FAILED_READ_FILE"}
"""Conditions that only say where another error came through."""
TRACEBACK = "Traceback (most recent call last):\n"
LIBRARIES = tuple({str(Path(place).resolve()) for place in (*site.getsitepackages(), site.getusersitepackages(), sysconfig.get_path("stdlib"))})


class Frame(NamedTuple):
    """A line of a Python traceback."""

    file: str
    line: int
    function: str
    code: str


class Raised(NamedTuple):
    """A Python error that Spark wrote down as text."""

    type: str
    message: str
    place: str


# --- the cause -------------------------------------------------------------------------------------------------------


def cause_of(error) -> str:
    """Why a query or a job failed, in one sentence with what to do.

    Args:
        error: a StreamingQueryException or any other of PySpark's, a Py4JJavaError, a StreamingQuery that has ended, or any exception.

    Returns:
        "" for None and for a query without an error; for what is not Spark's, its type and message.
    """
    error = _error_of(error)
    if error is None:
        return ""
    if sentence := _dead_jvm(error):
        return sentence
    text = _text(error)
    stopped = "The query stopped: " if "StreamingQueryException" in type(error).__name__ else ""
    raised = _raised_in_python(text)
    if raised and not _is_spark(raised.type):
        return f"{stopped}{_words_of(raised, text)}{raised.place}"
    return f"{stopped}{_known(text) or _said(text, error)}{raised.place if raised else ''}"


def _error_of(thing):
    """The exception itself; of a query its own, or None."""
    if isinstance(thing, BaseException) or thing is None:
        return thing
    return thing.exception()


def _text(error: BaseException) -> str:
    """All that was written down of an error and its causes, without asking the JVM."""
    with suppress(Exception):  # Py4JJavaError asks Java for its stack, which may be gone
        parts = [error._desc, error._stackTrace] if hasattr(error, "_desc") else [str(error)]
        cause = getattr(error, "_cause", None)
        return "\n".join([*map(str, parts), *([_text(cause)] if cause is not None else [])])
    return str(getattr(error, "errmsg", "") or type(error).__name__)


def _is_spark(name: str) -> bool:
    return name.startswith(("pyspark.", "py4j."))


# --- Python errors that came through Java ---------------------------------------------------------------------------------


def _raised_in_python(text: str) -> Raised | None:
    """The innermost Python error in the text, and where the reader's own code raised it."""
    if TRACEBACK not in text:
        return None
    lines = text.rpartition(TRACEBACK)[2].splitlines()
    frames, last = [], ""
    for number, line in enumerate(lines):
        if found := re.match(r'\s+File "(.+?)", line (\d+), in (.+)', line):
            after = lines[number + 1] if number + 1 < len(lines) else ""
            code = after.strip() if after.startswith("    ") else ""
            frames.append(Frame(found[1], int(found[2]), found[3], code))
        elif line[:1].strip():
            last = line
            break
    name, _, message = last.partition(": ")
    return Raised(name, message.strip(), _place(frames)) if re.fullmatch(r"[\w.]+", name) else None


def _place(frames: list[Frame]) -> str:
    """Where it was: the innermost line that belongs to no library."""
    own = [frame for frame in frames if not _of_library(frame.file)]
    if not own:
        return ""
    frame = own[-1]
    code = frame.code or linecache.getline(frame.file, frame.line).strip()
    function = f" of {frame.function}" if frame.function not in ("<module>", "<lambda>") else ""
    return f" (line {frame.line}{function} in {_file(frame.file)}{f': {short(code, 100)}' if code else ''})"


def _of_library(file: str) -> bool:
    return file.startswith(("<", *LIBRARIES)) or "pyspark.zip" in file or "site-packages" in file


def _file(name: str) -> str:
    """A file by its name, a notebook's cell by its number."""
    shell = notebook() or _shell()
    with suppress(Exception):
        _, told = shell.compile.format_code_name(name)
        return f"cell {told}"
    return Path(name).name


def _words_of(raised: Raised, text: str) -> str:
    """A Python error's own words; what a database or a broker said through it is told as theirs."""
    if found := re.match(r"\(pymysql\.err\.\w+\) \((\d+), (['\"])(.*)\2\)", raised.message):
        return _mysql(found[3], text, found[1])
    if raised.type.startswith("pymysql.err.") and (found := re.match(r"\((\d+), (['\"])(.*)\2\)", raised.message)):
        return _mysql(found[3], text, found[1])
    if found := re.search(r"different version: ([\d.]+) than that in driver:? ([\d.]+)", raised.message):
        return _other_python(found)
    name = raised.type.rpartition(".")[2]
    return f"{name}: {short(raised.message)}" if raised.message else name


def _mysql(said: str, text: str, number: str = "") -> str:
    if re.search(r"Can't connect|Communications link failure|Connection refused|Lost connection|server has gone away", said):
        return f"MySQL does not answer ({short(said, 160)}); see: make status, start it with: make up, {_again(text)}"
    return f"MySQL refused it: {short(said)}{f' (error {number})' if number else ''}"


def _other_python(found: re.Match) -> str:
    return (
        f"Spark's workers run Python {found[1]}, this notebook Python {found[2]}; restart the kernel and make the session with "
        "services.spark_session(), which gives both the same"
    )


# --- what Java wrote ---------------------------------------------------------------------------------------------------


def _known(text: str) -> str:
    """The sentence for a cause that is known, or ""."""
    for pattern, sentence in KNOWN:
        if found := re.search(pattern, text):
            return sentence(found, text)
    return ""


def _said(text: str, error: BaseException) -> str:
    """Spark's own message, without its wrappers, number codes and stack; else Java's innermost; else the type's name."""
    for found in re.finditer(r"\[([A-Z][A-Z_0-9]+(?:\.[A-Z_0-9]+)*)\] (.*?)(?=\s*SQLSTATE: |\n== |\n\tat |\n\n|\Z)", text, re.S):
        if found[1] not in WRAPPERS:
            return _cut(found[2]) + _fragment(text)
    causes = re.findall(r"^(?:Caused by: |: )(?:[\w$]+\.)+([\w$]+): (.+)$", text, re.M)
    if causes:
        name, message = causes[-1]
        return f"{name}: {_cut(message)}"
    first = re.sub(r"^\[[A-Z_.]+\] ", "", next((line for line in text.splitlines() if line.strip()), ""))
    return _cut(first.partition("terminated with exception: ")[2] or first) or type(error).__name__


def _cut(message: str) -> str:
    """A message without advice that takes more away than it gives."""
    message = re.sub(r" If necessary set .*?\.(?= |$)| If you want to force .*", "", " ".join(message.split()))
    return short(re.sub(r" SQLSTATE: \w+.*", "", message).rstrip(" ;."))


def short(text: str, most: int = MOST) -> str:
    """The text, cut where it is too long."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def _fragment(text: str) -> str:
    """The part of a SQL text that an error points to, if it is short."""
    found = re.search(r"^== SQL.*==\n(.+)\n( *)(\^+)", text, re.M)
    if not found:
        return ""
    part = found[1][len(found[2]) : len(found[2]) + len(found[3])]
    return f", in: {part}" if "(" in part and len(part) <= 120 else ""


def _topic(text: str) -> str:
    found = re.search(r"Subscribe\[([^\]]+)\]", text)
    return f"topic {found[1]}" if found else "topic of the name that was asked for"


def _no_topic(found: re.Match, text: str) -> str:
    if re.search(r"Current Committed Offsets: {Kafka", text):
        return f"Kafka has no {_topic(text)} any more: it was deleted while the query read it; make it again, and {NEW_PATH}"
    return f"Kafka has no {_topic(text)}: it was never made, was deleted, or has another name; make it, {_again(text)}"


def _again(text: str) -> str:
    return "then start the query again: it goes on from its checkpoint" if "=== Streaming Query ===" in text else "then run it again"


def _bad_value(found: re.Match, text: str) -> str:
    value, wanted = found[1], found[3]
    cure = {"DATE": "try_to_date", "TIMESTAMP": "try_to_timestamp", "TIMESTAMP_NTZ": "try_to_timestamp"}.get(wanted, "try_cast")
    return f"{value} is no {wanted}, and Spark raises for that; {cure} gives NULL in its place, which you can count and sort out{_fragment(text)}"


def _bad_time(found: re.Match, text: str) -> str:
    return f"{_cut(found[1])}; Spark raises for that, try_to_timestamp and try_to_date give NULL in its place{_fragment(text)}"


def _other_state(found: re.Match, text: str) -> str:
    before, now = (re.findall(r"StructField\((\w+),", part) for part in (found[2], found[3]))
    what = "groups by" if found[1] == "key" else "keeps"
    return (
        f"the checkpoint is of another query: it {what} {', '.join(before)}, this one {what} {', '.join(now)}; "
        f"{NEW_PATH} (a new version in its name, for one)"
    )


def _deleted(found: re.Match, text: str) -> str:
    return (
        f"the checkpoint knows {found[1]}, which Kafka does not have: that topic was deleted, or the checkpoint is another topic's; "
        f"{NEW_PATH}, and choose startingOffsets for it"
    )


def _made_anew(found: re.Match, text: str) -> str:
    return (
        f"{found[1]} was deleted and made anew: the checkpoint has read up to offset {found[2]}, the topic now ends at {found[3]}; "
        f"{NEW_PATH}, and choose startingOffsets for it"
    )


def _not_writable(found: re.Match, text: str) -> str:
    told = next(name for name in ("dot", "made", "rest") if found[name])
    place = re.search(r"checkpointLocation=([^\],]+)", text)
    where = place[1] if place and place[1] in found[0] else found["path"] or found["folder"] or ""
    why = {"dot": found["why"], "made": "no folder can be made there", "rest": short(found[0].strip(), 200)}[told]
    return f"Spark cannot write {where or 'there'} ({why}); choose a folder in which you may write (ls -ld shows it), for a query a path of its own"


def _memory(found: re.Match, text: str) -> str:
    from services.settings import settings

    return (
        f"Spark's Java ran out of memory ({found[0]}; it has {settings().spark_driver_memory}); collect less and let Spark aggregate, "
        "or write a larger SPARK_DRIVER_MEMORY into .env and restart the kernel"
    )


KNOWN: list[tuple[str, Callable[[re.Match, str], str]]] = [
    (r"No space left on device|Disk quota exceeded",
     lambda found, text: f"the disk is full ({found[0]}); free some space where the checkpoint lies or in {tempfile.gettempdir()}, {_again(text)}"),
    (r"OutOfMemoryError: unable to create native thread",
     lambda found, text: "the machine gives Spark's Java no more threads or memory; close other programs, or raise the limits (ulimit -a shows them)"),
    (r"OutOfMemoryError: [^\n]*|GC overhead limit exceeded|\[UNABLE_TO_ACQUIRE_MEMORY\][^\n]*", _memory),
    (r"different version: ([\d.]+) than that in driver:? ([\d.]+)", lambda found, text: _other_python(found)),
    (r"The value (.+?) of the type \"(\w+)\" cannot be cast to \"(\w+)\"", _bad_value),
    (r"\[(?:CANNOT_PARSE_TIMESTAMP|DATETIME_FIELD_OUT_OF_BOUNDS[\w.]*|INVALID_DATETIME_PATTERN[\w.]*)\] ([^\n]*?)(?: SQLSTATE|\n|$)", _bad_time),
    (r"Provided (key|value) schema does not match[\s\S]*?_schema=(.*?) and new \w+_schema=([^\n]*)", _other_state),
    (r"\[(?:STREAM_STATEFUL_OPERATOR|STATE_STORE_COLUMN_FAMILY|STATE_STORE_INVALID)[\w.]*\]|STATEFUL_OPERATOR_NOT_MATCH",
     lambda found, text: f"the checkpoint is of another query, with other steps that keep state; {NEW_PATH} (a new version in its name, for one)"),
    (r"CONCURRENT_STREAM_LOG_UPDATE|Multiple streaming jobs detected",
     lambda found, text: f"two queries write to one checkpoint and destroy each other; {NEW_PATH}"),
    (r"Partitions Set\(([^)]*)\) have been deleted", _deleted),
    (r"Partition (\S+?) offset was changed from (\d+) to (\d+)", _made_anew),
    (r"Some data may have been lost[\s\S]*?Reason: ([^\n]*)",
     lambda found, text: f"records that the query has not read are gone from Kafka ({_cut(found[1])}); {NEW_PATH}, and choose startingOffsets for it"),
    (r"UnknownTopicOrPartitionException", _no_topic),
    (r"Timed out waiting for a node assignment|Timeout of \d+ms expired before|could not be established\. Broker may not|DisconnectException|"
     r"No resolvable bootstrap urls|Failed to construct kafka consumer|common\.errors\.TimeoutException: [^\n]*",
     lambda found, text: f"no Kafka broker answers; see: make status, start it with: make up, {_again(text)}"),
    (r"jdbc\.exceptions\.\w*Communications\w*: ([^\n]*)|Communications link failure", lambda found, text: _mysql("Communications link failure", text)),
    (r"(?:java\.sql\.|com\.mysql\.cj\.jdbc\.exceptions\.)(?!BatchUpdate)\w+: ([^\n]+)", lambda found, text: _mysql(found[1], text)),
    (r"java\.sql\.BatchUpdateException: ([^\n]+)", lambda found, text: _mysql(found[1], text)),
    (r"FileAlreadyExistsException: Destination exists and is not a directory: (\S+)|ParentNotDirectoryException: (\S+)",
     lambda found, text: f"{(found[1] or found[2]).rstrip(',:')} is a file, where Spark needs a folder; {NEW_PATH}"),
    (r"(?P<dot>(?:file:)?(?P<path>/\S*) \((?P<why>Read-only file system|Permission denied|Operation not permitted)\))|"
     r"(?P<made>(?:mkdir of|Mkdirs failed to create) (?:file:)?(?P<folder>/\S+))|(?P<rest>(?:java\.nio\.file\.)?AccessDeniedException: \S+|Permission denied)",
     _not_writable),
    (r"Failed to find (?:the )?data source: kafka\.",
     lambda found, text: "this session has no Kafka connector, for services.spark_session() did not make it; restart the kernel and begin with that call"),
    (r"Failed to find (?:the )?data source: (\w+)",
     lambda found, text: f'there is no data source "{found[1]}"; look at the word in format(…): kafka, jdbc, csv, json, parquet, rate'),
    (r"(?:NoClassDefFoundError|NoSuchMethodError|ClassNotFoundException|AbstractMethodError)\S*:? ?[^\n]*\bscala\b[^\n]*",
     lambda found, text: f"a jar was built for another Scala than Spark's 2.13 ({short(found[0], 120)}); take it out and restart the kernel"),
    (r"UnsupportedClassVersionError: ([^\n]*)",
     lambda found, text: "a jar was built for a newer Java than the one that runs; set JAVA=wheel in .env and restart the kernel"),
    (r"Cannot run program \"(\S+?)\"",
     lambda found, text: f"Spark's workers cannot start {found[1]}; empty PYSPARK_PYTHON and restart the kernel"),
    (r"\[SPARK_JOB_CANCELLED\]|Job \d+ cancelled|cancelled part of cancelled job group|was cancelled",
     lambda found, text: "the job was cancelled, by an interrupt or by stop()"),
    (r"Not all StateStores committed|validateStateStoreCommitForBatch|STATE_STORE_COMMIT_VALIDATION",
     lambda found, text: "a query that keeps state handed a batch to a function which never used it, so its state was not stored; read the whole batch "
                         "there, batch.count() at least"),
    (r"stopped SparkContext|SparkContext was shut ?down",
     lambda found, text: "this Spark session was stopped; services.spark_session() makes another one, and frames must be made again with it"),
    (r"multiple SparkContext|Only one SparkContext", lambda found, text: "this process has a Spark session already; use that one, or restart the kernel"),
]  # fmt: skip


# --- a JVM that has ended ------------------------------------------------------------------------------------------------


SHUT_DOWN = (
    r"Answer from Java side is empty|SparkContext was shut ?down|SparkContext has been shut ?down|stopped SparkContext|dagScheduler\(\)\" is null"
)
"""What jobs say while Java ends, or after spark.stop()."""


def _dead_jvm(error: BaseException) -> str:
    """The sentence for a call to a JVM that is not there any more, or ""."""
    gone = type(error).__name__ in ("Py4JNetworkError", "Py4JError") or isinstance(error, ConnectionError | EOFError)
    if not gone and not re.search(SHUT_DOWN, _text(error)):
        return ""
    from services import spark

    return spark.ended() or ""


# --- how it is shown -----------------------------------------------------------------------------------------------------


class Explained:
    """A cause as a sentence; in a notebook with the rest behind it, closed."""

    def __init__(self, error):
        self._error = _error_of(error)
        self.sentence = cause_of(self._error) or "no error: it runs, or has ended well"

    def __repr__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.sentence)}</p>{details(self._error)}"


def explain(error) -> Explained:
    """The cause of an error, or of a query that stopped, for people: the sentence first, all that Spark and Java said one click away."""
    return Explained(error)


def details(error: BaseException | None) -> str:
    """All that was said, as HTML that is closed until it is clicked."""
    if error is None:
        return ""
    said = html.escape(_text(error).strip())
    return f"<details><summary>all that Spark said ({said.count(chr(10)) + 1} lines)</summary><pre>{said}</pre></details>"


def _shell():
    """IPython's shell, or None outside of it; IPython is not loaded for that."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def notebook():
    """The shell of a notebook's kernel, or None."""
    return shell if (shell := _shell()) is not None and hasattr(shell, "kernel") else None


def install() -> None:
    """From now on a notebook shows a Spark error as its cause, and an interrupt cancels the jobs of the cell. Other errors are left alone."""
    if (shell := notebook()) is None:
        return
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    _quiet()
    # ConnectionRefusedError: what py4j raises once the JVM is gone; KeyboardInterrupt: in a call to the JVM. Others of these are shown as ever.
    shell.set_custom_exc((PySparkException, Py4JError, ConnectionRefusedError, KeyboardInterrupt), _show)
    formatters = shell.display_formatter.formatters
    formatters["text/plain"].for_type(PySparkException, lambda error, printer, cycle: printer.text(cause_of(error)))
    formatters["text/html"].for_type(PySparkException, lambda error: explain(error)._repr_html_())


class _Sentence:
    """What a front end is given in the place of 80 lines."""

    def __init__(self, text: str):
        self._text = text

    def __str__(self) -> str:
        return self._text


def _show(shell, kind, error, trace, tb_offset=None) -> None:
    try:
        sentence = _interrupted(trace) if kind is KeyboardInterrupt else cause_of(error)
        if kind is ConnectionRefusedError and not _dead_jvm(error):
            sentence = ""
    except BaseException:  # whatever happens in here, the student sees the error
        sentence = ""
    if not sentence:
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
        return
    line = "" if kind is KeyboardInterrupt else _own_line(trace)
    shell._showtraceback(kind, _Sentence(sentence), [f"\x1b[31m{kind.__name__}\x1b[0m: {sentence}", *([line] if line else [])])
    if kind is not KeyboardInterrupt:
        from IPython.display import HTML, display

        display(HTML(details(error)))


def _own_line(trace) -> str:
    """The line of a cell, or of the reader's own file, in which the call stands."""
    import traceback

    frames = [Frame(frame.filename, frame.lineno, frame.name, frame.line or "") for frame in traceback.extract_tb(trace)]
    own = [frame for frame in frames if not _of_library(frame.file)]
    return f"{_file(own[-1].file)}, line {own[-1].line}: {own[-1].code}" if own else ""


def _interrupted(trace) -> str:
    """Cancel the jobs of the interrupted cell; "" if it was not in a call to Spark. Streaming queries go on: nobody asked them to stop."""
    import traceback

    if not any("py4j" in frame.filename for frame in traceback.extract_tb(trace)):
        return ""
    from pyspark import SparkContext

    context = SparkContext._active_spark_context
    if context is None or context._jsc is None:
        return ""
    session = context._jvm.org.apache.spark.sql.classic.SparkSession.active()
    queries = list(session.streams().active())
    tracker = context.statusTracker()
    streaming = {job for query in queries for job in tracker.getJobIdsForGroup(query.runId().toString())}
    cancelled = [job for job in tracker.getActiveJobsIds() if job not in streaming]
    for job in cancelled:
        context._jsc.sc().cancelJob(job)
    words = ["Interrupted"]
    if cancelled:
        words.append("the job of this cell was cancelled")
    if queries:
        words.append(f"{len(queries)} streaming {'query runs' if len(queries) == 1 else 'queries run'} on: stop() ends one")
    return "; ".join(words)


class _NoStack(logging.Filter):
    """Keeps out what py4j writes of an interrupt and of a JVM that ended: the error itself says it."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.name == "root" and re.match(r"(KeyboardInterrupt|Exception) while sending command", str(record.msg)))


def _quiet() -> None:
    """What PySpark and py4j say in a notebook beside the error itself: the same again as JSON, and each interrupt's stack."""
    from pyspark.logger import PySparkLogger

    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL + 1)
    logging.getLogger("py4j").propagate = False
    if not any(isinstance(one, _NoStack) for one in logging.root.filters):
        logging.root.addFilter(_NoStack())
