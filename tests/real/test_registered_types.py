"""A type of one's own, registered on both sides."""

from __future__ import annotations

from fractions import Fraction

import pytest

import mob
from tests.patience import patient
from tests.running import Apps


def test_a_registered_type_goes_there_and_back_and_an_unknown_one_is_named(apps: Apps) -> None:
    app = apps.start(
        '.role("back", "./back.py").role("strange", "./strange.py")',
        back="""
        from fractions import Fraction
        import mob

        mob.register(Fraction, str, Fraction)

        def half(x):
            assert type(x) is Fraction
            return x / 2
        """,
        strange="def half(x): return x / 2",
    )
    mob.register(Fraction, str, Fraction)
    client = app.wait_ready()
    assert client.require("back").half(Fraction(1, 3)).result(patient(20)) == Fraction(1, 6)
    with pytest.raises(mob.CallError, match="fractions:Fraction") as caught:
        client.require("strange").half(Fraction(1, 3)).result(patient(20))
    assert caught.value.executed == "no"
