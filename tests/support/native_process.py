"""What uses native operators in one process, one after the other: see test_native_together.py.

    python native_process.py IMAGE predictor=MODEL_DIR|library=FILE|servable=FOLDER ...

Prints for each whether it worked and how many detections there were, or its error.
"""

import os
import sys

import tensorflow as tf

image, *steps = sys.argv[1:]
with open(image, "rb") as file:
    content = file.read()
for step in steps:
    kind, _, path = step.partition("=")
    try:
        if kind == "library":
            tf.load_op_library(path)
            print("loaded")
        elif kind == "servable":
            library = os.path.join(path, "assets", "tfdetect_ops.so")
            tf.load_op_library(library)
            model = tf.saved_model.load(path)
            found = model.signatures["serving_default"](image_bytes=tf.constant([content]))
            print("found", int(found["num_detections"][0]))
        else:
            from tfdetect import Predictor
            from tfdetect.data.images import read_image

            print("found", len(Predictor(path)(read_image(image))))
    except Exception as error:
        print("error", str(error).splitlines()[0])
