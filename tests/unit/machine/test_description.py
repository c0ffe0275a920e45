"""A processor's name tells kinds apart that are sold under one name."""

import pytest

from faceoff.machine.description import name_processor

EPYC = {"brand_raw": "AMD EPYC", "family": 25, "model": 17, "flags": ["sse2", "avx", "avx2", "avx512f"]}


@pytest.mark.parametrize(
    ("info", "text"),
    [
        (EPYC, "AMD EPYC (family 25, model 17, AVX-512)"),
        ({**EPYC, "model": 1, "flags": ["avx", "avx2"]}, "AMD EPYC (family 25, model 1, AVX2)"),
        ({"brand_raw": "Neoverse-V2", "flags": ["asimd", "sve"]}, "Neoverse-V2 (SVE)"),
        ({"brand_raw": "Some processor"}, "Some processor"),
    ],
)
def test_a_processor_is_told_with_its_kind_and_vectors(info, text):
    assert name_processor(info) == text
