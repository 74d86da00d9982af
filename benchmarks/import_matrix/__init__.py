"""Import of ONNX encoders as torch and Keras write them: ``python -m benchmarks.import_matrix``."""
