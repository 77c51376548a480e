"""These tests need a CUDA device. Without one they are not collected: there is nothing that they could judge."""

from __future__ import annotations

import torch

collect_ignore_glob = [] if torch.cuda.is_available() else ["test_*.py"]
