"""Where a user's own modules are found, and the command that names them again."""

import sys
from pathlib import Path

import pytest

from own_methods import *  # noqa: F403
