"""An expression's text read into a tree; macros are expanded on the way (`macros`). Source: the CEL specification's grammar.

Limit: after a syntax error nothing more is read (upstream's parser goes on, and may add complaints). Knows `ast`, `macros`, `tokens`.
"""

from __future__ import annotations

from minik8s.api.cel import macros
from minik8s.api.cel.ast import Call, Const, Entry, Ident, ListOf, MapOf, Node, Select, StructOf, qualified
from minik8s.api.cel.errors import CompileError, Issue
from minik8s.api.cel.tokens import Token, number, scan, unquote, unquote_bytes

MAX_LENGTH = 100_000
MAX_DEPTH = 250

RESERVED_WORDS = (
    "as break const continue else false for function if import in let loop package namespace null return true var void while"
)
RESERVED = frozenset(RESERVED_WORDS.split())
_STARTS = (
    "[",
    "{",
    "(",
    ".",
    "-",
    "!",
    "true",
    "false",
    "null",
    "NUM_FLOAT",
    "NUM_INT",
    "NUM_UINT",
    "STRING",
    "BYTES",
    "IDENTIFIER",
)
_LITERALS = ("true", "false", "null", "NUM_FLOAT", "NUM_INT", "NUM_UINT", "STRING", "BYTES")
_LEVELS = {"<": 1, "<=": 1, ">=": 1, ">": 1, "==": 1, "!=": 1, "in": 1, "+": 2, "-": 2, "*": 3, "/": 3, "%": 3}
_FUNCTIONS = {"in": "@in", "-": "_-_"}


def parse(text: str) -> Node:
    """The tree of an expression; CompileError if it isn't one."""
    if len(text) > MAX_LENGTH:
        raise CompileError(text, [Issue(0, f"expression code point size exceeds limit: size: {len(text)}, limit {MAX_LENGTH}")])
    tokens, issues = scan(text)
    parser = _Parser(tokens, issues)
    try:
        tree = parser.all()
    except _SyntaxError:
        tree = Const(0, None)
    except RecursionError:
        raise CompileError(text, [Issue(0, f"expression recursion limit exceeded: {MAX_DEPTH}")]) from None
    if parser.issues:
        raise CompileError(text, parser.issues)
    return tree


class _SyntaxError(Exception):
    pass


class _Parser:
    def __init__(self, tokens: list[Token], issues: list[Issue]) -> None:
        self._tokens = tokens
        self._at = 0
        self.issues = issues

    # --- tokens

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _accept(self, kind: str) -> Token | None:
        return self._take() if self._next.kind == kind else None

    def _expect(self, *kinds: str) -> Token:
        if self._next.kind in kinds:
            return self._take()
        raise self._mismatch(kinds)

    def _mismatch(self, kinds: tuple[str, ...]) -> _SyntaxError:
        found = self._next
        shown = found.text.replace("\n", "\\n").replace("\t", "\\t")
        names = [kind if kind.isupper() or kind == "<EOF>" else f"'{kind}'" for kind in kinds]
        wanted = names[0] if len(names) == 1 else f"{{{', '.join(names)}}}"
        following = self._tokens[min(self._at + 1, len(self._tokens) - 1)]
        if found.kind != "<EOF>" and following.kind in kinds:
            words = "extraneous"
        elif len(kinds) == 1 and kinds[0] in (")", "]", "}", ":"):
            self.issues.append(Issue(found.offset, f"Syntax error: missing '{kinds[0]}' at '{shown}'"))
            return _SyntaxError()
        else:
            words = "mismatched"
        self.issues.append(Issue(found.offset, f"Syntax error: {words} input '{shown}' expecting {wanted}"))
        return _SyntaxError()

    def _wrong(self, offset: int, message: str) -> Node:
        self.issues.append(Issue(offset, message))
        return Const(offset, None)

    # --- expressions

    def all(self) -> Node:
        tree = self._expression()
        if self._next.kind != "<EOF>":
            raise self._mismatch(("<EOF>",))
        return tree

    def _expression(self) -> Node:
        condition = self._logical("||", "_||_")
        mark = self._accept("?")
        if mark is None:
            return condition
        then = self._logical("||", "_||_")
        self._expect(":")
        return Call(mark.offset, "_?_:_", [condition, then, self._expression()])

    def _logical(self, operator: str, function: str) -> Node:
        inner = self._binary(1) if operator == "&&" else self._logical("&&", "_&&_")
        if self._next.kind != operator:
            return inner
        terms, offsets = [inner], []
        while (token := self._accept(operator)) is not None:
            offsets.append(token.offset)
            terms.append(self._binary(1) if operator == "&&" else self._logical("&&", "_&&_"))
        return _balanced(function, terms, offsets, 0, len(offsets) - 1)

    def _binary(self, level: int) -> Node:
        left = self._unary()
        while (found := _LEVELS.get(self._next.kind, 0)) >= level:
            token = self._take()
            right = self._binary(found + 1)
            left = Call(token.offset, _FUNCTIONS.get(token.kind, f"_{token.kind}_"), [left, right])
        return left

    def _unary(self) -> Node:
        first = self._next
        if first.kind not in ("!", "-"):
            return self._member()
        if first.kind == "-" and self._tokens[self._at + 1].kind in ("NUM_INT", "NUM_FLOAT"):
            return self._member()
        count = 0
        while self._accept(first.kind):
            count += 1
        operand = self._member()
        if count % 2 == 0:
            return operand
        return Call(first.offset, "!_" if first.kind == "!" else "-_", [operand])

    def _member(self) -> Node:
        node = self._primary()
        while self._next.kind in (".", "["):
            token = self._take()
            optional = self._accept("?")
            if token.kind == "[":
                index = self._expression()
                self._expect("]")
                node = Call(token.offset, "_[?_]" if optional else "_[_]", [node, index])
                continue
            if self._next.kind not in ("IDENTIFIER", "ESC_IDENTIFIER"):
                raise self._no_field(optional is not None or qualified(node) is not None)
            name = self._name()
            field = name.text
            if optional:
                node = Call(token.offset, "_?._", [node, Const(name.offset, field)])
            elif name.kind == "IDENTIFIER" and (opened := self._accept("(")) is not None:
                node = self._called(opened.offset, name.text, self._arguments(")"), node)
            else:
                node = Select(token.offset, node, field)
        return node

    def _name(self) -> Token:
        token = self._expect("IDENTIFIER", "ESC_IDENTIFIER")
        if token.kind == "ESC_IDENTIFIER":
            self._wrong(token.offset, "unsupported syntax: '`'")  # Kubernetes doesn't turn it on
        return token

    def _no_field(self, certain: bool) -> _SyntaxError:
        """No name behind a dot; `certain`: only a name could follow."""
        if certain:
            return self._mismatch(("IDENTIFIER",))
        found = self._next
        shown = "" if found.kind == "<EOF>" else found.text
        self.issues.append(Issue(found.offset, f"Syntax error: no viable alternative at input '.{shown}'"))
        return _SyntaxError()

    def _primary(self) -> Node:
        token = self._next
        if token.kind in _LITERALS or token.kind == "-":
            return self._literal()
        if token.kind == "(":
            self._take()
            inner = self._expression()
            self._expect(")")
            return inner
        if token.kind == "[":
            return self._list()
        if token.kind == "{":
            self._take()
            return MapOf(token.offset, self._entries(named=False))
        if token.kind in ("IDENTIFIER", "."):
            return self._named()
        raise self._mismatch(_STARTS)

    def _literal(self) -> Node:
        token = self._take()
        offset, text, kind = token.offset, token.text, token.kind
        if kind == "-":
            digits = self._expect("NUM_INT", "NUM_FLOAT")
            kind, text = digits.kind, "-" + digits.text
        try:
            if kind == "STRING":
                return Const(offset, unquote(text))
            if kind == "BYTES":
                return Const(offset, unquote_bytes(text))
            if kind in ("true", "false", "null"):
                return Const(offset, {"true": True, "false": False, "null": None}[kind])
            return Const(offset, number(kind, text))
        except ValueError as error:
            return self._wrong(offset, str(error))

    def _named(self) -> Node:
        dot = self._accept(".")
        token = self._expect("IDENTIFIER")
        start = self._at
        name = token.text
        while self._next.kind == "." and self._tokens[self._at + 1].kind == "IDENTIFIER":
            self._at += 1
            name += "." + self._take().text
        if self._next.kind == "{":
            opened = self._take()
            return StructOf(opened.offset, ("." if dot else "") + name, self._entries(named=True))
        self._at = start
        if token.text in RESERVED:
            node = self._wrong((dot or token).offset, f"reserved identifier: {token.text}")
            if self._accept("("):
                self._arguments(")")
            return node
        prefix = "." if dot else ""
        if (called := self._accept("(")) is not None:
            return self._called(called.offset, prefix + token.text, self._arguments(")"), None)
        return Ident(token.offset, prefix + token.text)

    def _called(self, offset: int, name: str, args: list[Node], target: Node | None) -> Node:
        try:
            expanded = macros.expand(offset, name, args, target)
        except macros.MacroError as error:
            return self._wrong(error.offset, error.message)
        return expanded or Call(offset, name, args, target)

    def _arguments(self, end: str) -> list[Node]:
        args: list[Node] = []
        if self._accept(end):
            return args
        while True:
            args.append(self._expression())
            if self._expect(end, ",").kind == end:
                return args

    def _list(self) -> Node:
        opened = self._take()
        elements: list[Node] = []
        optional: set[int] = set()
        while not self._accept("]"):
            if self._accept("?"):
                optional.add(len(elements))
            elements.append(self._expression())
            if self._expect("]", ",").kind == "]":
                break
        return ListOf(opened.offset, elements, frozenset(optional))

    def _entries(self, named: bool) -> list[Entry]:
        entries: list[Entry] = []
        while not self._accept("}"):
            optional = self._accept("?") is not None
            if named:
                token = self._name()
                key: Node = Const(token.offset, token.text)
            else:
                key = self._expression()
            colon = self._expect(":")
            entries.append(Entry(colon.offset, key, self._expression(), optional))
            if self._expect("}", ",").kind == "}":
                break
        return entries


def _balanced(function: str, terms: list[Node], offsets: list[int], low: int, high: int) -> Node:
    """A chain of one logical operator as a tree of small depth."""
    middle = (low + high + 1) // 2
    left = terms[middle] if middle == low else _balanced(function, terms, offsets, low, middle - 1)
    right = terms[middle + 1] if middle == high else _balanced(function, terms, offsets, middle + 1, high)
    return Call(offsets[middle], function, [left, right])
