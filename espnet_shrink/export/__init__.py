"""A compressed model for elsewhere: as a plain ESPnet model, as ONNX files, in 8 bits."""
