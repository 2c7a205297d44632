"""Detect objects through TensorFlow Serving's REST interface; Python alone.

python docs/serving/rest_client.py http://localhost:8501/v1/models/detector image.jpg ...
"""

import base64
import json
import sys
import urllib.error
import urllib.request


def main(url: str, paths: list[str]) -> None:
    instances = []
    for path in paths:
        with open(path, "rb") as file:
            instances.append({"image_bytes": {"b64": base64.b64encode(file.read()).decode()}})
    body = {"signature_name": "serving_default", "instances": instances}
    try:
        with urllib.request.urlopen(f"{url}:predict", json.dumps(body).encode()) as response:
            predictions = json.load(response)["predictions"]
    except urllib.error.HTTPError as error:
        sys.exit(json.load(error)["error"])  # such as which of the images is damaged
    for path, found in zip(paths, predictions, strict=True):
        for index in range(found["num_detections"]):
            box = [round(number, 1) for number in found["pred_boxes"][index]]
            print(path, found["pred_classes"][index], round(found["scores"][index], 3), box)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
