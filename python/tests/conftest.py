from pathlib import Path

import pytest

import kvm_timeline

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


@pytest.fixture(scope="session")
def fixtures() -> Path:
    return FIXTURES


@pytest.fixture(scope="session")
def two_vm() -> kvm_timeline.Capture:
    return kvm_timeline.Capture(FIXTURES / "two-vm")
