"""Passwords: argon2id, and no way to tell an unknown account from a wrong password by the work done."""

import pytest

from hub.errors import InvalidRequest
from hub.rules.passwords import hash_password, verify_password


def test_a_password_is_found_again_and_another_is_not():
    stored = hash_password("correct horse")
    assert stored.startswith("$argon2id$")
    assert verify_password(stored, "correct horse")
    assert not verify_password(stored, "correct horsf")
    assert not verify_password(stored, "")


def test_the_same_password_is_never_kept_alike():
    assert hash_password("correct horse") != hash_password("correct horse")


def test_without_a_stored_one_the_answer_is_no():
    assert not verify_password(None, "nobody has this password")
    assert not verify_password("rubbish", "rubbish")


@pytest.mark.parametrize("password", ["", "1234567", "x" * 1_001])
def test_what_is_too_short_or_too_long_is_refused(password):
    with pytest.raises(InvalidRequest) as refused:
        hash_password(password)
    assert refused.value.param == "password"


def test_a_very_long_one_is_never_mistaken_for_its_beginning():
    stored = hash_password("x" * 1_000)
    assert verify_password(stored, "x" * 1_000)
    assert not verify_password(stored, "x" * 1_001)
