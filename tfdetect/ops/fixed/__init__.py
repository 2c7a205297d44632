"""Forms of the operators in which every shape is known when the graph is traced.

XLA compiles nothing else, and LiteRT and ONNX do best with it. The ordinary forms look only at what
is there (candidates above the threshold, regions of a level, detections of an image), which is
faster where a graph is interpreted; these look at all that there could be, and give the same
results to float rounding. `Backend.fixed_shapes` chooses them.
"""
