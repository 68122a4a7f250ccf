"""Recording of the datasets that the package makes itself.

Worker processes import these modules, so they must not import torch.
"""
