"""The SAM template and the Terraform module, held to AWS's own schemas, and to what the app asks for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
TEMPLATE = EXAMPLES / "template.yaml"
MODULE = EXAMPLES / "terraform"
# Where machines without a network keep Terraform's providers.
MIRRORS = [os.environ.get("TF_PLUGIN_MIRROR", ""), "/opt/tf-plugins"]


@pytest.mark.slow
def test_the_sam_template_is_valid():
    """Transformed as SAM does it, the template has no problem that AWS's schemas and cfn-lint's rules know of."""
    pytest.importorskip("cfnlint")
    # By its code, because cfn-lint's own warnings about other libraries are none of ours.
    program = "import sys; from cfnlint.runner import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", program, str(TEMPLATE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_terraform_module_is_valid(tmp_path: Path):
    """The module is valid for AWS's provider, and formatted."""
    terraform = shutil.which("terraform")
    if terraform is None:
        pytest.skip("terraform is not installed")
    folder = tmp_path / "module"
    shutil.copytree(MODULE, folder)
    env = {**os.environ, "TF_CLI_CONFIG_FILE": os.devnull, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
    mirror = next((path for path in MIRRORS if path and Path(path).is_dir()), None)
    init = [terraform, "init", "-backend=false", "-input=false", *([f"-plugin-dir={mirror}"] if mirror else [])]
    started = subprocess.run(init, cwd=folder, env=env, capture_output=True, text=True)
    if started.returncode:
        pytest.skip(f"AWS's provider for terraform can't be had here: {started.stderr[-300:]}")
    checked = subprocess.run([terraform, "validate", "-json"], cwd=folder, env=env, capture_output=True, text=True)
    assert json.loads(checked.stdout)["valid"], checked.stdout
    formatted = subprocess.run(
        [terraform, "fmt", "-check", "-diff"], cwd=folder, env=env, capture_output=True, text=True
    )
    assert formatted.returncode == 0, formatted.stdout


@pytest.mark.parametrize("path", [TEMPLATE, MODULE / "main.tf"], ids=["sam", "terraform"])
def test_a_template_gives_the_app_what_it_asks_for(path: Path):
    """Each variable that the example reads is set, its handler is named, and nothing that fails is repeated in vain."""
    text = path.read_text()
    app = (EXAMPLES / "app.py").read_text()
    for name in ("DATABASE_URL", "WORKFLOW_TOKEN", "WAKER_ROLE_ARN"):
        assert name in app and name in text
    assert "app.handler" in text and "ReportBatchItemFailures" in text
    assert "schedule/default/workflow-*" in text  # what EventBridgeWaker calls its schedules


def test_the_queue_waits_longer_than_the_function():
    """A message is hidden for six times as long as the function may take, so that no one gets it twice meanwhile."""
    yaml: Any = pytest.importorskip("yaml")

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, suffix, node: suffix)
    resources = yaml.load(TEMPLATE.read_text(), Loader)["Resources"]
    timeout = resources["Function"]["Properties"]["Timeout"]
    assert resources["Queue"]["Properties"]["VisibilityTimeout"] >= 6 * timeout
    assert "6 * var.timeout" in (MODULE / "main.tf").read_text()
