"""Annotation files with one wrong value, and what their readers say of it."""

from __future__ import annotations

import copy

import pytest

from tfdetect.errors import InputError


def replaced(root, where, value):
    """A copy of what a JSON file holds, with `value` at the path of keys and indices `where`."""
    root = copy.deepcopy(root)
    parent = root
    for key in where[:-1]:
        parent = parent[key]
    parent[where[-1]] = value
    return root


def check_rejected(read, path, message):
    """Reading `path` must end in one line that names the file and matches `message`."""
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
