from __future__ import annotations

from typing import Any


def test_groups_fit_into_memory_and_labels_differ(bench: Any) -> None:
    table = bench("speed.case_table")
    for group in table.groups(list(table.CASES), [1, 2], ["float32", "bf16"]):
        assert len(group.variants) <= table.MOST_PROCESSES
        assert len({variant.label for variant in group.variants}) == len(group.variants)
        assert {variant.threads for variant in group.variants} == {group.threads}
