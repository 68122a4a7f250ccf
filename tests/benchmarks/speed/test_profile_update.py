"""The profile's parts."""

from types import SimpleNamespace
from typing import Any


def test_kernels_are_added_up_by_what_they_do(bench: Any) -> None:
    module = bench("speed.profile_update")
    kernels = {
        "aoti_torch_cpu_bmm_out": 3_000.0,
        "aoti_torch_cpu_addmm_out": 1_000.0,
        "graph_0_cpp_fused_add_addcmul_lerp_mul_sqrt_sub_10": 500.0,
        "graph_0_cpp_fused_relu_3": 100.0,
        "aten::copy_": 20.0,
        "aten::fill_": 4.0,
    }
    events = [SimpleNamespace(key=k, self_cpu_time_total=v) for k, v in kernels.items()]
    found = module.milliseconds(events, updates=2)
    assert list(found.values()) == [2.0, 0.25, 0.05, 0.01, 0.002]
