"""List every text that the package can print: `python -m tests.helpers.messages [FOLDER]`, or `make messages`.

Each line is `path:line  kind  text`. The texts are read from syntax trees; nothing is imported. In a text, `{name}` and
`{}` are placeholders, and `[a|b]` is one of two alternatives. Kinds:

- the name of an exception: an argument of a `raise`, and what a variable or helper of the module contributes to it;
- `echo`: printed text; `warning`: an argument of `warn`; `note`: an item of a list of notes, problems or lines;
- `help`: a help text of a command, argument or option;
- `text`: any other string of at least three words, except docstrings and markup. It may become part of a message.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Message", "messages"]

ROOT = Path(__file__).resolve().parents[2]
COLLECTED = re.compile(r"(notes?|remarks?|reasons?|problems?|failures?|complaints?|warnings?|lines)$")
MARKUP = re.compile(r"</?[a-z0-9{]+[ >/]|\b[a-z-]+=\"|^outside ")  # HTML and SVG; a place of matplotlib
BLANK = "{}"  # a value that is known only when the program runs


@dataclass(frozen=True, order=True)
class Message:
    """A text that the package can show."""

    path: str
    line: int
    kind: str
    text: str

    @property
    def is_error(self) -> bool:
        """Whether an exception carries it."""
        return self.kind.endswith("Error")

    def __str__(self) -> str:
        return f"{self.path}:{self.line}  {self.kind}  {self.text}"


def messages(folder: Path = ROOT / "ganno_bench") -> list[Message]:
    """Return the messages of all modules of a folder, by path and line."""
    return sorted({message for path in sorted(folder.rglob("*.py")) for message in _Module(path).messages()})


class _Module:
    """One source file: its messages, each at the line on which its call or string begins."""

    def __init__(self, path: Path) -> None:
        self.path = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}
        self.functions = {node.name: node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)}
        self.shown: set[ast.AST] = set()  # strings that are part of a message already

    def messages(self) -> Iterator[Message]:
        nodes = list(ast.walk(self.tree))
        for node in nodes:
            for kind, shown in self._sinks(node):
                for text in self._texts(shown, self._function_of(node)):
                    yield Message(self.path, node.lineno, kind, text)
        for node in nodes:
            if isinstance(node, ast.Constant | ast.JoinedStr) and not self._is_part_or_docstring(node):
                text = _one_line(self._render(node))
                if " " in text and len(re.findall(r"[A-Za-z]{2,}", text)) >= 3 and not MARKUP.search(text):
                    yield Message(self.path, node.lineno, "text", text)

    def _sinks(self, node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
        """Yield kind and expression of the texts that a statement or call shows."""
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = _name(node.exc.func) or "Error"  # `raise type(error)(...)`
            if name in self.functions:  # a helper that makes the exception
                yield from ((kind, shown) for kind, shown in self._made_by(name))
                yield from ((self._error_of(name), argument) for argument in node.exc.args)
            else:
                yield from ((name, argument) for argument in node.exc.args)
        elif isinstance(node, ast.Call):
            name = _name(node.func)
            owner = _name(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            if name in ("echo", "secho", "print") or name.endswith("_print"):
                yield from (("echo", argument) for argument in node.args)
            elif name == "warn":
                yield from (("warning", argument) for argument in node.args[:1])
            elif name in ("append", "extend") and COLLECTED.search(owner):
                yield from (("note", argument) for argument in node.args)
            if name in ("Option", "Argument", "Typer", "command", "callback", "add_typer"):
                yield from (("help", word.value) for word in node.keywords if word.arg in ("help", "epilog"))
        elif isinstance(node, ast.FunctionDef) and any(_is_command(decorator) for decorator in node.decorator_list):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield "help", first.value

    def _made_by(self, name: str) -> Iterator[tuple[str, ast.expr]]:
        for node in ast.walk(self.functions[name]):
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Call):
                yield from ((_name(node.value.func), argument) for argument in node.value.args)

    def _error_of(self, name: str) -> str:
        return next((kind for kind, _ in self._made_by(name)), "text")

    def _texts(self, shown: ast.expr, function: ast.AST | None) -> Iterator[str]:
        """Yield the texts that an expression can be: its own, or those that are assigned to it, or returned to it."""
        if isinstance(shown, ast.List | ast.Tuple):
            for element in shown.elts:
                yield from self._texts(element, function)
        elif isinstance(shown, ast.GeneratorExp | ast.ListComp):
            yield from self._texts(shown.elt, function)
        elif isinstance(shown, ast.IfExp):
            yield from self._texts(shown.body, function)
            yield from self._texts(shown.orelse, function)
        elif isinstance(shown, ast.Name) and function is not None:
            for node in ast.walk(function):
                targets = node.targets if isinstance(node, ast.Assign) else []
                if any(isinstance(target, ast.Name) and target.id == shown.id for target in targets):
                    yield from self._texts(node.value, None)
        elif isinstance(shown, ast.Call) and _name(shown.func) in self.functions:
            for node in ast.walk(self.functions[_name(shown.func)]):
                if isinstance(node, ast.Return) and node.value is not None:
                    yield from self._texts(node.value, None)
        else:
            text = _one_line(self._render(shown))
            self.shown.update(ast.walk(shown))
            if re.search(r"[A-Za-z]", re.sub(r"\{[^}]*\}", "", text)):
                yield text

    def _render(self, node: ast.AST) -> str:
        """Return the text of an expression, with placeholders for what is known only when the program runs."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else BLANK
        if isinstance(node, ast.JoinedStr):
            return "".join(map(self._render, node.values))
        if isinstance(node, ast.FormattedValue):
            return self._render(node.value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._render(node.left) + self._render(node.right)
        if isinstance(node, ast.IfExp):
            return f"[{self._render(node.body)}|{self._render(node.orelse)}]"
        if isinstance(node, ast.Name | ast.Attribute):
            return f"{{{_name(node)}}}"
        return BLANK

    def _function_of(self, node: ast.AST | None) -> ast.AST | None:
        while node is not None and not isinstance(node, ast.FunctionDef):
            node = self.parents.get(node)
        return node

    def _is_part_or_docstring(self, node: ast.AST) -> bool:
        parent = self.parents.get(node)
        return node in self.shown or isinstance(parent, ast.Expr | ast.JoinedStr | ast.FormattedValue)


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_command(decorator: ast.AST) -> bool:
    return isinstance(decorator, ast.Call) and _name(decorator.func) in ("command", "callback")


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:] or [ROOT / "ganno_bench"]):
        for message in messages(folder.resolve()):
            sys.stdout.write(f"{message}\n")
