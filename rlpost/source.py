"""Read what a function takes and says from its source, without importing it (plug-ins import torch)."""

import ast
import functools
import importlib.machinery
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlpost.words import near

SECTIONS = ("Equation", "Gradient", "Reduces to", "Edge cases", "Paper")
NO_DEFAULT = "<required>"


@dataclass(frozen=True)
class Knob:
    """One keyword-only parameter: its annotation as written, and its default."""

    annotation: str
    default: Any = NO_DEFAULT

    @property
    def required(self) -> bool:
        return isinstance(self.default, str) and self.default == NO_DEFAULT


@dataclass(frozen=True)
class Doc:
    """A docstring by section; `sections` keeps the order of the source."""

    line: str = ""
    sections: dict[str, str] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """What a function reads (positional), takes (keyword-only) and says. `open`: it may take more than source shows."""

    target: str
    kind: str
    reads: tuple[str, ...]
    knobs: dict[str, Knob]
    doc: Doc
    decorators: tuple[str, ...] = ()
    optional_reads: tuple[str, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)
    open: bool = False
    returns: str = ""  # the annotation as written


class TargetMissing(LookupError):
    """No source defines the target; the message is a sentence."""


@functools.cache
def signature(target: str) -> Signature:
    """What `package.module.name` reads and takes, by parsing its source."""
    module, _, name = target.rpartition(".")
    if not module:
        raise TargetMissing(f"{target!r} is not a dotted path such as rlpost.objective.clipped.ppo_clip")
    tree = _module_tree(module)
    node = _definition(tree, name)
    if node is None:
        moved = _imported_from(tree, name, module)
        if moved:
            return signature(moved)
        names = [
            n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")
        ]
        have = f"; it has {', '.join(names)}" if names and not near(name, names) else near(name, names)
        raise TargetMissing(f"{module} has no {name!r}{have}")
    return _class_signature(target, node, tree) if isinstance(node, ast.ClassDef) else _signature(target, node, tree)


def _definition(tree: ast.Module, name: str) -> ast.FunctionDef | ast.ClassDef | None:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node
    return None


def _imported_from(tree: ast.Module, name: str, module: str) -> str | None:
    """The dotted path of a name that a module imports from another one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return f"{_absolute(node, module)}.{alias.name}"
    return None


def _absolute(node: ast.ImportFrom, module: str) -> str:
    if not node.level:
        return str(node.module)
    parts = module.split(".")
    up = node.level - (source_of(module).name == "__init__.py")
    base = parts[: len(parts) - up]
    return ".".join([*base, *([node.module] if node.module else [])])


@functools.cache
def _module_tree(module: str) -> ast.Module:
    return ast.parse(source_of(module).read_text(encoding="utf-8"))


@functools.cache
def source_of(module: str) -> Path:
    """The file of a module, found without importing the module or its parents."""
    parts = module.split(".")
    where: Any = None
    for i in range(len(parts)):
        spec = _find(".".join(parts[: i + 1]), where)
        if spec is None:
            beside = [p.stem for folder in where or [] for p in Path(folder).glob("*") if p.suffix in (".py", "")]
            raise TargetMissing(f"there is no module {'.'.join(parts[: i + 1])!r}{near(parts[i], set(beside))}")
        where = spec.submodule_search_locations
        if where is None and i + 1 < len(parts):
            raise TargetMissing(f"{'.'.join(parts[: i + 1])!r} is a module and has no submodule {parts[i + 1]!r}")
    if not spec.origin or not spec.origin.endswith(".py"):
        raise TargetMissing(f"{module!r} has no Python source to read")
    return Path(spec.origin)


def _find(name: str, where: Any) -> importlib.machinery.ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, where) if find else None
        if spec is not None:
            return spec
    return None


def _signature(target: str, node: ast.FunctionDef, tree: ast.Module) -> Signature:
    args = node.args
    positional = [a.arg for a in [*args.posonlyargs, *args.args] if a.arg != "self"]
    late = positional[len(positional) - len(args.defaults) :] if args.defaults else []
    knobs = {a.arg: _knob(a, default) for a, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)}
    decorators = tuple(ast.unparse(d).split("(")[0].split(".")[-1] for d in node.decorator_list)
    doc = parse_doc(ast.get_docstring(node) or "")
    return Signature(
        target,
        "function",
        tuple(positional),
        knobs,
        doc,
        decorators,
        tuple(late),
        _aliases(tree),
        args.kwarg is not None,
        ast.unparse(node.returns) if node.returns else "",
    )


def _class_signature(target: str, node: ast.ClassDef, tree: ast.Module) -> Signature:
    doc = parse_doc(ast.get_docstring(node) or "")
    decorators = tuple(ast.unparse(d).split("(")[0].split(".")[-1] for d in node.decorator_list)
    bases = [
        b for b in node.bases if ast.unparse(b).split("[")[0].split(".")[-1] not in ("object", "Protocol", "Generic")
    ]
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    reads: tuple[str, ...] = ()
    call = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__call__"), None)
    if call is not None:
        reads = _signature(target, call, tree).reads
    if init is not None:
        made = _signature(target, init, tree)
        return Signature(target, "class", reads, made.knobs, doc, decorators, (), made.aliases, made.open)
    knobs: dict[str, Knob] = {}
    if "dataclass" in decorators:
        for n in node.body:
            if (
                isinstance(n, ast.AnnAssign)
                and isinstance(n.target, ast.Name)
                and "ClassVar" not in ast.unparse(n.annotation)
            ):
                knobs[n.target.id] = Knob(ast.unparse(n.annotation), _literal(n.value))
    return Signature(target, "class", reads, knobs, doc, decorators, (), _aliases(tree), bool(bases))


def _knob(arg: ast.arg, default: ast.expr | None) -> Knob:
    return Knob(ast.unparse(arg.annotation) if arg.annotation else "", _literal(default))


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        return NO_DEFAULT
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("field"):
        return _literal({k.arg: k.value for k in node.keywords}.get("default"))
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _aliases(tree: ast.Module) -> dict[str, str]:
    """Module-level type aliases such as `Level = Literal["token", "sequence"]`."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
            found |= {name.id: ast.unparse(node.value) for name in node.targets if isinstance(name, ast.Name)}
    return found


def parse_doc(text: str) -> Doc:
    """Split a docstring into its first line, its sections and its `Assumed:` lines."""
    lines = text.strip().splitlines()
    sections: dict[str, list[str]] = {}
    current = ""
    for line in lines[1:]:
        header = re.match(r"^([A-Z][A-Za-z ]*):\s*(.*)$", line)
        if header:
            current = header.group(1)
            sections[current] = [header.group(2)] if header.group(2) else []
        else:
            sections.setdefault(current, []).append(line.strip())
    assumed = re.findall(r"Assumed:\s*((?:.+\n?)(?:(?!\s*[A-Z][A-Za-z ]*:|\s*$).+\n?)*)", text)
    texts = {name: "\n".join(body).strip() for name, body in sections.items() if name and name != "Assumed"}
    return Doc(lines[0].strip() if lines else "", texts, tuple(" ".join(a.split()) for a in assumed))
