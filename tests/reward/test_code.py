"""Programs against tests: right ones get full marks, and neither wrong ones nor cheats do."""

import pytest

from rlpost import ledger, sandbox
from rlpost.errors import DataError
from rlpost.reward.code import code_of, unit_tests, unit_tests_share
from tests.reward.rows import rollout

ADD = "assert add(1, 2) == 3\nassert add(2, 2) == 4\nassert add(-1, 1) == 0\nassert add(10, 5) == 15"
RIGHT = "def add(a, b):\n    return a + b"


@pytest.fixture(autouse=True)
def fresh_ledger():
    if sandbox.protections().mode == "none":
        pytest.skip(str(sandbox.protections().why))
    ledger.reset()
    yield
    ledger.reset()


def row(code: str, tests=ADD, **columns):
    return rollout(f"Here it is:\n```python\n{code}\n```\nDone.", tests=tests, **columns)


def share(code: str, tests=ADD, **columns) -> float | None:
    return unit_tests_share([row(code, tests, **columns)])[0]


def test_the_gold_answer_gets_full_marks():
    assert unit_tests([row(RIGHT)]) == [1.0]
    assert share(RIGHT) == 1.0


@pytest.mark.parametrize(
    ("code", "passed"),
    [
        ("def add(a, b):\n    return abs(a) + abs(b)", 3 / 4),  # -1 + 1 comes out as 2
        ("def add(a, b):\n    return 4", 1 / 4),
        ("def add(a, b):\n    return str(a + b)", 0.0),
        ("def plus(a, b):\n    return a + b", 0.0),
        ("def add(a, b) return a + b", 0.0),
        ("def add(a, b):\n    raise ValueError", 0.0),
        ("raise SystemExit\n" + RIGHT, 0.0),
    ],
)
def test_near_misses(code, passed):
    assert share(code) == passed
    assert unit_tests([row(code)]) == [0.0]


@pytest.mark.parametrize("text", ["", "   \n", "```python\n```", "Calculate 7 + 12.", "Write add(a, b).\n" + ADD])
def test_empty_texts_and_echoes_get_nothing(text):
    rows = [rollout(text, tests=ADD), rollout(text, tests={"inputs": ["1"], "outputs": ["2"]})]
    assert unit_tests(rows) == unit_tests_share(rows) == [0.0, 0.0]
    assert ledger.current().count() == 0


FORGE = """
import json, os
for handle in range(3, 64):
    try:
        os.write(handle, b'4\\n1\\n1\\n1\\n1\\n')
    except OSError: pass
"""
LOOK = """
import os, re
def add(a, b):
    seen = b""
    parent = os.getppid()
    for place in ["main.py", "/proc/%d/mem" % parent, "/proc/%d/environ" % parent, "/proc/%d/fd" % parent]:
        try: seen += open(place, "rb").read()
        except OSError: pass
    for number in range(64):
        try: seen += open("/proc/%d/fd/%d" % (parent, number), "rb").read()
        except OSError: pass
    try:
        with open("/proc/%d/maps" % parent) as maps, open("/proc/%d/mem" % parent, "rb", 0) as memory:
            for line in maps:
                low, high = (int(part, 16) for part in line.split()[0].split("-"))
                if " rw" in line and high - low < 2**26:
                    memory.seek(low)
                    seen += memory.read(high - low)
    except OSError: pass
    found = re.search(rb"add\\(%d, %d\\) == (-?\\d+)" % (a, b), seen)
    return int(found[1]) if found else None
"""
MEMORY = """
import os
def add(a, b):
    parent = os.getppid()
    with open("/proc/%d/maps" % parent) as maps, open("/proc/%d/mem" % parent, "r+b", 0) as memory:
        return 3
"""
PLANT = """
import os
with open("colorsys.py", "w") as file: file.write("def rgb_to_hsv(*_): return 0")
def small(items): return 0
"""
HACKS = {
    "sys.exit": "import sys\ndef add(a, b): sys.exit(0)",
    "os._exit": "import os\ndef add(a, b): os._exit(0)",
    "os._exit at once": "import os\nos._exit(0)",
    "always equal": "class A:\n    def __eq__(self, other): return True\ndef add(a, b): return A()",
    "equal int": "class A(int):\n    def __eq__(self, other): return True\ndef add(a, b): return A(77)",
    "equal str": "class A(str):\n    def __eq__(self, other): return True\ndef add(a, b): return A('77')",
    "equal list": "class A(list):\n    def __eq__(self, other): return True\ndef add(a, b): return A()",
    "equal class": "class M(type):\n    def __eq__(self, other): return True\nclass add(metaclass=M):\n"
    "    def __new__(cls, a, b): return cls",
    "no assertion errors": "import builtins\nbuiltins.AssertionError = None\ndef add(a, b): return 77",
    "forged verdict": FORGE + "def add(a, b): return 77",
    "forged verdict in a call": "def add(a, b):\n    " + FORGE.strip().replace("\n", "\n    ") + "\n    return 77",
    "frames": "import sys, gc\ndef add(a, b):\n    f = sys._getframe()\n    while f.f_back: f = f.f_back\n"
    "    return f.f_locals.get('expected', [o for o in gc.get_objects() if isinstance(o, str) and 'assert' in o])",
    "reading the judge": LOOK,
    "writing its memory": MEMORY,
    "killing the judge": "import os, signal\ndef add(a, b): os.kill(os.getppid(), 9)",
    "interrupting the judge": "import os, signal\ndef add(a, b): os.kill(os.getppid(), signal.SIGINT); return 77",
    "killing all": "import os\ndef add(a, b): os.kill(-1, 9)",
    "patched main": "import sys\nfor m in list(sys.modules.values()):\n    for n in ('judge', '_passes'):\n"
    "        if hasattr(m, n): setattr(m, n, lambda *a, **k: True)\ndef add(a, b): return 77",
    "hanging": "def add(a, b):\n    while True: pass",
    "memory": "def add(a, b):\n    return bytearray(10**10)",
    "nonsense": "import os\ndef add(a, b):\n    for h in range(3, 20):\n        try: os.write(h, b'{}\\n[]\\n')\n"
    "        except OSError: pass\n    return 77",
}


@pytest.mark.parametrize("name", HACKS)
def test_cheats_get_nothing(name):
    assert unit_tests_share([row(HACKS[name])], timeout_s=2.0 if name == "hanging" else 20.0) == [0.0]
    assert ledger.current().count() == 0


ZERO = "class Zero:\n    def _f(self, *_): return 0\n    __sub__ = __rsub__ = __abs__ = __float__ = _f\n"


@pytest.mark.parametrize(
    ("code", "tests"),
    [
        ("def abs(x): return 0\ndef f(x): return 77", "assert abs(f(1) - 2) < 1e-6"),
        ("class math: isclose = lambda *a: True\ndef f(x): return 77", "assert math.isclose(f(1), 2.0)"),
        (ZERO + "def f(x): return Zero()", "assert abs(f(1) - 2) < 1e-6"),
        (ZERO + "def f(x): return Zero()", "import math\nassert math.isclose(f(1), 2.0)"),
        ("class A:\n    def __lt__(self, o): return True\ndef f(x): return A()", "assert f(1) < 2"),
        ("class A:\n    def __contains__(self, o): return True\ndef f(x): return A()", "assert 2 in f(1)"),
        ("class A:\n    def __bool__(self): return True\ndef f(x): return A()", "assert f(1)"),
        ("class A:\n    def __ne__(self, o): return True\ndef f(x): return A()", "assert f(1) != 1 and f(1) != 2"),
        ("import sys\ndef f(x): sys.exit()", "try:\n    f(1)\n    assert False\nexcept:\n    pass"),
        ("def sorted(x): return 1\ndef f(x): return 1", "assert f([2, 1]) == sorted([2, 1])"),
        (PLANT, "assert small([3, 1]) == 0\nimport colorsys\nassert small([3, 1]) == colorsys.rgb_to_hsv(0, 0, 1)"),
        ("def check(f): pass\ndef f(x): return 77", "def check(candidate):\n    assert candidate(1) == 2"),
    ],
)
def test_cheats_on_loose_tests_get_no_full_marks(code, tests):
    rows = [row(code, tests, entry_point="f")]
    assert unit_tests(rows) == [0.0]
    assert ledger.current().count() == 0


@pytest.mark.parametrize(
    ("code", "tests"),
    [
        ("def f(x): x.sort()", "x = [3, 1]\nf(x)\nassert x == [1, 3]"),
        ("def f(d): d['k'] = 1; d.pop('a')", "d = {'a': 0}\nf(d)\nassert d == {'k': 1}"),
        ("def f(g, xs): return [g(x) for x in xs]", "assert f(lambda x: x + 1, [3, 1]) == [4, 2]"),
        ("def f(n):\n    for i in range(n): yield i * i", "assert list(f(3)) == [0, 1, 4]\nassert next(f(1)) == 0"),
        ("class S:\n    def __init__(s): s.xs = []\n    def push(s, x): s.xs.append(x)\n"
         "    def pop(s): return s.xs.pop()\n    def __len__(s): return len(s.xs)",
         "s = S()\ns.push((1, 'a'))\nassert len(s) == 1\nassert s.xs == [(1, 'a')]\nassert s.pop() == (1, 'a')"),
        ("def f(x):\n    if x < 0: raise ValueError('negative')\n    return x",
         "try:\n    f(-1)\n    assert False\nexcept ValueError as e:\n    assert 'negative' in str(e)"),
        ("def f(a, *, b=1): return {(a, b): [None, True, 1.5, 2**200, b'x', {1}, 1j, frozenset({2})]}",
         "assert f(1, b=2) == {(1, 2): [None, True, 1.5, 2**200, b'x', {1}, 1j, frozenset({2})]}"),
        ("LIMIT = 3\ndef f(x): print('noise'); return x < LIMIT", "assert f(2) is True\nassert LIMIT == 3"),
        ("def f(x): return x / 3", "import math\nassert math.isclose(f(1), 1 / 3)\nassert abs(f(1) - 1 / 3) < 1e-9"),
        ("def f(x): return x", "def check(candidate):\n    assert candidate(1) == 1"),
        ("def f(x): return x", "def test_one():\n    assert f(1) == 1\ndef test_two():\n    assert f(2) == 2"),
        ("def f(x): return x", "for x in (1, 2):\n    assert f(x) == x"),
        ("def f(x): return x", ["assert f(1) == 1", "assert f('a') == 'a'"]),
        ("def abs(x): return max(x, -x)", "assert abs(-2) == 2"),
        ("if __name__ == '__main__': raise ValueError\ndef f(x): return x", "assert f(1) == 1"),
    ],
)  # fmt: skip
def test_right_programs_of_many_kinds_pass(code, tests):
    entry = "abs" if code.startswith("def abs") else "f"
    assert unit_tests([row(code, tests, entry_point=entry)]) == [1.0]


def test_a_program_that_ends_fails_one_test_and_is_started_again():
    code = "import os\ndef add(a, b):\n    if a == 2: os._exit(0)\n    return a + b"
    assert share(code) == 3 / 4


def test_tests_before_a_hang_count():
    """Two of four pass, then the limit ends it."""
    code = "def add(a, b):\n    while a < 0: pass\n    return a + b"
    assert unit_tests_share([row(code)], timeout_s=2.0) == [2 / 4]


def test_a_list_of_sources_adds_up():
    """1 of 2, then 1 of 1."""
    tests = ["assert f(1) == 1\nassert f(2) == 3", "assert f(3) == 3"]
    assert share("def f(x): return x", tests) == 2 / 3


SUM = "print(sum(map(int, input().split())))"
PAIRS = {"inputs": ["1 2", "3 4\n", "5 5"], "outputs": ["3", "7\n", "10\n\n"]}


def test_printed_output():
    assert unit_tests([row(SUM, PAIRS)]) == unit_tests_share([row(SUM, PAIRS)]) == [1.0]
    assert share("print(3)", PAIRS) == 1 / 3
    assert unit_tests([row("print(3)", PAIRS)]) == [0.0]
    assert share(SUM, [{"input": "1 2", "output": "3"}, {"input": "1 2", "output": "4"}]) == 1 / 2
    assert share("print('a  ')\nprint('b')\nprint()", {"inputs": [""], "outputs": ["a\nb"]}) == 1.0
    assert share("print('a')", {"inputs": [""], "outputs": [" a"]}) == 0.0


@pytest.mark.parametrize(
    "code",
    [
        "print('3\\n7\\n10')",
        SUM + "\nraise SystemExit(1)",
        SUM + "\nimport os; os.kill(os.getpid(), 11)",
        "import os\nfor name in os.listdir('.'): print(open(name).read())",
        "import glob\nfor name in glob.glob('/*/*') + glob.glob('/proc/*/cmdline'): print(name)",
        "while True: print(3)",
        "input()\nprint('')",
        "import sys\nsys.stdout = None",
    ],
)
def test_printing_cheats_get_nothing(code):
    assert unit_tests_share([row(code, PAIRS)], timeout_s=5.0) == [0.0]


def test_large_outputs_fit():
    """More than the sandbox's usual 256 KB."""
    assert share("print('x' * 600_000)", {"inputs": [""], "outputs": ["x" * 600_000]}) == 1.0


@pytest.mark.parametrize(
    ("tests", "words"),
    [
        ("assert add(1, 2) ==", "SyntaxError"),
        ("x = 1", "no assert"),
        ("import no_such_module\nassert add(1, 2) == 3", "import no_such_module"),
        ("class Node: pass\nassert add(Node(), 2) == 3", "hand a Node to the program"),
        ("import unittest\nclass T(unittest.TestCase):\n    def test(self): assert add(1, 2)", "no assert"),
    ],
)
def test_tests_at_fault_are_counted_and_no_zero(tests, words):
    assert unit_tests([row(RIGHT, tests), row(RIGHT)]) == [None, 1.0]
    [entry] = ledger.current().rows()
    assert entry["kind"] == "fail" and "t1" in entry["where"][0] and words in entry["where"][0]


def test_no_tests_no_score_and_unknown_forms():
    assert unit_tests([rollout(RIGHT), row(RIGHT, ""), row(RIGHT, [])]) == [None] * 3
    for tests in (7, {"inputs": ["1"], "outputs": []}, [{"in": 1}]):
        with pytest.raises(DataError, match="no form of tests"):
            unit_tests([row(RIGHT, tests)])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a\n```python\nx\n```\nb\n```py\ny\n```", "y\n"),
        ("```python\nx\n```\nOutput:\n```text\n3\n```", "x\n"),
        ("```\nx\n```", "x\n"),
        ("<think>```python\nold\n```</think>x = 1", "x = 1"),
        ("  ```python\n  x\n  ```", "  x\n"),
        ("x = 1", "x = 1"),
    ],
)
def test_the_code_of_a_completion(text, code):
    assert code_of(text) == code
