"""A trained model for programs that do not have this package: numpy, stock sentence-transformers modules, ONNX."""
