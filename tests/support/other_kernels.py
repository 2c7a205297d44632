"""The TF_ENABLE_ONEDNN_OPTS that is not this machine's: `make test` runs its short part with it.

TensorFlow uses oneDNN's kernels by itself where the processor has AVX512-VNNI, and its own
elsewhere; they differ in what they do with an empty batch, and in rounding.
"""

from __future__ import annotations

from tensorflow.python.util import _pywrap_util_port

print(0 if _pywrap_util_port.IsMklEnabled() else 1)
