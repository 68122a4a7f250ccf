"""What the plain update refuses."""

from typing import Any

import pytest

from pex_lightning.algorithms import IQL
from pex_lightning.errors import UserError
from pex_lightning.updates.batch import Batch, Losses


class Misnamed(IQL):
    """Calls a term by another name than its group."""

    def losses(self, batch: Batch) -> Losses:
        terms, diagnostics = super().losses(batch)
        return Losses({"q": terms["q"], "v": terms["v"], "policy": terms["actor"]}, diagnostics)


@pytest.mark.parametrize("compiled", [False, True])
def test_terms_that_are_not_the_groups_are_refused(compiled: bool, toy: Any) -> None:
    if compiled:
        from pex_lightning.updates.compilation.compiler import has_compiler

        if not has_compiler():
            pytest.skip("needs a C++ compiler (g++)")
    module = Misnamed(hidden_dims=[8, 8], compile_update=compiled)
    with pytest.raises(UserError, match=r"terms q, v, policy, but .* groups actor, q, v"):
        toy.fit(module, 5)
