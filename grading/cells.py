"""Picks from a notebook's cells what a lab loads, and loads it. Runs on the far side: it reads and runs a student's code.

Of the trusted cells (imports, given) everything runs. Of a student's cells come every import, the last definition of
each name, and literal assignments; what else they hold is left out, and said. `given` is bound last.
"""

import ast
import linecache
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from types import ModuleType

TIMING_MAGICS = ("%%time", "%%timeit", "%%capture", "%%prun")
"""Cell magics that run the rest of the cell as Python: the first line is dropped."""


def parse(source: str) -> list[ast.stmt]:
    """The cell's statements, its magics taken out.

    Raises:
        SyntaxError: it is no Python, even without them.
    """
    first, _, rest = source.lstrip().partition("\n")
    if first.startswith(TIMING_MAGICS):
        return parse("\n" + rest)  # the empty line keeps the line numbers
    if first.startswith("%%"):
        return []
    try:
        return ast.parse(source).body
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager

        plain = TransformerManager().transform_cell(source)
        if plain.rstrip() == source.rstrip():
            raise
        return ast.parse(plain).body


def defines(node: ast.stmt) -> bool:
    """True if the statement only names something: an import, a function, a class, a literal, another name."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        if isinstance(node.value, ast.Name):
            return True
        try:
            ast.literal_eval(node.value)
            return True
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return False
    return False


def broken_names(source: str) -> list[str]:
    """Names that a cell with a syntax error seems to define."""
    return re.findall(r"^(?:async\s+def|def|class)\s+(\w+)", source, re.MULTILINE)


class Broken:
    """A cell that is no Python: why, and the names that it seems to define."""

    def __init__(self, reason: str, names: list[str]):
        self.reason, self.names = reason, names


class Loader:
    """Loads one submission into a module.

    at: called with a cell's label before anything of it runs. problems: {name of a definition: why it is not there}; notes: what was left out.
    """

    def __init__(self, at: Callable[[str], None] = lambda label: None):
        self.at, self.problems, self.notes = at, {}, []

    def load(self, name: str, trusted: Iterable[tuple[str, str]], base: Iterable[tuple[str, str]], student: Iterable[tuple[str, str]]) -> ModuleType:
        """The module.

        Args:
            name: of the module.
            trusted: (label, source) of the imports and given cells; they run whole.
            base: (label, source) of cells that run whole, too, and may be defined anew: the solution below a mutant.
            student: (label, source) of the submission's cells.
        """
        module = ModuleType(name)
        sys.modules[name] = module  # dataclasses look their module up
        self._run_whole(trusted, module)
        given = dict(module.__dict__)
        self._run_whole(base, module)
        for label, source, node in self._chosen(student):
            self.at(label)
            self._run(label, source, node, module)
        module.__dict__.update(given)
        return module

    def _run_whole(self, cells: Iterable[tuple[str, str]], module: ModuleType) -> None:
        for label, source in cells:
            self.at(label)
            exec(compile(source, remembered(label, source), "exec"), module.__dict__)  # noqa: S102 - trusted

    def _chosen(self, cells: Iterable[tuple[str, str]]) -> list[tuple[str, str, ast.stmt]]:
        """What runs, in the notebook's order. A later cell that is no Python takes its names with it: its author meant them."""
        found = [(label, source, thing) for label, source in cells for thing in self._things(label, source)]
        last = {name: place for place, (_, _, thing) in enumerate(found) for name in _last_counts(thing)}
        chosen = []
        for place, (label, source, thing) in enumerate(found):
            counting = [name for name in _last_counts(thing) if last[name] == place]
            if isinstance(thing, Broken):
                if counting or not thing.names:
                    self.notes.append(f"{thing.reason}; nothing of this cell was used")
                self.problems.update(dict.fromkeys(counting, thing.reason))
            elif counting or not _last_counts(thing):
                chosen.append((label, source, thing))
        return chosen

    def _things(self, label: str, source: str) -> list:
        """A cell's definitions; or that it is broken."""
        try:
            nodes = parse(source)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            line = getattr(error, "lineno", None)
            reason = f"{label}{f', line {line}' if line else ''}: {getattr(error, 'msg', None) or type(error).__name__}"
            return [Broken(reason, broken_names(source))]
        left = sorted({node.lineno for node in nodes if not defines(node) and not _harmless(node)})
        if left:
            lines = ", ".join(map(str, left[:5])) + (", …" if len(left) > 5 else "")
            self.notes.append(f"{label}: only definitions are used; line{'s' if len(left) > 1 else ''} {lines} left out")
        return [node for node in nodes if defines(node)]

    def _run(self, label: str, source: str, node: ast.stmt, module: ModuleType) -> None:
        try:
            code = compile(ast.Module([node], []), remembered(label, source), "exec")
            exec(code, module.__dict__)  # noqa: S102 - this process exists for it
        except BaseException as error:
            reason = f"{label}, line {node.lineno} raises {one_line(error)}"
            self.notes.append(reason)
            self.problems.update(dict.fromkeys(_names(node), reason))


def _last_counts(thing) -> list[str]:
    """Names of which only the last definition counts: functions and classes."""
    return thing.names if isinstance(thing, Broken) else [thing.name] if hasattr(thing, "name") else []


def _harmless(node: ast.stmt) -> bool:
    """A docstring, pass, or a bare look at something, as in a try cell."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant | ast.Name))


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    if hasattr(node, "name"):
        return [node.name]
    return [target.id for target in getattr(node, "targets", [getattr(node, "target", None)]) if isinstance(target, ast.Name)]


def remembered(label: str, source: str) -> str:
    """A file name for the cell under which tracebacks find its lines."""
    filename = f"<{label}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    return filename


def one_line(error: BaseException) -> str:
    """Type and message of an exception, whatever its __str__ does."""
    try:
        text = str(error)
    except BaseException:
        text = "(its message cannot be shown)"
    return f"{type(error).__name__}: {text[:500]}" if text else type(error).__name__


def trace(error: BaseException, limit: int = 6000) -> str:
    """The traceback without the frames of the grader, capped."""
    try:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith("<") or "/grading/" not in frame.filename]
        text = "".join(traceback.format_list(frames[-12:])) + one_line(error)
    except BaseException:
        text = type(error).__name__
    return text[-limit:]
