"""A client that knows TensorFlow and nothing else.

    python tensorflow_client.py SAVED_MODEL SIGNATURE ARRAYS.npz IMAGE...

It sends the images in one batch and writes what comes back.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

saved_model, signature, output, *images = sys.argv[1:]
model = tf.saved_model.load(saved_model)
contents = tf.constant([Path(image).read_bytes() for image in images])
found = model.signatures[signature](image_bytes=contents)
np.savez(output, **{name: value.numpy() for name, value in found.items()})
assert not any(name.startswith("tfdetect") for name in sys.modules)
