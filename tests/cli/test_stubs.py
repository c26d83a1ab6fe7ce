"""`mob stubs`: from sources to the text of interfaces, and what type checkers make of it."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from mob.cli.main import main
from mob.cli.stubs import RoleSource, written
from tests.patience import patient

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "typed"


def made(text: str, role: str = "back", module: str = "back") -> tuple[str, list[str]]:
    stubs = written([RoleSource(role, f"{module}.py", textwrap.dedent(text), module)])
    ast.parse(stubs.text)
    return stubs.text, stubs.warnings


def methods(text: str) -> list[str]:
    """The methods of the only class, but `options`; those of several lines joined by `|`."""
    body = text.partition('"""The exports of the role')[2].partition("\n\n")[2].partition("    def options(")[0]
    return ["|".join(line.strip() for line in part.splitlines()) for part in body.strip("\n").split("\n\n") if part]


WHOLE = '''"""What the roles of main.py export. Written by `mob stubs main.py`: write it anew, do not edit it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, Unpack
from uuid import UUID

import mob

if TYPE_CHECKING:
    from datetime import date


class ImageWorker(Protocol):
    """The exports of the role 'image-worker'."""

    def find(self, day: date, limit: int = 5) -> mob.Call[UUID | None]:
        """Finds it.

        Not always.
        """

    def options(self, **changes: Unpack[mob.CallOptions]) -> Self:
        """A view of this proxy that calls with other options."""
'''


def test_the_whole_text() -> None:
    text, warnings = made(
        '''
        from datetime import date
        from uuid import UUID
        import heavy_thing

        async def find(day: date, limit: int = 5) -> UUID | None:
            """Finds it.

            Not always.
            """

        def _hidden(): ...
        ''',
        "image-worker",
    )
    assert text == WHOLE
    assert warnings == []


SIGNATURES = {
    "nothing annotated": ("def f(a, b=1): ...", "def f(self, a: Any, b: Any = 1) -> mob.Call[Any]: ..."),
    "none": ("def f() -> None: ...", "def f(self) -> mob.Call[None]: ..."),
    "every kind of parameter": (
        "def f(a: int, /, b: str = 'x', *c: int, d: bool, e=-1.5, **g: str): ...",
        "def f(self, a: int, /, b: str = 'x', *c: int, d: bool, e: Any = -1.5, **g: str) -> mob.Call[Any]: ...",
    ),
    "by name only": ("def f(*, a: int): ...", "def f(self, *, a: int) -> mob.Call[Any]: ..."),
    "a default that must be computed": (
        "def f(a: int = LIMIT): ...",
        "def f(self, a: int = ...) -> mob.Call[Any]: ...",
    ),
    "a parameter named self": ("def f(self: int): ...", "def f(_self, self: int) -> mob.Call[Any]: ..."),
    "a quoted annotation": (
        "def f(a: 'int') -> 'list[\"str\"]': ...",
        "def f(self, a: int) -> mob.Call[list[str]]: ...",
    ),
    "a literal is no annotation": (
        "from typing import Literal\ndef f(a: Literal['int']) -> Literal['x']: ...",
        "def f(self, a: Literal['int']) -> mob.Call[Literal['x']]: ...",
    ),
    "metadata is no annotation": (
        "from typing import Annotated\ndef f(a: Annotated['int', 'x']): ...",
        "def f(self, a: Annotated[int, 'x']) -> mob.Call[Any]: ...",
    ),
    "beyond ASCII": ("def f(ä: 'int', b: int) -> int: ...", "def f(self, ä: int, b: int) -> mob.Call[int]: ..."),
    "a lambda": ("f = lambda a, b=2: a", "def f(self, a: Any, b: Any = 2) -> mob.Call[Any]: ..."),
    "a docstring with everything": (
        'def f():\n    r"""A \\d "quote\\""""',
        'def f(self) -> mob.Call[Any]:|"""A \\\\d \\"quote\\\\\\""""',
    ),
    "a generator": (
        "def f() -> int:\n    yield 1",
        "# A generator: iterate over the call, with `for` or `async for`.|def f(self) -> mob.Call[Any]: ...",
    ),
    "a generator that says what it yields": (
        "from collections.abc import Iterator\ndef f() -> Iterator[int]:\n    yield 1",
        "# A generator: iterate over the call, with `for` or `async for`.|def f(self) -> mob.Call[Iterator[int]]: ...",
    ),
    "an async generator that says it in quotes": (
        "import collections.abc as abc\nasync def f() -> 'abc.AsyncGenerator[str, None]':\n    yield ''",
        (
            "# A generator: iterate over the call, with `for` or `async for`.|"
            "def f(self) -> mob.Call[abc.AsyncGenerator[str, None]]: ..."
        ),
    ),
    "a generator within": ("def f() -> int:\n    def g(): yield 1", "def f(self) -> mob.Call[int]: ..."),
    "lists of single values": (
        (
            "import mob\nfrom collections.abc import Sequence\nfrom typing import Annotated\n"
            "@mob.export(batch=8, within=0.01)\n"
            "def f(a: list[int], b: 'Sequence[str]' = 'x', c: list = None, d: Annotated[list[bytes], 1] = b'', "
            "e: tuple[int, ...] = 1, g=2) -> list[dict[str, int]]: ..."
        ),
        (
            "def f(|self,|a: int,|b: str = 'x',|c: Any = None,|d: bytes = b'',|e: int = 1,|g: Any = 2,|) "
            "-> mob.Call[dict[str, int]]: ..."
        ),
    ),
    "lists of single values, without a word of it": (
        "import mob\n@mob.export(batch=8)\ndef f(a: list) -> 'list': ...",
        "def f(self, a: Any) -> mob.Call[Any]: ...",
    ),
    "an export that hides a type": (
        "def set() -> set[int]: ...",
        "def set(self) -> mob.Call[builtins.set[int]]: ...",
    ),
}


@pytest.mark.parametrize("case", SIGNATURES)
def test_signatures(case: str) -> None:
    source, expected = SIGNATURES[case]
    text, warnings = made(source)
    assert methods(text) == [expected]
    assert warnings == []


def test_a_long_signature_takes_a_line_for_each_parameter() -> None:
    names = [f"a_rather_long_name_{index}" for index in range(5)]
    text, _ = made(f"def f({', '.join(names)}): ...")
    listed = "|".join(f"{name}: Any," for name in names)
    assert methods(text) == [f"def f(|self,|{listed}|) -> mob.Call[Any]: ..."]


EXPORTS = {
    "public functions": ("def a(): ...\ndef _b(): ...\nclass C: ...\nd = 1\nfrom x import e", ["a"]),
    "classes of its own": (
        (
            "from abc import ABC\nfrom typing import Generic, T\nclass A:\n    def f(self): ...\n"
            "class B(A, ABC): ...\nclass C(Generic[T]):\n    async def f(self): ...\nclass D: ...\n"
            "class E(Exception):\n    def f(self): ..."
        ),
        ["A", "B", "C"],
    ),
    "no data, and nothing of others": (
        (
            "import dataclasses, enum, threading\nfrom abc import ABC, abstractmethod\nfrom typing import Protocol\n"
            "@dataclasses.dataclass\nclass A: ...\nclass B(enum.Enum): ...\nclass C(Exception): ...\n"
            "class D(Protocol): ...\nclass E(threading.Thread): ...\nclass F(metaclass=type): ...\n"
            "class G(ABC):\n    @abstractmethod\n    def m(self): ...\ndef h(): ..."
        ),
        ["h"],
    ),
    "marked classes": ("import mob\n@mob.export\nclass A(Other): ...\nclass B: ...\ndef c(): ...", ["A"]),
    "marked ones": (
        "import mob\n@mob.export\ndef a(): ...\n@mob.export(timeout=1)\ndef _b(): ...\ndef c(): ...",
        ["a", "_b"],
    ),
    "marked by another name": ("from mob import export as e\n@e\ndef a(): ...\ndef b(): ...", ["a"]),
    "marked by something else": ("import other\n@other.export\ndef a(): ...\ndef b(): ...", ["a", "b"]),
    "those in __all__": ("__all__ = ['b', 'C', '_a']\ndef _a(): ...\ndef b(): ...\nclass C: ...", ["b", "_a"]),
    "in branches": (
        "try:\n    def a(): ...\nexcept OSError:\n    def b(): ...\nif X:\n    def c(): ...",
        ["a", "b", "c"],
    ),
    "not what only the main script does": (
        "if __name__ == '__main__':\n    def a(): ...\nelse:\n    def b(): ...",
        ["b"],
    ),
    "not what is replaced": ("def a(): ...\na = 1\ndef b(): ...", ["b"]),
    "none": ("x = 1", []),
}


@pytest.mark.parametrize("case", EXPORTS)
def test_what_is_exported(case: str) -> None:
    source, expected = EXPORTS[case]
    found = re.findall(r"def (\w+)", made(source)[0])
    assert found == [*expected, "options"]


def test_a_class_is_what_makes_its_objects() -> None:
    text = made(
        "class Room:\n    'A room.'\n    def __init__(self, name: str, *, seats: int = 4): ...\n    def f(self): ..."
    )[0]
    assert '    def Room(self, name: str, *, seats: int = 4) -> mob.Call[Any]:\n        """A room."""\n' in text


IMPORTS = {
    "results at run time, parameters for checkers": (
        "from a import A, B\ndef f(a: A) -> B: ...",
        ["from a import B"],
        ["from a import A"],
    ),
    "both": ("from a import A\ndef f(a: A) -> A: ...", ["from a import A"], []),
    "guarded there, guarded here": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import A\ndef f() -> A: ...",
        [],
        ["from a import A"],
    ),
    "modules": ("import a.b\nimport c as d\ndef f(x: d.X) -> a.b.A: ...", ["import a.b"], ["import c as d"]),
    "another name": ("from a import A as B\ndef f() -> B: ...", ["from a import A as B"], []),
    "relative": (
        "from .a import A\nfrom .. import b\ndef f() -> A | b.B: ...",
        ["from top import b", "from top.pkg.a import A"],
        [],
    ),
    "what mob has": ("import mob\ndef f() -> mob.Me: ...", [], []),
    "unused": ("import a\ndef f(): ...", [], []),
}


@pytest.mark.parametrize("case", IMPORTS)
def test_imports(case: str) -> None:
    source, runtime, guarded = IMPORTS[case]
    text, _ = made(source, module="top.pkg.back")
    head, _, rest = text.partition("if TYPE_CHECKING:\n")
    found = re.findall(r"^(?:import|from) .*", head.partition("\n\n\nclass")[0], re.MULTILINE)
    assert [
        line for line in found if not line.startswith(("from typing", "from __future__")) and line != "import mob"
    ] == runtime
    assert [line.strip() for line in rest.partition("\n\n\n")[0].splitlines()] == guarded


def test_types_of_the_role_itself_are_for_checkers_only() -> None:
    text, warnings = made("class User: ...\ndef save(user: User): ...\ndef find() -> list[User]: ...")
    assert "if TYPE_CHECKING:\n    from back import User\n" in text
    assert methods(text) == [
        "def save(self, user: User) -> mob.Call[Any]: ...",
        (
            "# Arrives unconverted: User of back.py cannot be had without running it.|"
            "def find(self) -> mob.Call[list[User]]: ..."
        ),
    ]
    (warning,) = warnings
    assert warning == (
        "back.py: 'find' returns User of this file, which callers do not run, hence its results arrive unconverted; to "
        "have them converted, define User in a module that both import."
    )


def test_two_roles_with_different_things_of_one_name() -> None:
    texts = {"one": "from a import A\ndef f() -> A: ...", "two": "from b import A\ndef f() -> A: ..."}
    stubs = written([RoleSource(role, f"{role}.py", text, role) for role, text in texts.items()])
    assert "from a import A\nfrom b import A as TwoA\n" in stubs.text
    assert "def f(self) -> mob.Call[TwoA]: ..." in stubs.text


def test_class_names() -> None:
    roles = ["back", "image-worker", "image_worker", "none", "any", "a.b2"]
    text = written([RoleSource(role, "x.py", "") for role in roles]).text
    names = ["Back", "ImageWorker", "ImageWorker2", "None2", "Any2", "AB2"]
    assert re.findall(r"class (\w+)", text) == names


WARNINGS = {
    "an unknown name": (
        "from x import *\ndef f() -> list[Thing]: ...",
        "back.py: 'f': nothing is known of Thing in list[Thing], so Any stands for it.",
    ),
    "a quoted annotation that is none": (
        "def f() -> 'some text': ...",
        "back.py: 'f': nothing is known of 'some text' in 'some text', so Any stands for it.",
    ),
    "a quoted annotation of a batch that is none": (
        "import mob\n@mob.export(batch=8)\ndef f(a: 'list[int') -> list: ...",
        "back.py: 'f': nothing is known of 'list[int' in 'list[int', so Any stands for it.",
    ),
    "an export that is made elsewhere": (
        "from x import f\n__all__ = ['f']",
        "back.py: 'f' is not defined in this file, so its signature is not known.",
    ),
    "an export that the proxy hides": (
        "def options(): ...",
        "back.py: the export 'options' is hidden by the proxy's own `options`.",
    ),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_what_cannot_be_found_out_is_told(case: str) -> None:
    source, warning = WARNINGS[case]
    text, warnings = made(source)
    assert warnings == [warning]
    assert "mob.Call[Any]" in text


# --- the command ------------------------------------------------------------------------------------------------------


def run(directory: Path, main_py: str, **files: str) -> tuple[int, str, str]:
    for name, text in {"main": main_py, **files}.items():
        path = directory / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    result = CliRunner().invoke(main, ["stubs", str(directory / "main.py")])
    return result.exit_code, result.stdout, result.stderr.replace(str(directory), "DIR")


APP = "import mob\nmob.start('x').base(__file__)"


def test_nothing_is_run_and_roles_come_in_their_order(tmp_path: Path) -> None:
    roles = ".role('b', './b.py', workers=4).role(name='a', module='a').run()\n1 / 0"
    status, out, err = run(tmp_path, APP + roles, a="1 / 0\ndef f(): ...", b="1 / 0\ndef g(): ...")
    assert (status, err) == (0, "")
    assert re.findall(r"(?:class|def) (\w+)", out) == ["B", "g", "options", "A", "f", "options"]


def test_a_role_of_which_an_application_is_served(tmp_path: Path) -> None:
    roles = ".role('b', './b.py:app', serve=':8000').dashboard().run()"
    status, out, err = run(tmp_path, APP + roles, b="def f(): ...")
    assert (status, err) == (0, "")
    assert re.findall(r"class (\w+)", out) == ["B"]


def test_the_roles_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "mob.toml").write_text('name = "x"\n[roles.b]\nmodule = "./b.py"\n')
    (tmp_path / "b.py").write_text("def f(): ...")
    result = CliRunner().invoke(main, ["stubs", str(tmp_path / "mob.toml")])
    assert (result.exit_code, re.findall(r"class (\w+)", result.stdout)) == (0, ["B"])


def test_a_role_in_another_directory(tmp_path: Path) -> None:
    files = {"sub/b": "from shapes import A\nclass Own: ...\ndef f(a: Own) -> A: ...", "sub/shapes": "class A: ..."}
    status, out, err = run(tmp_path, APP + ".role('b', 'sub/b.py').run()", **files)
    assert (status, err) == (0, "")
    assert "if TYPE_CHECKING:\n    from sub.b import Own\n    from sub.shapes import A\n" in out


def test_roles_that_are_not_written_as_text_are_left_out(tmp_path: Path) -> None:
    roles = ".role('b', './b.py').role(NAME, './c.py').role('d', './d.py')"
    status, out, err = run(tmp_path, APP + roles, b="def f(): ...")
    assert status == 0
    assert re.findall(r"class (\w+)", out) == ["B"]
    assert err.splitlines() == [
        (
            "Warning: DIR/main.py:2: .role(NAME, './c.py') is left out: its name and its module must be written there "
            "as text, for nothing is run to find them out."
        ),
        "Warning: DIR/main.py: role 'd' is left out: 'DIR/d.py' is not found.",
    ]


ERRORS = {
    "no role": ("x = 1", "DIR/main.py describes no app. Wanted: the main script of one"),
    "no role that is known": ("app.role(NAME, FILE)", "nothing is known of any role of DIR/main.py."),
    "no Python": ("x = (", "DIR/main.py is no Python: '(' was never closed (line 1)."),
    "a role that is no Python": (APP + ".role('b', 'b.py')", "b.py is no Python: invalid syntax (line 1)."),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(tmp_path: Path, case: str) -> None:
    source, error = ERRORS[case]
    status, out, err = run(tmp_path, source, b="def def")
    assert (status, out) == (1, "")
    assert f"Error: {error}" in err


# --- the example, and type checkers -----------------------------------------------------------------------------------


def test_the_stubs_of_the_example_are_up_to_date(tmp_path: Path) -> None:
    output = tmp_path / "mob_stubs.py"
    result = CliRunner().invoke(main, ["stubs", str(EXAMPLE / "main.py"), "-o", str(output)])
    assert (result.exit_code, result.output) == (0, "")
    hint = "run: mob stubs examples/typed/main.py -o examples/typed/mob_stubs.py"
    assert output.read_text("utf-8") == (EXAMPLE / "mob_stubs.py").read_text("utf-8"), hint


RIGHT = """
from typing import Protocol
import mob
from mob_stubs import Back
from shop import Order

back = mob.require("back", Back)

async def ask() -> Order:
    async for name in back.prices():
        print(name)
    menu: set[str] = await back.menu()
    return await back.order(list(menu))

order: Order = back.order(["tea"]).result(timeout=2)
quick: Order = back.options(timeout=2).order(["tea"]).result()
with mob.connect("typed") as app:
    same: Back = app.require("back", Back)
    untyped = app.require("back").whatever(1)

class ByHand(Protocol):
    async def menu(self) -> set[str]: ...
    def order(self, items: list[str]) -> Order: ...

async def ask_by_hand() -> set[str]:
    return await mob.require("back", ByHand).menu()
"""
WRONG = {
    "back.order([1])": "list",  # items are text
    "back.order()": "items",
    "back.ordr(['tea'])": "ordr",
    "number: int = back.order([]).result()": "int",
    "back.menu(above=1.0)": "above",
    "back.options(timeuot=2)": "timeuot",
    "back.options(retries='many')": "retries",
    "mob.require('back').options(timeuot=2)": "options",  # two overloads: checkers name the method, not the argument
    "mob.start('x').role('back', './back.py', wrokers=2)": "wrokers",
    "mob.start('x').role('back', './back.py', restart='never')": "never",
}
USES = 'import mob\nfrom mob_stubs import Back\nback = mob.require("back", Back)\n' + "\n".join(WRONG)
CHECKERS = {
    "mypy": ["-m", "mypy", "--strict", "--cache-dir", ".cache"],
    "pyright": ["-m", "pyright", "--pythonpath", sys.executable],
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_type_checkers(tmp_path: Path, checker: str) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed here; `make test` installs it")
    for path in EXAMPLE.glob("*.py"):
        shutil.copy(path, tmp_path)
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(USES)

    def check(*files: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *CHECKERS[checker], *files]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=patient(100), check=False)

    good = check("main.py", "back.py", "front.py", "right.py")
    assert good.returncode == 0, good.stdout + good.stderr
    bad = check("wrong.py")
    assert bad.returncode == 1, bad.stdout + bad.stderr
    for line, (use, word) in enumerate(WRONG.items(), 4):
        told = [text for text in bad.stdout.splitlines() if re.search(rf"wrong\.py:{line}\b.* error: ", text)]
        assert told, f"nothing is said of {use} in {bad.stdout}"
        assert any(word in text for text in told), told
    assert not re.search(r"(right|mob_stubs|shop)\.py:\d+:.* error", bad.stdout)
