"""The public surface: every exported name exists, and `import ptune` is light."""

import subprocess
import sys

import ptune


def test_exported_names_exist() -> None:
    assert all(getattr(ptune, name) is not None for name in ptune.__all__)
    assert set(ptune.__all__) <= set(dir(ptune))


def test_importing_ptune_loads_no_torch() -> None:
    heavy = "any(name in sys.modules for name in ('torch', 'transformers'))"
    code = f"import sys, ptune, ptune.template, ptune.data; sys.exit({heavy})"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_imports_no_module_that_windows_lacks() -> None:
    code = "import sys, ptune.recipe.fit as fit; sys.exit(hasattr(fit, 'resource'))"
    subprocess.run([sys.executable, "-c", code], check=True)
