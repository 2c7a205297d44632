"""Variants of the operators with static shapes.

XLA requires them, and LiteRT and ONNX work best with them. The ordinary implementations process
only the actual elements (candidates above the threshold, boxes of a level, detections of an image),
which is faster when a graph is interpreted. These process the maximum number and give the same
results up to float rounding. `Backend.fixed_shapes` chooses them.
"""
