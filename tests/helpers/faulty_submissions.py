"""Faulty submissions: how to make each from a valid one, and the faults that checking it must report.

`...` stands for further faults that follow from the same mistake.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any

from tests.helpers.resealed import resealed, sealed_data
from tests.helpers.submission_cases import World, edit, edit_line

REPORT, VARIED = 0, 3
"""Lines of the records, from 0: the first report run, and the first varied one."""


def in_record(key: str, value: Any, index: int = REPORT) -> Callable[[World], None]:
    """Return a function that sets a key of a record."""

    def change(data: Any) -> None:
        *path, last = key.split(".")
        for part in path:
            data = data[part]
        data[int(last) if isinstance(data, list) else last] = value

    return lambda world: edit_line(world.mine / "records.jsonl", change, index)


def as_seed_1(line: str) -> str:
    """Return the first seed's report as the second seed's; that one has no learning rates."""
    data = json.loads(line) | {"seed": 1, "lr_trace": {"updates": [], "layers": [], "lr": []}}
    return sealed_data(data) + "\n" * line.endswith("\n")


def in_study(change: Callable[[dict[str, Any]], Any]) -> Callable[[World], None]:
    return lambda world: edit_line(world.mine / "studies.jsonl", change)


def in_toml(old: str, new: str) -> Callable[[World], None]:
    return lambda world: edit(world.mine / "submission.toml", old, new)


def in_lines(name: str, change: Callable[[list[str]], list[str]]) -> Callable[[World], None]:
    def mutate(world: World) -> None:
        file = world.mine / name
        file.write_text("".join(change(file.read_text().splitlines(keepends=True))))

    return mutate


def file(name: str, content: bytes) -> Callable[[World], None]:
    return lambda world: (world.mine / name).write_bytes(content) and None


def link(name: str, target: str) -> Callable[[World], None]:
    def mutate(world: World) -> None:
        (world.mine / name).unlink(missing_ok=True)
        (world.mine / name).symlink_to(target)

    return mutate


def cheaper_tuning(study: dict[str, Any]) -> None:
    study["trials"] = study["trials"][:2]


def better_loser(study: dict[str, Any]) -> None:
    worst = max(study["trials"], key=lambda trial: sum(trial["values"]))
    worst["values"] = [0.1, 0.1]


CASES: dict[str, tuple[Callable[[World], Any], list[str]]] = {
    # Seeds and budget.
    "a seed is missing": (
        in_lines("records.jsonl", lambda lines: lines[1:]),
        ["records.jsonl: adam-mlp, study 0: has records of seeds [1, 2], expected [0, 1, 2]",
         "submission.toml: key 'cost.updates': must be 66, as in the records (value: 72)"],
    ),
    "a seed is there twice": (
        in_lines("records.jsonl", lambda lines: [lines[0], *lines]),
        ["records.jsonl: adam-mlp, study 0: has records of seeds [0, 0, 1, 2], expected [0, 1, 2]",
         "submission.toml: key 'cost.updates': must be 78, as in the records (value: 72)"],
    ),
    "a seed was chosen": (
        in_record("seed", 17, index=1),
        ["records.jsonl: adam-mlp, study 0: has records of seeds [0, 2, 17], expected [0, 1, 2]"],
    ),
    "a workload is missing": (
        in_lines("records.jsonl", lambda lines: lines[7:]),
        ["records.jsonl: adam-mlp, study 0: has no records of seeds 0 to 2",
         "submission.toml: key 'cost.updates': must be 36, as in the records (value: 72)"],
    ),
    "a varied run is missing": (
        in_lines("records.jsonl", lambda lines: lines[:3] + lines[4:]),
        ["records.jsonl: adam-mlp, study 0: base_lr x 0.5: has records of seeds [1], expected [0, 1]",
         "submission.toml: key 'cost.updates': must be 66, as in the records (value: 72)"],
    ),
    "something else is varied": (
        in_record("multiple", 0.25, VARIED),
        ["records.jsonl:4: key 'multiple': the suite does not vary base_lr by this multiple (value: 0.25)"],
    ),
    "tuning runs are submitted": (
        in_record("role", "tuning"),
        ["records.jsonl:1: key 'role': tuning runs cannot be submitted; submit their studies (value: 'tuning')"],
    ),
    "a report run was a tuning run": (
        lambda world: (
            edit_line(world.mine / "records.jsonl", lambda r: (
                r["metrics"].update(val_loss=0.5), r["curve"]["val_loss"].__setitem__(-1, 0.5))),
            edit_line(world.mine / "studies.jsonl", lambda s: min(
                s["trials"], key=lambda t: sum(t["values"]))["values"].__setitem__(0, 0.5)),
        ),
        ["records.jsonl: adam-mlp, study 0: seed 0: key 'metrics.val_loss': equals that of a run of the best trial "
         "(value: 0.5)"],
    ),
    "a report run is there under two seeds": (
        in_lines("records.jsonl", lambda lines: [lines[0], as_seed_1(lines[0]), *lines[2:]]),
        ["records.jsonl: adam-mlp, study 0: seed 1: key 'metrics.val_loss': equals that of seed 0 (value: LOSS)"],
    ),
    "fewer trials": (
        in_study(cheaper_tuning),
        ["studies.jsonl: adam-mlp, study 0: has 2 trials, expected 3", ...],
    ),
    "fewer tuning seeds": (
        in_study(lambda s: s["trials"][1]["values"].pop()),
        ["studies.jsonl: adam-mlp, study 0: a trial has 1 tuning seeds, expected 2", ...],
    ),
    "less tuning is claimed": (
        in_record("cost.tuning_updates", 18),
        ["records.jsonl:1: key 'cost.tuning_updates': must be 36 (value: 18)"],
    ),
    "the winner did not win": (
        in_study(better_loser),
        ["records.jsonl: adam-mlp, study 0: seed 0: key 'trial': must be N, as in submission.toml and studies.jsonl "
         "(value: N)",
         ...],
    ),
    "no study": (
        file("studies.jsonl", b""),
        ["studies.jsonl: sgd-mlp, study 0: has 0 studies, expected 1",
         "studies.jsonl: adam-mlp, study 0: has 0 studies, expected 1",
         "submission.toml: key 'cost.tuning_updates': must be 0, as in the records (value: 72)"],
    ),
    # The search space.
    "a configuration outside of the space": (
        in_study(lambda s: s["trials"][1]["config"].update(warmup=0.9)),
        ["studies.jsonl:1: key 'trials[1].config.warmup': must be in the search space (value: 0.9)"],
    ),
    "a hyperparameter that is in no space": (
        in_study(lambda s: s["trials"][1]["config"].update(extra=1)),
        ["studies.jsonl:1: key 'trials[1].config.extra': is not in the search space"],
    ),
    "another first trial": (
        in_study(lambda s: s["trials"][0]["config"].update(warmup=0.2)),
        ["studies.jsonl:1: key 'trials[0].config': must be the default, which is tried first: {'base_lr': 0.001, "
         "'weight_decay': 0.0001, 'warmup': 0.1, 'kind': 'a'}"],
    ),
    "a wider base learning rate": (
        in_toml("high = 0.1\n", "high = 5.0\n"),
        ["submission.toml: key 'search_space.adam.base_lr': must be [1e-05, 0.1], logarithmic, default 0.001, as for "
         "every entry"],
    ),
    "a space without an inside": (
        in_toml("low = 0.01\nhigh = 0.5", "low = 0.6\nhigh = 0.5"),
        ["submission.toml: key 'search_space.adam.warmup': must have low <= high (low: 0.6, high: 0.5)",
         "submission.toml: key 'search_space': the scheduler's own hyperparameters must be the same for all "
         "optimizers", ...],
    ),
    # Another suite, other data, other code.
    "a custom run": (
        in_record("custom", True),
        ["records.jsonl: adam-mlp, study 0: seed 0: key 'custom': must be False, as in submission.toml and "
         "studies.jsonl (value: True)"],
    ),
    "an unknown suite": (
        in_toml('suite = "tiny"', 'suite = "tniy"'),
        ["submission.toml: key 'suite': must be 'tiny', as in the path of its folder (value: 'tniy')",
         "submission.toml: key 'suite': unknown suite 'tniy'; did you mean 'tiny'?"],
    ),
    "another version of the suite": (
        in_record("suite_hash", "0123456789abcdef"),
        ["records.jsonl:1: key 'suite_hash': must be tiny@HASH (value: 'tiny@0123456789abcdef')"],
    ),
    "an unknown workload": (
        in_record("workload", "sgd-mlq"),
        ["records.jsonl:1: key 'workload': must be a workload of suite 'tiny' (value: 'sgd-mlq')"],
    ),
    "data that differ from place to place": (
        in_record("workload", "local-mlp"),
        ["records.jsonl:1: key 'workload': runs on local data cannot be submitted; leave them out "
         "(value: 'local-mlp')"],
    ),
    "other data": (
        in_record("dataset_fingerprint", "ab"),
        ["records.jsonl:1: key 'dataset_fingerprint': must be 'FINGERPRINT', as in the committed reference "
         "(value: 'ab')"],
    ),
    "other code": (
        in_record("code", "ab"),
        ["records.jsonl: adam-mlp, study 0: seed 0: key 'code': must be 'CODE', as in submission.toml and "
         "studies.jsonl (value: 'ab')"],
    ),
    # Impossible values.
    "a lowered chance": (
        in_record("chance_loss", 0.01),
        ["records.jsonl:1: key 'chance_loss': must be 2.302585092994046 on this workload (value: 0.01)"],
    ),
    "a negative loss": (
        in_record("metrics.test_loss", -1.0),
        ["records.jsonl:1: key 'metrics.test_loss': must be at least 0 (value: -1.0)"],
    ),
    "an error above 1": (
        in_record("metrics.test_error", 1.5),
        ["records.jsonl:1: key 'metrics.test_error': must be in [0, 1] (value: 1.5)"],
    ),
    "a completed run without a loss": (
        in_record("metrics.test_loss", None),
        ["records.jsonl:1: key 'metrics.test_loss': must not be null, because the run completed"],
    ),
    "a diverged run with a loss": (
        in_record("status", "diverged"),
        ["records.jsonl:1: key 'metrics.test_loss': must be null, because the run diverged (value: LOSS)",
         "records.jsonl:1: key 'metrics.test_error': must be null, because the run diverged (value: LOSS)",
         "records.jsonl:1: key 'metrics.val_error': must be null, because the run diverged (value: LOSS)",
         "records.jsonl:1: key 'metrics.train_loss': must be null, because the run diverged (value: LOSS)",
         "records.jsonl:1: key 'diverged_at': must not be null, because the run diverged"],
    ),
    "more updates": (
        in_record("cost.updates", 60),
        ["records.jsonl:1: key 'cost.updates': must be 6, as for every entry (value: 60)"],
    ),
    "another curve": (
        in_record("curve.val_loss.5", 0.5),
        ["records.jsonl:1: key 'curve.val_loss': must end at LOSS, as in 'metrics' (value: 0.5)"],
    ),
    "a longer curve": (
        in_record("curve.updates.5", 7),
        ["records.jsonl:1: key 'curve.updates': must be [1, 2, 3, 4, 5, 6] (value: [1, 2, 3, 4, 5, 7])"],
    ),
    "learning rates": (
        in_record("lr_trace", {"updates": [0], "layers": ["a"], "lr": [[0.1]]}, 1),
        ["records.jsonl:2: is not compact: it has too many learning rates, a host, or more than six "
         "digits in its curve"],
    ),
    "learning rates of no layer": (
        in_record("lr_trace", {"updates": [0, 1], "layers": ["a"], "lr": [[0.1], [0.1, 0.2]]}),
        ["records.jsonl:1: key 'lr_trace.lr': must have shape (2, 1), updates by layers"],
    ),
    "learning rates of no update": (
        in_record("lr_trace", {"updates": [1, 0, 99], "layers": ["a"], "lr": [[0.1], [0.1], [-0.1]]}),
        ["records.jsonl:1: key 'lr_trace.updates': must increase within [0, 6) (value: [1, 0, 99])",
         "records.jsonl:1: key 'lr_trace.lr': must have learning rates of at least 0 (value: -0.1)"],
    ),
    "a trial worse than chance": (
        in_study(lambda s: s["trials"][1].update(values=[9.0, 9.0])),
        ["studies.jsonl: adam-mlp, study 0: key 'trials': must have losses of at most 2.302585092994046, "
         "the loss of chance (value: 9.0)"],
    ),
    # The form.
    "no file": (lambda world: (world.mine / "records.jsonl").unlink(), ["records.jsonl: is missing"]),
    "another file": (
        file("evil.py", b"import os"),
        ["evil.py: is not expected here; allowed: records.jsonl, studies.jsonl, submission.toml"],
    ),
    "a link": (link("records.jsonl", "/etc/passwd"), ["records.jsonl: is a symbolic link"]),
    "a pipe": (
        lambda world: ((world.mine / "studies.jsonl").unlink(), os.mkfifo(world.mine / "studies.jsonl")),
        ["studies.jsonl: is not a regular file"],
    ),
    "a folder": (
        lambda world: ((world.mine / "studies.jsonl").unlink(), (world.mine / "studies.jsonl").mkdir()),
        ["studies.jsonl: is not a regular file"],
    ),
    "too large": (
        file("submission.toml", b"#" * 70_000),
        ["submission.toml: must have at most 65536 bytes (value: 70000)"],
    ),
    "too large together": (
        lambda world: [(world.mine / f"{name}.jsonl").write_bytes(b" " * 4_000_000) for name in ("records", "studies")],
        [": all files together must have at most 6291456 bytes (value: TOTAL)"],
    ),
    "a huge line": (
        in_lines("records.jsonl", lambda lines: ['{"a":"' + "x" * 70_000 + '"}\n', *lines]),
        ["records.jsonl:1: must have at most 65536 characters (value: 70008)"],
    ),
    "millions of lines": (
        file("records.jsonl", b"\n" * 4_000_000),
        ["records.jsonl: must have at most 10000 lines (value: 4000000)"],
    ),
    "thousands of unknown keys": (
        in_lines("records.jsonl", lambda lines: [
            resealed(line.replace('"suite"', "".join(f'"k{i}":0,' for i in range(6000)) + '"suite"', 1))
            for line in lines]),
        ["records.jsonl:1: unknown key 'k0'; valid: chance_loss, code, config, cost, curve, custom, "
         "dataset_fingerprint, diverged_at, factor, lr_trace, metrics, multiple, open_optimizer, provenance, role, "
         "ruleset, scheduler, schema_version, seed, status, study, suite, suite_hash, task, trial, workload", ...],
    ),
    "a loss that was changed afterwards": (
        in_lines("records.jsonl", lambda lines: [lines[0].replace('"test_loss":', '"test_loss":1'), *lines[1:]]),
        ["records.jsonl:1: was changed after it was written: its checksum is 'HASH', its content has 'HASH'"],
    ),
    "a study that was changed afterwards": (
        in_lines("studies.jsonl", lambda lines: [lines[0].replace('"values":[', '"values":[1'), *lines[1:]]),
        ["studies.jsonl:1: was changed after it was written: its checksum is 'HASH', its content has 'HASH'"],
    ),
    "a checksum that was removed": (
        in_lines("records.jsonl", lambda lines: [lines[0].partition(',"checksum"')[0] + "}\n", *lines[1:]]),
        ["records.jsonl:1: key 'checksum': is missing at the end of the line"],
    ),
    "NaN": (
        in_lines("records.jsonl", lambda lines: [lines[0].replace('"test_loss":', '"test_loss":NaN,"x":'), *lines[1:]]),
        ["records.jsonl:1: must have finite numbers only (value: NaN)"],
    ),
    "an infinite number": (
        in_lines("records.jsonl", lambda lines: [lines[0].replace('"test_loss":', '"test_loss":1e999,"x":'), *lines]),
        ["records.jsonl:1: key 'metrics.test_loss': must be finite (value: inf)"],
    ),
    "a key twice": (
        in_lines("records.jsonl", lambda lines: [lines[0].replace('"seed":', '"seed":7,"seed":'), *lines[1:]]),
        ["records.jsonl:1: key 'seed' is given twice"],
    ),
    "a huge whole number": (
        in_lines("records.jsonl", lambda lines: [lines[0].replace('"seed":0', f'"seed":{"9" * 5000}'), *lines[1:]]),
        ["records.jsonl:1: must have integers of at most 16 characters (value: 99999999999999999999...)"],
    ),
    "deeply nested JSON": (
        in_lines("records.jsonl", lambda lines: ["[" * 30_000 + "]" * 30_000 + "\n", *lines]),
        ["records.jsonl:1: is nested too deeply"],
    ),
    "nested JSON": (
        in_record("config.base_lr", [[[[[[[[[[[[[1]]]]]]]]]]]]]),
        ["records.jsonl:1: is nested too deeply"],
    ),
    "no JSON": (
        in_lines("records.jsonl", lambda lines: ["!\n", *lines]),
        ["records.jsonl:1: is not valid JSON: Expecting value: line 1 column 1 (char 0)"],
    ),
    "a list": (
        in_lines("records.jsonl", lambda lines: ["[]\n", *lines]),
        ["records.jsonl:1: must be an object with keys and values (value: [])"],
    ),
    "an empty line": (
        in_lines("records.jsonl", lambda lines: ["\n", *lines]),
        ["records.jsonl:1: is not valid JSON: Expecting value: line 1 column 1 (char 0)"],
    ),
    "cut short": (
        in_lines("records.jsonl", lambda lines: [*lines[:-1], lines[-1][:-1]]),
        ["records.jsonl: must end with a line break"],
    ),
    "another encoding": (
        file("submission.toml", "name = 'é'".encode("latin-1")),
        ["submission.toml: is not UTF-8 at byte 8 (value: 0xe9)"],
    ),
    "no TOML": (
        in_toml("format = 2", "format = "),
        ["submission.toml: is not valid TOML: Invalid value (at line 3, column 10)"],
    ),
    "deeply nested TOML": (
        file("submission.toml", b"a = [\n" + b"[\n" * 15_000 + b"]\n" * 15_000 + b"]\n"),
        ["submission.toml: is nested too deeply"],
    ),
    "a bomb of dotted keys": (
        file("submission.toml", b".".join([b"a"] * 30_000) + b" = 1\n"),
        ["submission.toml: line 1 must have at most 4096 characters (value: 60003)"],
    ),
    "a smaller bomb": (
        file("submission.toml", (b".".join([b"a"] * 2000) + b" = 1\n") * 16),
        ["submission.toml: line 1 must have keys of at most 16 parts"],
    ),
    "a huge whole number in TOML": (
        in_toml("format = 2", f"format = 1{'0' * 4000}0000"),
        ["submission.toml: key 'format': must be an integer of at most 16 digits"],
    ),
    "a date": (
        in_toml('description = "It\'s mine."', "description = 2026-01-01"),
        ["submission.toml: key 'description': has the unsupported type date"],
    ),
    "an unknown key": (
        in_toml('author = ""', 'autor = "me"'),
        ["submission.toml: unknown key 'autor'; did you mean 'author'?"],
    ),
    "several things": (
        in_toml('author = ""\nurl = ""', 'author = 3\nurl = "file:///etc/passwd"'),
        ["submission.toml: key 'author': Input should be a valid string (value: 3)",
         "submission.toml: key 'url': URL (value: 'file:///etc/passwd')"],
    ),
    "an address that ends an attribute": (
        in_toml('url = ""', "url = 'https://example.org/\"onmouseover=\"alert(1)'"),
        ["submission.toml: key 'url': URL (value: 'https://example.org/\"onmouseover=\"alert(1)')"],
    ),
    "an address with a user": (
        in_toml('url = ""', 'url = "https://github.com@evil.org/"'),
        ["submission.toml: key 'url': URL (value: 'https://github.com@evil.org/')"],
    ),
    # Strings.
    "another name": (
        in_toml('name = "my-entry"', 'name = "your-entry"'),
        ["submission.toml: key 'name': must be 'my-entry', as in the path of its folder (value: 'your-entry')"],
    ),
    "a path for a name": (
        in_toml('name = "my-entry"', 'name = "../../evil"'),
        ["submission.toml: key 'name': SLUG (value: '../../evil')"],
    ),
    "an escape sequence": (
        in_toml("It's mine.", "\\u001b]0;pwned\\u0007"),
        ["submission.toml: key 'description': has the character U+001B, which cannot be printed"],
    ),
    "a bidi override": (
        in_toml("It's mine.", "\u202eenim s'tI"),
        ["submission.toml: key 'description': has the character U+202E, which cannot be printed"],
    ),
    "an escape sequence in a record's key": (
        in_record("config.\x1b[2J", 1.0),
        ["records.jsonl:1: key 'config.\\x1b[2J': has the character U+001B, which cannot be printed"],
    ),
    "half a character": (
        in_record("scheduler", "\ud800"),
        ["records.jsonl:1: key 'scheduler': has the character U+D800, which cannot be printed"],
    ),
    "a long string": (
        in_toml("It's mine.", "x" * 2000),
        ["submission.toml: key 'description': must have at most 1000 characters (value: 2000)"],
    ),
    "markup": (
        in_toml('author = ""', f'author = "[red]{"x" * 100}"'),
        [f"submission.toml: key 'author': String should have at most 100 characters (value: '[red]{'x' * 100}')"],
    ),
    # Values of submission.toml.
    "less is claimed": (
        in_toml("wall_seconds = ", "wall_seconds = 0.0#"),
        ["submission.toml: key 'cost.wall_seconds': must be at least SECONDS, the sum of the records "
         "(value: 0.0)"],
    ),
    "other versions": (
        lambda world: (world.mine / "submission.toml").write_text(re.sub(
            r'\[versions\][^\[]*', "[versions]\n\n", (world.mine / "submission.toml").read_text())),
        ["submission.toml: key 'versions': must be VERSIONS, as in the records (value: {})"],
    ),
    "a baseline's name": (
        lambda world: (in_toml('name = "my-entry"', 'name = "cosine"')(world),
                       world.mine.rename(world.mine.with_name("cosine"))),
        ["submissions/tiny/cosine/submission.toml: key 'name': a committed baseline of the suite has this name; "
         "choose another (value: 'cosine')"],
    ),
    "a card without a policy": (
        in_toml("[cost]", '[policy]\nname = "x"\nobservation = ["progress"]\n\n[cost]'),
        ["submission.toml: key 'policy': the entry is not a policy; remove the card"],
    ),
    "a study of a zero-shot entry": (
        lambda world: (world.frozen / "studies.jsonl").write_bytes((world.mine / "studies.jsonl").read_bytes()),
        ["frozen/studies.jsonl: a zero-shot entry is not tuned; remove this file", ...],
    ),
    "a zero-shot entry with a learning rate of its own": (
        lambda world: [edit_line(world.frozen / "records.jsonl", lambda r: r["config"].update(base_lr=0.5), i)
                       for i in range(3)],
        ["frozen/records.jsonl: adam-mlp, study 0: seed 0: key 'config': must be {'base_lr': 0.001, "
         "'weight_decay': 0.0001}, as in submission.toml and the rules for zero-shot entries (value: {'base_lr': 0.5, "
         "'weight_decay': 0.0001})",
         ...],
    ),
    # Files that are not submissions.
    "a file in the place of a submission": (
        lambda world: (world.mine.parent / "stray.txt").write_text("?"),
        ["submissions/tiny/stray.txt: is not a folder"],
    ),
    "a link in the place of a submission": (
        lambda world: (world.mine.parent / "linked").symlink_to(world.mine),
        ["submissions/tiny/linked: is a symbolic link"],
    ),
    "a folder whose name moves the cursor": (
        lambda world: (world.mine.parent / "a\x1b[2Jb").write_text("?"),
        ["submissions/tiny/a\\x1b[2Jb: is not a folder"],
    ),
}  # fmt: skip
