"""What holds the code together: who imports whom, how long things are, what is public."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "src" / "unmask"
MODULES = {
    ".".join(("unmask", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(ROOT.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}

LONGEST_MODULE = 400
LONGEST_FUNCTION = 60
"""Lines of the body; a command's options are a list, however long."""

_TORCH = ("torch", "transformers", "safetensors", "huggingface_hub")
_PIXELS = ("cv2", "dlib", "PIL")
_ABOVE = tuple(
    f"unmask.{name}"
    for name in (
        "cli", "pipeline", "flow", "prepare", "ledger", "report", "report_html", "reference_text",
        "train", "convert",
    )
)  # fmt: skip
_SIBLINGS = ("unmask.models", "unmask.images", "unmask.faces")
_NUMBERS = tuple(
    f"unmask.evaluate.{name}"
    for name in (
        "calibration", "counts", "curves", "deepfakebench", "intervals", "metrics", "thresholds",
        "videos", "weighted",
    )
)  # fmt: skip
_FROM_SCORES = tuple(
    f"unmask.evaluate.{name}"
    for name in (
        "compare", "evaluation", "figures", "gate", "mistakes", "published_rows", "report_html",
        "report_json", "report_markdown", "rows", "slices", "summary", "table", "table_file",
        "units",
    )
)  # fmt: skip
"""What makes a report of scores that are there already: no model, no picture."""
FORBIDDEN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (*_NUMBERS, *_FROM_SCORES),
        (*_ABOVE, *_SIBLINGS, "unmask.preprocess", *_TORCH, *_PIXELS),
    ),
    "unmask.evaluate": ("unmask.cli", "unmask.train", "unmask.convert"),
    "unmask.errors": ("unmask", "numpy", *_TORCH, *_PIXELS),
    "unmask.types": ("unmask", *_TORCH, *_PIXELS),
    "unmask.aggregate": (*_ABOVE, *_SIBLINGS, "numpy", *_TORCH, *_PIXELS),
    "unmask.sources": (*_ABOVE, *_SIBLINGS, *_TORCH, *_PIXELS),
    "unmask.manifest": (*_ABOVE, *_SIBLINGS, *_TORCH, *_PIXELS),
    "unmask.labels": (*_ABOVE, *_SIBLINGS, *_TORCH, *_PIXELS),
    "unmask.labelled": (*_ABOVE, *_SIBLINGS, *_TORCH, *_PIXELS),
    "unmask.dataset_json": (*_ABOVE, *_SIBLINGS, *_TORCH, *_PIXELS),
    "unmask.imagefolder": (*_ABOVE, *_SIBLINGS, *_TORCH, *_PIXELS),
    "unmask.images": (*_ABOVE, "unmask.models", "unmask.faces", *_TORCH),
    "unmask.preprocess": (*_ABOVE, *_SIBLINGS, *_TORCH),
    "unmask.faces": (*_ABOVE, "unmask.models", "unmask.images", "unmask.preprocess", *_TORCH),
    "unmask.models": (*_ABOVE, "unmask.images", "unmask.faces", "unmask.sources", *_PIXELS),
    "unmask.report": ("unmask.cli", "unmask.pipeline", "unmask.models", "unmask.train", *_TORCH),
    "unmask.report_html": ("unmask.cli", "unmask.pipeline", "unmask.models", *_TORCH),
    "unmask.ledger": ("unmask.cli", "unmask.pipeline", "unmask.models", *_TORCH),
    "unmask.pipeline": ("unmask.cli", "unmask.report", "unmask.ledger"),
    "unmask.prepare": ("unmask.cli", "unmask.pipeline", "unmask.flow"),
    "unmask.convert": (*(name for name in _ABOVE if name != "unmask.convert"), "unmask.sources"),
}


def imports(name: str) -> Iterator[str]:
    """Every module that this one imports anywhere, but for types alone."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("package", FORBIDDEN)
def test_nobody_imports_what_stands_above(package):
    members = [name for name in MODULES if within(name, package)]
    assert members
    wrong = {
        f"{name} imports {imported}"
        for name in members
        for imported in imports(name)
        if any(within(imported, each) for each in FORBIDDEN[package])
    }
    assert wrong == set()


def reached(name: str) -> set[str]:
    """Everything imported from this module on, through ours."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for each in imports(waiting.pop()):
            if each not in found:
                found.add(each)
                if each in MODULES:
                    waiting.append(each)
    return found


@pytest.mark.parametrize(
    "name",
    [
        "unmask.faces.yunet",
        "unmask.faces.align",
        "unmask.sources",
        "unmask.labelled",
        "unmask.evaluate.summary",
        "unmask.evaluate.report_html",
    ],
)
def test_torch_is_not_even_reached(name):
    assert [each for each in reached(name) if within(each, "torch")] == []


def test_nothing_below_the_command_line_imports_it():
    below = [name for name in MODULES if not within(name, "unmask.cli")]
    wrong = {
        name
        for name in below
        if name != "unmask.__main__" and any(within(each, "unmask.cli") for each in imports(name))
    }
    assert wrong == set()


def test_only_the_train_and_sweep_verbs_import_training():
    users = {
        name
        for name in MODULES
        if not within(name, "unmask.train")
        and any(within(each, "unmask.train") for each in imports(name))
    }
    assert users == {"unmask.cli.sweep", "unmask.cli.train", "unmask.cli.train_run"}


def test_nobody_imports_torchvision():
    assert [n for n in MODULES if any(within(i, "torchvision") for i in imports(n))] == []


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_not_too_long(name):
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("name", MODULES)
def test_a_function_is_not_too_long(name):
    functions = [node for node in ast.walk(TREES[name]) if isinstance(node, ast.FunctionDef)]
    long = {
        node.name: length
        for node in functions
        if (length := (node.end_lineno or 0) - node.body[0].lineno + 1) > LONGEST_FUNCTION
    }
    assert long == {}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_stands_in_it(name):
    assert ast.get_docstring(TREES[name])


@pytest.mark.parametrize("name", [name for name in MODULES if name != "unmask.__main__"])
def test_what_a_module_calls_public_is_there(name):
    module = importlib.import_module(name)
    public = getattr(module, "__all__", None)
    defines = any(
        isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        for node in TREES[name].body
    )
    assert public is not None or not defines
    assert [each for each in public or () if not hasattr(module, each)] == []


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_loaded_loosely_or_swallowed(name):
    text = MODULES[name].read_text(encoding="utf-8")
    assert "strict=False" not in text
    bare = [
        node.lineno
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert bare == []
