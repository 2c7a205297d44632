"""The gradients of the native operators."""

from __future__ import annotations
