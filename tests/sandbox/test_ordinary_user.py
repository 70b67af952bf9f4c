"""The attacks again as a user without privileges, and as root of a plain container. Only root can become those."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ORDINARY = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups")
CONTAINER_ROOT = ("setpriv", "--bounding-set=-sys_admin")  # root that may not make namespaces, as in a plain container


def readable_python() -> str | None:
    """An interpreter of this version that any user may start; root's own often lies in root's home."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for place in (shutil.which(name, path="/usr/local/bin:/usr/bin"), sys.executable):
        if place and subprocess.run([*ORDINARY, place, "-c", "1"], capture_output=True).returncode == 0:
            return place
    return None


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become another user")
@pytest.mark.parametrize(
    ("become", "mode"), [(ORDINARY, "namespaces"), (ORDINARY, "filters"), (CONTAINER_ROOT, "filters")]
)
def test_the_attacks_as_another_user(become, mode):
    python = readable_python()
    if python is None:
        pytest.skip("another user can start no interpreter of this version")
    packages = os.path.dirname(os.path.dirname(pytest.__file__))
    for place in (ROOT / "tests", packages):
        if subprocess.run([*ORDINARY, "test", "-r", str(place), "-a", "-x", str(place)]).returncode:
            pytest.skip(f"another user cannot read {place}")
    files = [
        str(Path(__file__).with_name(name))
        for name in ("test_attacks.py", "test_attacks_unnamed.py", "test_network.py")
    ]
    options = ["--noconftest", "-p", "no:cacheprovider", "-p", "no:warnings", "-k", mode, "-rs"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}{os.pathsep}{packages}"}
    command = [*become, python, "-B", "-m", "pytest", *files, *options]
    with tempfile.TemporaryDirectory() as place:  # its own, since other tests leave boxes in /tmp while they run
        os.chmod(place, 0o1777)
        own = {**environment, "TMPDIR": place}
        done = subprocess.run(command, env=own, cwd=ROOT, capture_output=True, text=True, timeout=500)
    if re.search(r"SKIPPED.*no cage by", done.stdout):
        pytest.skip(done.stdout[-500:])
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0 and passed and int(passed[1]) >= 32, done.stdout[-4000:] + done.stderr[-2000:]
