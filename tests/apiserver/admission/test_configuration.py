"""`--admission-control-config-file` (apiserver.config.k8s.io/v1 AdmissionConfiguration)."""

from pathlib import Path

import pytest

from minik8s.apiserver.admission.configuration import load

POD_SECURITY = """
apiVersion: pod-security.admission.config.k8s.io/v1
kind: PodSecurityConfiguration
defaults: {enforce: baseline, enforce-version: v1.30}
exemptions: {namespaces: [kube-system]}
"""


def written(tmp_path: Path, plugins: str, kind: str = "AdmissionConfiguration") -> Path:
    file = tmp_path / "admission.yaml"
    file.write_text(f"apiVersion: apiserver.config.k8s.io/v1\nkind: {kind}\nplugins:\n{plugins}")
    return file


def test_pod_security_may_stand_there_or_in_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "ps.yaml").write_text(POD_SECURITY)
    beside = load(written(tmp_path, "- {name: PodSecurity, path: ps.yaml}"))
    indented = POD_SECURITY.replace("\n", "\n    ")
    within = load(written(tmp_path, f"- name: PodSecurity\n  configuration:{indented}"))
    assert str(within.defaults.enforce) == "baseline:v1.30"
    assert within.namespaces == {"kube-system"}
    assert beside == within


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'ImagePolicyWebhook' takes no configuration"):
        load(written(tmp_path, "- {name: ImagePolicyWebhook, path: x}"))
    with pytest.raises(ValueError, match="holds no AdmissionConfiguration"):
        load(written(tmp_path, "- {name: PodSecurity}", "Other"))
