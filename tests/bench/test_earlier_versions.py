"""Files of earlier versions are read correctly, resumed, or refused with a one-line message."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path

import optuna
import pytest
import tomli_w
import torch

from ganno_bench.baselines.files import BaselineFile, BaselineFolder
from ganno_bench.bench.store import RunConfig
from ganno_bench.core.config import parse_config
from ganno_bench.core.errors import ConfigError, ResumeError, VersionError
from ganno_bench.core.records import parse_record, read_records, record_text
from ganno_bench.core.studies import study_of
from ganno_bench.core.versions import check_version, code_of_hash
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.tuning.study import open_storage
from tests.helpers.tiny_suite import Started, results, run_tiny

RUN = Path(__file__).parents[1] / "data" / "run-of-version-1"
"""A run of the tiny suite with `wsd` and a plugin, which was interrupted after five populations."""
TODAY = BaselineFolder().toml("cosine").read_text("utf-8")
VERSION_1 = TODAY.replace("schema_version = 2\n", "").replace('code = "revision 1"', 'code_hash = "a15f41e0afff2543"')


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """Return a copy of the run, made on a machine with the packages that are here."""
    folder = Path(shutil.copytree(RUN, tmp_path / "run"))
    config = tomllib.loads((folder / "config.toml").read_text("utf-8"))
    config |= {"torch": torch.__version__, "optuna": optuna.__version__}
    (folder / "config.toml").write_text(tomli_w.dumps(config), "utf-8")
    return folder


def test_records_of_version_1_get_an_identifier_of_the_code() -> None:
    lines = (RUN / "records.jsonl").read_text("utf-8").splitlines()
    records = read_records([RUN])
    assert {record.code for record in records if record.scheduler == "wsd"} == {"revision 1"}
    assert {record.code for record in records if record.scheduler == "mine"} == {"source 63e4842ac51eefcb"}
    for line, record in zip(lines, records, strict=True):
        before, now = json.loads(line), json.loads(record_text(record))
        assert (before.pop("schema_version"), now.pop("schema_version")) == (1, 3)
        assert (before.pop("code_hash"), now.pop("code")) in {
            ("32a9b59e71846eb8", "revision 1"), ("63e4842ac51eefcb", "source 63e4842ac51eefcb")
        }  # fmt: skip
        assert before == now
    assert study_of(record for record in records if record.scheduler == "wsd").code == "revision 1"  # type: ignore[union-attr]


def test_the_plugin_has_the_code_that_it_had() -> None:
    assert load_scheduler(f"{RUN}/mine.py:Mine").code == "source 63e4842ac51eefcb"


def test_a_run_of_version_1_resumes(old_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(old_run)
    before = (old_run / "records.jsonl").read_bytes()
    studies = optuna.get_all_study_names(open_storage(old_run / "studies.journal"))
    started = Started()
    run_tiny(Path("suite.toml"), old_run, started, schedulers=["wsd", "./mine.py:Mine"])
    assert len(started.jobs) == 12 - 5
    assert (old_run / "records.jsonl").read_bytes().startswith(before)
    assert {record["schema_version"] for record in results(old_run)} == {1, 3}
    assert len(read_records([old_run])) == 60
    # The resumed study is the one that was begun.
    assert set(studies) < set(now := optuna.get_all_study_names(open_storage(old_run / "studies.journal")))
    assert len(now) == 4


def test_one_whose_plugin_changed_is_refused(old_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(old_run)
    plugin = old_run / "mine.py"
    plugin.write_text(plugin.read_text("utf-8") + "# another line\n", "utf-8")
    with pytest.raises(
        ResumeError, match=r"'mine' has changed since \(source 63e4842ac51eefcb, now source [0-9a-f]{16}\)"
    ):
        run_tiny(Path("suite.toml"), old_run, schedulers=["wsd", "./mine.py:Mine"])


def test_a_baseline_of_version_1_is_todays() -> None:
    assert VERSION_1.count("code_hash") == 1
    assert parse_config(BaselineFile, tomllib.loads(VERSION_1), "f").text() == TODAY


@pytest.mark.parametrize("version", [0, 3, "2", True, 2.0])
def test_other_versions_are_refused(version: object) -> None:
    text = TODAY.replace("schema_version = 2", f"schema_version = {json.dumps(version)}")
    message = f"^f: key 'schema_version' is {version!r}; this version of ganno-bench reads 1 to 2"
    with pytest.raises(ConfigError, match=re.escape(message).replace(r"\^", "^")):
        parse_config(BaselineFile, tomllib.loads(text), "f")
    config = tomllib.loads((RUN / "config.toml").read_text("utf-8")) | {"schema_version": version}
    with pytest.raises(ConfigError, match=r"^f: key 'schema_version' is "):
        parse_config(RunConfig, config, "f")


def test_a_later_version_is_named() -> None:
    with pytest.raises(
        VersionError, match=r"^key 'format' is 2; this version of ganno-bench reads 1; a later version wrote"
    ):
        check_version(2, 1)
    check_version(1, 1)


def test_what_the_table_lacks_stays_a_hash_of_a_source() -> None:
    assert code_of_hash("a15f41e0afff2543") == "revision 1"
    assert code_of_hash("0123456789abcdef") == "source 0123456789abcdef"
    assert code_of_hash(3) == 3
    line = record_text(read_records([RUN])[0]).replace('"schema_version":3', '"schema_version":1')
    line = line.replace('"code":"revision 1"', '"code_hash":"0123456789abcdef"')
    assert parse_record(line, "f").code == "source 0123456789abcdef"
