"""Detect objects through TensorFlow Serving's gRPC interface.

pip install tensorflow-serving-api
python docs/serving/grpc_client.py localhost:8500 image.jpg ...
"""

import sys

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

# More than the usual 4 MB: masks of a batch are large.
LIMIT = [("grpc.max_receive_message_length", 2**28), ("grpc.max_send_message_length", 2**28)]


def main(address: str, paths: list[str]) -> None:
    content = [tf.io.read_file(path).numpy() for path in paths]
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "detector"
    request.model_spec.signature_name = "serving_default"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(content))
    # Only these come back; without the line, masks and keypoints do too.
    request.output_filter.extend(["num_detections", "pred_boxes", "pred_classes", "scores"])
    with grpc.insecure_channel(address, options=LIMIT) as channel:
        service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            response = service.Predict(request, timeout=60)
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")
    found = {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}
    for image, path in enumerate(paths):
        for index in range(found["num_detections"][image]):
            box = [round(float(number), 1) for number in found["pred_boxes"][image, index]]
            score = round(float(found["scores"][image, index]), 3)
            print(path, found["pred_classes"][image, index], score, box)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
