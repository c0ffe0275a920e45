"""TensorFlow: Keras layers, run operation by operation, as a graph, or compiled by XLA."""

import os

# Keras chooses its backend once, while it is imported.
os.environ["KERAS_BACKEND"] = "tensorflow"

from . import gpu_libraries

if os.environ.get("CUDA_VISIBLE_DEVICES") != "":
    gpu_libraries.load_missing()

from .runtime import TensorFlowRuntime

RUNTIME = TensorFlowRuntime()
