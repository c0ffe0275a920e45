"""Face-off: do PyTorch, TensorFlow/Keras and JAX compute the same models, and which is faster here, how surely?"""
