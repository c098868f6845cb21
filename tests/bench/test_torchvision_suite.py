"""A torchvision classifier trains on gray images, from a suite's file to records."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.tiny_suite import run_tiny, write_suite

MODEL = (
    'family = "torchvision:VisionTransformer", patch_size = 4, '
    "num_layers = 1, num_heads = 1, hidden_dim = 8, mlp_dim = 8"
)


def test_a_suite_with_a_classifier_of_torchvision_is_run_and_recorded(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, ('family = "mlp", depth = 1, width = 8', MODEL))
    records = run_tiny(
        suite, tmp_path / "run", schedulers=("cosine",), trials=1, tuning_seeds=1, report_seeds=1
    ).records
    assert [record.role for record in records] == ["tuning", "report"] * 2
    for record in records:
        assert record.lr_trace is not None
        assert record.lr_trace.layers == ("conv_proj", "encoder.layers.encoder_layer_0", "heads.head")
        assert "torchvision" in record.provenance.versions
