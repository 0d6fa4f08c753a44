"""What is imported before it is needed: nothing."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dlref
from dlref.core.extras import EXTRAS

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "numpy", "lightning", "torchmetrics", "torchvision", "sklearn", "scipy", "matplotlib", "tensorboard",
         "sympy", "triton", "jinja2"}  # fmt: skip


def imported(code: str) -> set[str]:
    """The packages, and the modules of torch, that a new interpreter has imported after the code."""
    told = "; import sys; print('\\n', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code + told], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    names = done.stdout.splitlines()[-1].split()
    return {n.partition(".")[0] for n in names} | {n for n in names if n.startswith("torch.")}


@pytest.mark.parametrize("code", [
    "import dlref", "from dlref import cli; cli.main([])", "import dlref.verify.pytest_plugin", "import dlref.cli.common",
    *(f"import dlref.cli as cli\ntry: cli.main(['{command}', '--help'])\nexcept SystemExit: pass\npass"
      for command in ("list", "show", "compare", "check", "report", "experiment")),
])  # fmt: skip
def test_without_torch(code):
    assert not HEAVY & imported(code)


def test_everything_with_torch_alone():
    """What dlref's names need beyond torch is what torch imports itself."""
    torch = imported("import torch")
    found = imported("import dlref; [getattr(dlref, n) for n in dlref.__all__]; dlref.manual.nn.Linear; dlref.check")
    assert not (found - torch) & (
        HEAVY | {"expecttest", "torch._dynamo", "torch._inductor", "torch._functorch.aot_autograd"}
    )


WITHOUT = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "{package}":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Nothing())
"""


@pytest.mark.parametrize("package, use, extra", [
    ("lightning", "import dlref.lightning", "train"), ("lightning", "from dlref import cli; cli.main(['fit'])", "train"),
    ("sklearn", "import dlref.estimators", "sklearn"), ("sklearn", "import dlref; dlref.data.digits()", "sklearn"),
    ("torchvision", "import dlref; dlref.data.augmentation()", "train"),
    ("jinja2", "from dlref import cli; cli.main(['report', 'relu', '--epochs', '0', '--out', 'nowhere'])", "report"),
    ("matplotlib", "from dlref import cli; cli.main(['experiment', 'run', 'momentum', '--out', 'nowhere'])", "train"),
    ("matplotlib", "from dlref.bench.growth import draw_growth; draw_growth('x', [])", "train"),
], ids=lambda value: str(value)[:30])  # fmt: skip
def test_a_missing_package_names_its_extra(package, use, extra):
    done = subprocess.run([sys.executable, "-c", WITHOUT.format(package=package) + use], cwd=ROOT, capture_output=True,
                          text=True, timeout=120)  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert f'{package} must be installed for this, it is not: pip install "dlref[{extra}]"' in last
    assert not (ROOT / "nowhere").exists()  # it is told before anything is made
    if "cli" in use:
        assert done.returncode == 2 and "Traceback" not in done.stderr and last == done.stderr.strip()


def test_every_extra_is_known():
    """The packages of EXTRAS are those of pyproject.toml's extras, by the names that they are imported by."""
    text = (ROOT / "pyproject.toml").read_text()
    for package, extra in EXTRAS.items():
        distribution = {"sklearn": "scikit-learn"}.get(package, package)
        brought = {"yaml": "jsonargparse", "scipy": "scikit-learn"}.get(package, distribution)
        assert brought in re.search(rf"^{extra} = \[(.*?)\]$", text, re.DOTALL | re.MULTILINE)[1]


def test_names_are_the_functions_whatever_is_imported_first():
    """check, compare, convert and pairs are functions, although files are called like them."""
    for code in ("import dlref.verify.check, dlref.verify.compare_models, dlref.reuse.convert", "import dlref"):
        names = "check compare compare_models convert pairs".split()
        assert imported(
            f"{code}\nimport dlref\nassert all(type(getattr(dlref, n)).__name__ == 'function' for n in {names})\npass"
        )


def test_the_package_answers_as_if_all_were_imported():
    assert set(dlref.__all__) <= set(dir(dlref)) and {"data", "lightning", "models"} <= set(dir(dlref))
    assert all(getattr(dlref, name) is not None for name in dlref.__all__)
    assert pickle.loads(pickle.dumps(dlref.check)) is dlref.check
    with pytest.raises(AttributeError, match="'dlref' has no attribute 'nothing'"):
        _ = dlref.nothing
