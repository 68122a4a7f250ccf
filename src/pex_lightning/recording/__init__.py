"""Recording of datasets by this package.

Worker processes import these modules, which therefore must not import torch.
"""
