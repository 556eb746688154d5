"""`lockedroom verify` of a bandit and of a frontier."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from lockedroom.cli.main import main
from lockedroom.results.microscope.folder import MicroscopeManifest
from lockedroom.results.plain_folder import read_plain_manifest, seal
from lockedroom.safeguards import manifest as manifests


def _forge(run: Path, name: str, old: bytes, new: bytes) -> None:
    manifest = read_plain_manifest(run, MicroscopeManifest, "a run")
    content = (run / name).read_bytes()
    assert old in content
    (run / name).write_bytes(content.replace(old, new, 1))
    seal(run, msgspec.structs.replace(manifest, files={**manifest.files, name: manifests.measure_file(run / name)}))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("microscope")
    assert main(["bandit", "--steps", "20", "--sabotage", "sign", "--out", str(folder / "bandit")]) == 0
    assert main(["frontier", "--steps", "10", "--betas", "1,0.5", "--out", str(folder / "frontier")]) == 0
    return folder


@pytest.mark.parametrize("kind", ["bandit", "frontier"])
def test_an_untouched_folder_holds(runs: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(runs / kind)]) == 0
    assert "verified" in capsys.readouterr().out


def test_a_changed_file_is_named(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = runs / "bandit" / "steps.jsonl"
    kept = path.read_bytes()
    path.write_bytes(kept + b"\n")
    assert main(["verify", str(runs / "bandit")]) == 4
    assert "steps.jsonl" in capsys.readouterr().err
    path.write_bytes(kept)


def test_a_finding_that_was_taken_out_is_missed(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json
    import shutil

    run = tmp_path / "run"
    shutil.copytree(runs / "bandit", run)
    found = json.loads((run / "summary.json").read_bytes())["findings"]
    _forge(run, "summary.json", json.dumps(found[0], ensure_ascii=False).encode(), b'"all is well"')
    assert main(["verify", str(run)]) == 4
    assert "findings do not follow" in capsys.readouterr().err


def test_a_policy_that_is_not_where_the_table_says_is_found(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(runs / "frontier", run)
    other = (run / "policy-beta-0.5.safetensors").read_bytes()
    _forge(run, "policy-beta-1.safetensors", (run / "policy-beta-1.safetensors").read_bytes(), other)
    assert main(["verify", str(run)]) == 4
    assert "β = 1" in capsys.readouterr().err
