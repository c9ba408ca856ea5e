"""The Dockerfile, the compose file, the systemd unit and the Kubernetes manifests, checked and run as far as that goes.

What an image holds cannot be built without a registry; the commands in it are run here as they stand.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("yaml")

import requests

from tests.deploy.kit import DEPLOY, checked, documents
from tests.support import service
from tests.support.documented import DEPLOYING, code_blocks
from tests.support.ports import free_port
from tests.support.served import SECONDS, running
from tests.support.tls import certificates
from tests.support.until import until

pytestmark = pytest.mark.deploy

MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
RESOURCES = [path for path in MANIFESTS if path.name != "kustomization.yaml"]
UNIT = DEPLOY / "systemd" / "repo-notify@.service"
YAML_STYLE = json.dumps(
    {
        "extends": "default",
        "rules": {"document-start": "disable", "line-length": {"max": 140}, "braces": {"max-spaces-inside": 0}},
    }
)


@contextmanager
def started(command: list[str], environ: Mapping[str, str], port: int) -> Iterator[subprocess.Popen[str]]:
    """Run the service; the block begins when it answers."""
    with running(command, environ) as process:
        until(lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None, f"{command} did not start"
        yield process


def _listens(port: int) -> bool:
    try:
        requests.get(f"http://127.0.0.1:{port}/notify/healthz", timeout=SECONDS)
    except requests.ConnectionError:
        return False
    return True


def settings_environment(mongo_uri: str, **environ: str) -> dict[str, str]:
    """The service's; `serve` without a configuration folder takes no REPO_NOTIFY_ENV."""
    found = service.service_environment(mongo_uri, **environ)
    return {key: value for key, value in found.items() if key != "REPO_NOTIFY_ENV"}


def instruction(name: str) -> list[str]:
    """Return the last `CMD`, or another instruction with a list, of the Dockerfile."""
    text = (DEPLOY / "Dockerfile").read_text()
    found: list[str] = json.loads(re.findall(rf"{name} [^\[]*(\[.*\])$", text.replace("\\\n", ""), re.MULTILINE)[-1])
    return found


def here(command: list[str], port: int, shown: str = "3000") -> list[str]:
    """The command with the programs of this environment, on our port."""
    program = {"repo-notify": [sys.executable, "-m", "repo_notify"], "python": [sys.executable]}[Path(command[0]).name]
    return [*program, *(word.replace(shown, str(port)) for word in command[1:])]


def test_yaml_files_are_clean() -> None:
    files = [path for pattern in ("*.yaml", "*.yml") for path in DEPLOY.rglob(pattern)]
    assert len(files) >= 8
    checked("yamllint", "--strict", "-d", YAML_STYLE, *files)


def test_the_dockerfile_is_clean() -> None:
    checked("hadolint", DEPLOY / "Dockerfile")


def test_the_image_holds_what_the_package_is_made_of() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    wanted = [line[1:] for line in lines if line.startswith("!")]
    assert all((DEPLOY.parent / name).exists() for name in wanted)
    # What setup.cfg reads.
    assert {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "repo_notify", "legacy_v4"} == set(wanted)


def test_the_images_command_serves_and_its_health_check_tells(sample: str) -> None:
    port = free_port()
    check = [*here(instruction("HEALTHCHECK"), port)]
    command = here(instruction("CMD"), port)
    assert subprocess.run(check, capture_output=True, check=False).returncode != 0
    with started(command, settings_environment(sample), port) as process:
        assert subprocess.run(check, check=False).returncode == 0
        process.terminate()
        assert process.wait(SECONDS) == 0


def test_the_compose_file_follows_its_schema() -> None:
    checked("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_the_compose_files_nginx_takes_the_documented_configuration(tmp_path: Path) -> None:
    """The container's own `sed`, then nginx with certificates where ours are."""
    services = documents(DEPLOY / "compose.yaml")[0]["services"]
    shell, option, line = services["nginx"]["command"]
    edit, _, start = line.partition("&&")
    assert start.strip() == "exec nginx -g 'daemon off;'"
    _, certificate = certificates(tmp_path)
    for name in ("fullchain.pem", "privkey.pem"):
        shutil.copy(certificate, tmp_path / name)
    site = tmp_path / "site.conf"
    ours = {" /chat.conf ": f" {DEPLOY}/nginx/chat.conf ", "/etc/nginx/conf.d/default.conf": str(site)}
    for theirs, own in ours.items():
        assert theirs in edit
        edit = edit.replace(theirs, own)
    subprocess.run([shell, option, edit], check=True)
    text = site.read_text()
    for name in ("chat-1", "chat-2"):
        address = services[name]["networks"]["default"]["ipv4_address"]
        assert f"server {address}:3000 max_fails=0;" in text
    assert "127.0.0.1" not in text
    site.write_text(
        text.replace("/certificates/", f"{tmp_path}/")
        .replace("listen 443 ssl;", f"listen 127.0.0.1:{free_port()} ssl;")
        .replace("/dev/stdout", f"{tmp_path}/out")
        .replace("/dev/stderr", f"{tmp_path}/err")
    )
    main = tmp_path / "nginx.conf"
    main.write_text(f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ include {site}; }}")
    checked("nginx", "-t", "-e", "stderr", "-p", tmp_path, "-c", main)


def test_the_documented_nginx_is_the_kits() -> None:
    assert code_blocks(DEPLOYING, "nginx") == [(DEPLOY / "nginx" / "chat.conf").read_text()]


def unit() -> dict[str, str]:
    """The settings of the systemd unit by name."""
    lines = UNIT.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text()
    program = tmp_path / "repo-notify"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    shown = "/opt/repo_notify/bin/repo-notify"
    assert text.count(shown) == 1
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace(shown, str(program)))
    folder = tmp_path / f"{UNIT.name}.d"
    folder.mkdir()
    mounted = UNIT.with_name("mounted.conf").read_text()
    (folder / "mounted.conf").write_text(mounted.replace("/opt/myapp/bin/python", str(program)))
    said = checked("systemd-analyze", "verify", "--man=no", tmp_path / "repo-notify@3001.service")
    assert "repo-notify" not in said
    checked("systemd-analyze", "security", "--offline=yes", "--threshold=25", copy)


def test_the_unit_starts_answers_and_ends_in_time(sample: str, tmp_path: Path) -> None:
    settings, port = unit(), free_port()
    command, ready = (
        shlex.split(settings[name].replace("%i", str(port))) for name in ("ExecStart", "ExecStartPost")
    )
    with running(here(command, port), settings_environment(sample)) as process:
        # What systemd does next, whether the service listens already or not.
        subprocess.run(ready, check=True, timeout=4 * SECONDS)
        assert requests.get(f"http://127.0.0.1:{port}/notify/healthz", timeout=SECONDS).status_code == 200
        process.terminate()
        assert process.wait(float(settings["TimeoutStopSec"])) == 0
    assert settings["KillMode"] == "mixed"
    assert int(settings["LimitNOFILE"]) >= 65_536


def test_the_units_settings_are_settings(sample: str) -> None:
    """With its one blank filled in, the example starts the service."""
    lines = (DEPLOY / "systemd" / "repo-notify.env").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert example.pop("SECRET_KEY") == ""
    port = free_port()
    environ = settings_environment(sample, **{**example, "REPO_NOTIFY_MONGO_URI": sample})
    command = [sys.executable, "-m", "repo_notify", "serve", "--port", str(port)]
    with started(command, environ, port):
        script = urllib.request.urlopen(f"http://127.0.0.1:{port}/config/config.js", timeout=SECONDS).read()
    assert example["REPO_NOTIFY_CHAT_HOST"].replace("/", "\\u002F") in script.decode()


@pytest.mark.parametrize("path", RESOURCES, ids=lambda path: path.stem)
def test_kubernetes_takes_the_manifests(path: Path) -> None:
    checked("kubernetes-validate", "--strict", path)


def pod() -> Any:
    return documents(DEPLOY / "kubernetes" / "deployment.yaml")[0]["spec"]["template"]["spec"]


def test_the_kustomization_names_every_manifest() -> None:
    kustomization = documents(DEPLOY / "kubernetes" / "kustomization.yaml")[0]
    assert sorted(kustomization["resources"]) == [path.name for path in RESOURCES]
    assert [image["name"] for image in kustomization["images"]] == [pod()["containers"][0]["image"]]


def test_the_probes_ask_what_the_image_answers(sample: str) -> None:
    container = pod()["containers"][0]
    (listens,) = container["ports"]
    assert str(listens["containerPort"]) == instruction("CMD")[-1]
    port = free_port()
    with started(here(instruction("CMD"), port), settings_environment(sample), port):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["port"] == listens["name"]
            found = requests.get(f"http://127.0.0.1:{port}{asked['path']}", timeout=SECONDS)
            assert found.status_code == 200, found.text


def test_a_pod_has_time_to_end() -> None:
    grace = pod()["terminationGracePeriodSeconds"]
    (_, pause) = pod()["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    # REPO_NOTIFY_SHUTDOWN_TIMEOUT's default.
    assert grace > int(pause) + 10


def test_the_labels_and_ports_of_the_manifests_fit() -> None:
    deployment, service, disruption, ingress = (
        documents(DEPLOY / "kubernetes" / f"{name}.yaml")[0]
        for name in ("deployment", "service", "disruption", "ingress")
    )
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    assert disruption["spec"]["selector"]["matchLabels"] == labels
    (port,) = service["spec"]["ports"]
    assert port["targetPort"] == pod()["containers"][0]["ports"][0]["name"]
    backends = [path["backend"]["service"] for path in ingress["spec"]["rules"][0]["http"]["paths"]]
    assert all(found == {"name": service["metadata"]["name"], "port": {"name": port["name"]}} for found in backends)
    # The service's own user, and two of them.
    assert f"USER {pod()['securityContext']['runAsUser']}:" in (DEPLOY / "Dockerfile").read_text()
    assert deployment["spec"]["replicas"] == 2
